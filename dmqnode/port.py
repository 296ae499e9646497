"""What the cluster's cores ask of the node that they are part of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from dmqnode.clock import Now
from dmqnode.ids import NodeId
from dmqnode.messages import Message
from dmqnode.reads import Procedure
from storage.ops import WriteBatch

T = TypeVar("T")
Then = Callable[[Now], None]


class Port(Protocol):
    """Sends, writes and reads for a core; nothing here waits."""

    def send(self, node: NodeId, message: Message) -> None:
        """Send `message` to a node, this one included; it may be lost, and what is sent stays in order."""

    def write(self, ops: WriteBatch, then: Then, *, sync: bool = True) -> None:
        """Write `ops` with the next write group; call `then` once they are on disk."""

    def boundary(
        self,
        ranges: tuple[tuple[bytes, bytes], ...],
        then: Callable[[Now, dict[bytes, bytes]], None],
        mark: Callable[[], None] = lambda: None,
    ) -> None:
        """Read ranges as they are right behind the next write group; then call `then` with key -> value.

        Arguments:
            mark: called when that write group is complete, before anything joins the one after it.
        """

    def read(self, now: Now, procedure: Procedure[T], then: Callable[[Now, T], None]) -> None:
        """Run a procedure of reads."""
