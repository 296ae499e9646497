"""The numbers of one client's sends: each queue has its own, without gaps.

A partition remembers which numbers of a producer it has seen as ranges, and only so many of them.  Were they
given over all queues together, what a partition sees would be full of gaps, and soon forgotten: a node that
was cut off meanwhile could bring a send that was repeated elsewhere, and nobody would know it (C5).
"""

from __future__ import annotations

MAX_QUEUES = 10_000
"""Queues whose numbers are held; beyond, those of one without a send under way go, and never come again."""


class Sequences:
    """What was given, and what is not settled yet."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._dropped = 0
        """The highest number of a queue that is held no more: it begins behind it if it comes back."""
        self._unsettled: dict[str, dict[int, None]] = {}

    def __len__(self) -> int:
        """Return how many sends are not settled."""
        return sum(map(len, self._unsettled.values()))

    def give(self, queue: str) -> int:
        """Return the number of a new send, which is unsettled until `settle`."""
        number = self._last.pop(queue, self._dropped) + 1
        self._last[queue] = number
        self._unsettled.setdefault(queue, {})[number] = None
        if len(self._last) > MAX_QUEUES:
            self._drop()
        return number

    def floor(self, queue: str) -> int:
        """Return the lowest number of a queue that is not settled; there is one."""
        return next(iter(self._unsettled[queue]))

    def settle(self, queue: str, number: int) -> bool:
        """The outcome of a send is known, or nobody waits for it; return whether that is new."""
        unsettled = self._unsettled.get(queue)
        if unsettled is None or number not in unsettled:
            return False
        del unsettled[number]
        if not unsettled:
            del self._unsettled[queue]
        return True

    def _drop(self) -> None:
        idle = next((queue for queue in self._last if queue not in self._unsettled), None)
        if idle is not None:
            self._dropped = max(self._dropped, self._last.pop(idle))
