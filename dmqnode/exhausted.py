"""Messages that a partition has given up on: they wait to be moved to the dead-letter queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from dmqnode.log import Segment

Step = list[tuple[Segment, str]]
"""Messages that are moved together, each with the reason."""


class Exhausted:
    """What one partition wants moved; one step is under way at a time.

    A nack is answered only once what it exhausted has moved: hence `after`.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Segment, str]] = deque()
        self._then: deque[tuple[int, Callable[[], None]]] = deque()
        self._given = 0
        self._moved = 0
        self.step: Step | None = None
        """What is being moved."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def messages(self) -> int:
        """How many messages wait or are being moved."""
        return self._given - self._moved

    def extend(self, segments: Iterable[Segment], reason: str) -> None:
        """Set messages aside, with the reason."""
        for segment in segments:
            self._waiting.append((segment, reason))
            self._given += len(segment)

    def after(self, then: Callable[[], None]) -> None:
        """Call `then` when all that was set aside so far has moved, or is gone."""
        self._then.append((self._given, then))

    def take(self, messages: int, size: int) -> Step:
        """Begin a step of at most so many messages of batches of at most `size` bytes, but at least one."""
        step: Step = []
        batches = set()
        while self._waiting and messages > 0:
            segment, reason = self._waiting[0]
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

    def done(self) -> None:
        """The step is over."""
        self._moved += sum(len(s) for s, _ in self.step or ())
        self.step = None
        self._call()

    def clear(self) -> None:
        """All these messages are dead."""
        self._waiting.clear()
        self.step = None
        self._moved = self._given
        self._call()

    def _call(self) -> None:
        while self._then and self._then[0][0] <= self._moved:
            self._then.popleft()[1]()
