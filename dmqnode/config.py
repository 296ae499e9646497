"""How one node is set up: one frozen value, read once, passed down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dmqnode.errors import UsageError

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Settings of one node.  Durations in seconds, sizes in bytes."""

    data: Path
    """Directory of everything that this node keeps; made where it is missing."""
    listen: str = "127.0.0.1:7367"
    """HOST:PORT to serve; port 0 takes a free one."""
    join: tuple[str, ...] = ()
    """Addresses of nodes to join."""
    name: str = ""
    """Shown to operators; the host's name where empty."""
    zone: str = ""
    """Where the node stands; copies are spread over zones."""
    cluster: str = "dmq"
    """The cluster's name."""
    replicas: int = 3
    """R: how many nodes a partition belongs on."""
    write_quorum: int = 2
    """W: copies on disk before a send is answered.  Higher loses less, waits longer."""
    dead_after: float = 600.0
    """After how long an absent member is replaced."""
    memory_limit: int = 512 * MIB
    """Above this much resident memory sends are refused; receive and ack go on."""
    disk_reserve: int = 64 * MIB
    """Free disk space below which sends are refused; acks may use it."""
    max_connections: int = 10_000
    """Further connections wait until one ends."""
    max_frame: int = 16 * MIB
    """The longest request; a longer one ends its connection."""
    credit: int = 4 * MIB
    """Bytes of unanswered requests that one connection may have under way."""
    keepalive: float = 30.0
    """A connection silent for three times this long is closed."""
    log_format: str = "text"
    """text, or json: one object per line."""
    tokens: Path | None = None
    """File of lines `name:token`; where given, clients must show one of them."""

    def __post_init__(self) -> None:
        _check(1 <= self.replicas <= 7, f"replicas is {self.replicas}; it must be within 1 and 7")
        _check(
            1 <= self.write_quorum <= self.replicas,
            f"write_quorum is {self.write_quorum}; it must be within 1 and replicas, {self.replicas}",
        )
        _check(self.dead_after >= 10, f"dead_after is {self.dead_after:g} s; it must be at least 10 s")
        _check(self.memory_limit >= 64 * MIB, "memory_limit must be at least 64MiB")
        _check(self.max_frame >= 64 * 1024, "max_frame must be at least 64KiB")
        _check(self.credit >= 64 * 1024, "credit must be at least 64KiB")
        _check(self.keepalive > 0, "keepalive must be longer than 0 s")
        _check(self.max_connections >= 1, "max_connections must be at least 1")
        _check(self.log_format in ("text", "json"), f"log_format is {self.log_format!r}; it is text or json")
        host_port(self.listen)


def host_port(address: str) -> tuple[str, int]:
    """Split HOST:PORT ([…]:PORT for IPv6).

    Errors: UsageError.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    _check(
        bool(colon) and bool(host) and port.isdecimal() and int(port) < 65536,
        f"{address!r} is not HOST:PORT; write for example 127.0.0.1:7367",
    )
    return host, int(port)


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise UsageError(sentence)
