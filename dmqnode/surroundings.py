"""What the broker knows of its clients and of the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import LEADS, Hello
from dmqnode.queue import Queue


@dataclass(slots=True)
class Session:
    """What the broker knows of one connection."""

    id: int
    client: str
    user: str
    waiting: dict[int, Queue] = field(default_factory=dict)
    """The queue that each receive under way waits for."""
    told: dict[PartitionId, tuple[NodeId, float]] | None = None
    """Whom the client was told to lead each partition, and when; None: it does not want to know."""

    @classmethod
    def of(cls, number: int, hello: Hello) -> Session:
        """Return what is to be known of a connection at first."""
        told: dict[PartitionId, tuple[NodeId, float]] | None = {} if LEADS in hello.capabilities else None
        return cls(number, hello.client[:200], hello.user[:200], told=told)


def _unknown(node: NodeId) -> str | None:
    return None


def _silent(message: str, fields: dict[str, object]) -> None:
    pass


@dataclass(slots=True)
class Surroundings:
    """What the shell measures and the broker decides by."""

    memory: int = 0
    free_disk: int = 1 << 62
    store_bytes: int = 0
    set_aside: int = 0
    """Damaged records that the store keeps, ever."""
    unmended: int = 0
    """Those of them that nothing has made good yet."""
    connections: int = 0
    address: str = ""
    pid: int = 0
    cluster: bytes = b""
    """The cluster's id."""
    cluster_key: bytes = b""
    """What members prove to one another that they know."""
    releases: Callable[[], dict[NodeId, str]] = dict
    """Returns which release each linked member runs."""
    gossip: Callable[[NodeId], str | None] = _unknown
    """Returns what gossip says of a member: alive, suspect or dead; None if it knows nothing of it."""
    report: Callable[[str, dict[str, object]], None] = _silent
    """Logs an event: a sentence without variables, and what varies."""
    left: bool = False
    """The node is no member any more."""
    notices: list[str] = field(default_factory=list)
