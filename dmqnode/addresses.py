"""Where the nodes are: which of them a client dials next, and when."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dmqnode.errors import UsageError

DEFAULT_ADDRESS = "127.0.0.1:7367"
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between two rounds over the addresses, at first and at most."""
STEADY = 1.0
"""Seconds that a connection must have lasted for the next dial to be free of a pause."""


def split_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT ([…]:PORT for IPv6).

    Errors: UsageError.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"{address!r} is not HOST:PORT; write for example {DEFAULT_ADDRESS}")
    check_host(host)
    return host, int(port)


def check_host(host: str) -> None:
    """Refuse what is no name of a host: resolvers raise UnicodeError for it.

    Arguments:
        host: a name, or an address without brackets.

    Errors: UsageError.
    """
    valid = all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))
    if not host.isascii():
        try:
            host.encode("idna")
        except UnicodeError:
            valid = False
    if not valid:
        raise UsageError(
            f"{host!r} is no name of a host; write 1 to 63 characters before each dot and at the end"
        )


def is_loopback(address: str) -> bool:
    """Tell whether HOST:PORT is of this machine, as far as its text says.  Errors: UsageError."""
    return _is_loopback(split_address(address))


def _is_loopback(address: tuple[str, int]) -> bool:
    host = address[0]
    return host in ("localhost", "::1") or (host.startswith("127.") and host.count(".") == 3)


class Dialling:
    """Which address to dial, and not before when.

    All addresses are tried one behind the other; between two rounds there is a pause that doubles from
    FIRST_PAUSE to LONGEST_PAUSE, each drawn from its upper half so that clients do not come in step.

    Arguments:
        addresses: HOST:PORT, at least one.
        random: gives numbers within 0 and 1.

    Errors: UsageError for what is not an address.
    """

    def __init__(self, addresses: Sequence[str], random: Callable[[], float]) -> None:
        self._addresses = [split_address(a) for a in addresses]
        self._random = random
        self._at = 0
        self._failures = 0
        self.tried = 0
        """How many dials have failed, ever."""
        self.not_before = -math.inf
        self.last_failure = ""
        self.reached = False
        """Whether any node has ever welcomed this client."""
        self._welcomed_at = -math.inf

    def __len__(self) -> int:
        return len(self._addresses)

    def __str__(self) -> str:
        return ", ".join(map(_joined, self._addresses))

    @property
    def name(self) -> str:
        """The address to dial next, or last dialled, as users write it."""
        return _joined(self.address)

    @property
    def address(self) -> tuple[str, int]:
        """The (host, port) to dial next."""
        return self._addresses[self._at]

    @property
    def on_loopback(self) -> bool:
        """Whether all addresses are of this machine."""
        return all(map(_is_loopback, self._addresses))

    def welcomed(self, now: float) -> None:
        """The node at `address` has welcomed this client."""
        self.reached = True
        self._welcomed_at = now

    def lost(self, now: float, why: str) -> None:
        """A connection on which the node had welcomed this client is gone: dial the next address."""
        self.last_failure = why
        if now - self._welcomed_at < STEADY:
            self.failed(now, why)
        else:
            self._failures = 0
            self._turn()
            self.not_before = now

    def failed(self, now: float, why: str) -> None:
        """Dialling `address` failed, or the node there did not welcome this client."""
        self.tried += 1
        self._failures += 1
        self.last_failure = why
        self._turn()
        rounds, rest = divmod(self._failures, len(self._addresses))
        if rest:
            self.not_before = now
        else:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(rounds - 1, 16))
            self.not_before = now + pause * (0.5 + self._random() / 2)

    def _turn(self) -> None:
        self._at = (self._at + 1) % len(self._addresses)


def _joined(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
