"""How one node is set up: one frozen value, read once, passed down."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from dmqnode.addresses import check_host
from dmqnode.errors import UsageError

MIB = 1 << 20
LIGHTEST, HEAVIEST = 0.01, 100.0
"""The least and the greatest weight that a node may be given; 0 is that of one that is about to leave."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}")
_WHOLE = (
    "replicas",
    "write_quorum",
    "memory_limit",
    "disk_reserve",
    "max_connections",
    "max_frame",
    "credit",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Settings of one node.  Durations in seconds, sizes in bytes."""

    data: Path
    """Directory of everything that this node keeps; made where it is missing."""
    listen: str = "127.0.0.1:7367"
    """HOST:PORT to serve; port 0 takes a free one."""
    advertise: str = ""
    """HOST:PORT where other nodes reach this one, if that is not `listen`."""
    join: tuple[str, ...] = ()
    """Addresses of nodes to join."""
    name: str = ""
    """Shown to operators; the host's name where empty."""
    zone: str = ""
    """Where the node stands; copies are spread over zones."""
    weight: float = 1.0
    """How many partitions the node takes, relative to the others."""
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
    disk_reserve: int = 256 * MIB
    """Free disk space below which sends are refused; acks and the store's own upkeep may use it."""
    max_connections: int = 10_000
    """One more is told so and closed."""
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
        for setting in _WHOLE:
            value = getattr(self, setting)
            _check(type(value) is int, f"{setting} is {value!r}; it must be a whole number")
        for setting in ("dead_after", "keepalive"):
            value = getattr(self, setting)
            known = type(value) in (int, float) and math.isfinite(value)
            _check(known, f"{setting} is {value!r}; it must be a number of seconds")
        known = type(self.weight) in (int, float) and LIGHTEST <= self.weight <= HEAVIEST
        _check(known, f"weight is {self.weight!r}; it must be within {LIGHTEST:g} and {HEAVIEST:g}")
        for setting in ("name", "zone", "cluster"):
            _check_name(setting, getattr(self, setting), empty=setting != "cluster")
        _check(1 <= self.replicas <= 7, f"replicas is {self.replicas}; it must be within 1 and 7")
        _check(
            1 <= self.write_quorum <= self.replicas,
            f"write_quorum is {self.write_quorum}; it must be within 1 and replicas, {self.replicas}",
        )
        _check(self.dead_after >= 10, f"dead_after is {self.dead_after:g} s; it must be at least 10 s")
        _check(self.memory_limit >= 64 * MIB, "memory_limit must be at least 64MiB")
        _check(self.disk_reserve >= 0, "disk_reserve must be at least 0")
        _check(64 * 1024 <= self.max_frame <= 1024 * MIB, "max_frame must be within 64KiB and 1024MiB")
        _check(64 * 1024 <= self.credit <= 1024 * MIB, "credit must be within 64KiB and 1024MiB")
        _check(self.keepalive > 0, "keepalive must be longer than 0 s")
        _check(self.max_connections >= 1, "max_connections must be at least 1")
        _check(self.log_format in ("text", "json"), f"log_format is {self.log_format!r}; it is text or json")
        for address in (self.listen, *self.join, *([self.advertise] if self.advertise else [])):
            host_port(address)
        for address in (*self.join, *([self.advertise] if self.advertise else [])):
            _check(host_port(address)[1] > 0, f"nobody can be reached at {address!r}; port 0 is no port")


def host_port(address: str) -> tuple[str, int]:
    """Split HOST:PORT ([…]:PORT for IPv6).

    Errors: UsageError.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    _check(
        bool(colon and host and host.isprintable() and " " not in host)
        and port.isascii()
        and port.isdecimal()
        and len(port) <= 5
        and int(port) < 65536,
        f"{address!r} is not HOST:PORT; write for example 127.0.0.1:7367",
    )
    check_host(host)
    return host, int(port)


def _check_name(setting: str, name: str, *, empty: bool) -> None:
    _check(
        type(name) is str and (bool(_NAME.fullmatch(name)) or (empty and not name)),
        f"{setting} is {name!r}; use 1 to 63 letters, digits, '_', '-', '.' and ':', "
        "beginning with a letter, a digit or '_'",
    )


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise UsageError(sentence)
