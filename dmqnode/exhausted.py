"""Messages that are to move to another queue: given up, to the dead-letter queue; redriven, out of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from dmqnode.ids import LogId
from dmqnode.log import Segment

Step = list[tuple[Segment, str]]
"""Messages that are moved together, each with the reason."""


class Exhausted:
    """What one partition wants moved; one step is under way at a time.

    A nack is answered only once what it exhausted has moved: hence `after`.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Segment, str, str]] = deque()
        self._then: deque[tuple[int, Callable[[], None]]] = deque()
        self._given = 0
        self._moved = 0
        self._cleared = 0
        self.step: Step | None = None
        """What is being moved."""
        self.to = ""
        """Where that goes; empty: to the dead-letter queue."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def messages(self) -> int:
        """How many messages wait or are being moved."""
        return self._given - self._moved

    def extend(self, segments: Iterable[Segment], reason: str, to: str = "") -> None:
        """Set messages aside, with the reason."""
        for segment in segments:
            self._waiting.append((segment, reason, to))
            self._given += len(segment)

    def count(self, log: LogId, low: int, high: int) -> int:
        """Return how many messages low … high - 1 of a log wait or are being moved."""
        segments = [s for s, _, _ in self._waiting] + [s for s, _ in self.step or ()]
        pieces = (min(s.high, high) - max(s.low, low) for s in segments if s.stored.log.id == log)
        return sum(max(0, piece) for piece in pieces)

    def after(self, then: Callable[[], None]) -> None:
        """Call `then` when all that was set aside so far has moved, or is gone."""
        self._then.append((self._given, then))

    def take(self, messages: int, size: int) -> Step:
        """Begin a step of at most so many messages of batches of at most `size` bytes, but at least one."""
        step: Step = []
        batches = set()
        while self._waiting and messages > 0:
            segment, reason, to = self._waiting[0]
            if step and to != self.to:
                break
            self.to = to
            if segment.stored not in batches:
                size -= segment.stored.size
                if step and size < 0:
                    break
                batches.add(segment.stored)
            if len(segment) > messages:
                step.append((segment.cut(segment.low, segment.low + messages), reason))
                segment.low += messages
                break
            self._waiting.popleft()
            step.append((segment, reason))
            messages -= len(segment)
        self.step = step
        return step

    def put_off(self, missing: Step) -> Callable[[], None]:
        """Take messages out of the step: they are not here at present; return what sets them aside again."""
        assert self.step is not None
        to, cleared = self.to, self._cleared
        self.step[:] = [pair for pair in self.step if pair not in missing]

        def again() -> None:
            if self._cleared == cleared:
                self._waiting.extend((segment, reason, to) for segment, reason in missing)

        return again

    def done(self) -> None:
        """The step is over."""
        self._moved += sum(len(s) for s, _ in self.step or ())
        self.step = None
        self._call()

    def clear(self) -> None:
        """All these messages are dead."""
        self._cleared += 1
        self._waiting.clear()
        self.step = None
        self._moved = self._given
        self._call()

    def _call(self) -> None:
        while self._then and self._then[0][0] <= self._moved:
            self._then.popleft()[1]()
