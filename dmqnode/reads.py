"""Reading from disk without awaiting: a procedure yields what it wants to read and is sent the rows.

    def load(...) -> Procedure[Loaded]:
        page = yield Scan(low, high, limit=1000)
        ...
        return Loaded(...)

The shell performs the reads in a worker thread; the simulator performs them when its disk pleases.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dmqnode.clock import Now

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows from `start` up to, not including, `stop`.

    `floor`: begin with the last row at or before `start` that is not before `floor`.
    `leave`: damaged records are named, and stay where they are, for whoever reads them to make up for them.
    """

    start: bytes
    stop: bytes
    limit: int
    max_bytes: int = 1 << 20
    reverse: bool = False
    floor: bytes | None = None
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """The rows of exactly these keys; those that do not exist are left out."""

    keys: tuple[bytes, ...]


Read = Scan | Get


@dataclass(frozen=True, slots=True)
class Rows:
    """What a read found, in the order of the read."""

    rows: list[tuple[bytes, bytes]]
    more: bool = False
    """A limit ended the scan."""
    damaged: list[bytes] = field(default_factory=list)
    """Keys whose records were damaged; the store has set them aside, if it was to."""


Procedure = Generator[Read, Rows, T]


@dataclass(slots=True)
class _Running:
    procedure: Generator[Read, Rows, Any]
    then: Callable[[Now, Any], None]


class Reads:
    """The procedures under way and the reads that they wait for."""

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}
        self._wanted: list[tuple[int, Read]] = []
        self._last = 0

    def __len__(self) -> int:
        return len(self._running)

    def start(self, now: Now, procedure: Procedure[T], then: Callable[[Now, T], None]) -> None:
        """Run `procedure` to its first read; at its end call `then(now, what it returned)`."""
        self._last += 1
        self._running[self._last] = _Running(procedure, then)
        self._step(now, self._last, None)

    def take_wanted(self) -> list[tuple[int, Read]]:
        """Return, once, the reads that are to be performed."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def done(self, now: Now, number: int, rows: Rows) -> None:
        """Hand a read's rows to the procedure that asked."""
        self._step(now, number, rows)

    def _step(self, now: Now, number: int, rows: Rows | None) -> None:
        running = self._running[number]
        try:
            read = next(running.procedure) if rows is None else running.procedure.send(rows)
        except StopIteration as end:
            del self._running[number]
            running.then(now, end.value)
        else:
            self._wanted.append((number, read))
