"""The one heap of due times: waits, visibilities, sweeps all use it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """When each key is due; a key has at most one time.

    Cancelling and moving leave the old heap entry behind, to be skipped; once most entries are such,
    the heap is built anew, so that it stays within twice the number of keys.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._current: dict[K, tuple[float, int]] = {}
        self._order = count()

    def __len__(self) -> int:
        return len(self._current)

    def set(self, key: K, due: float) -> None:
        """Make `key` due at `due` (math.inf: never), whatever it was before."""
        if due == math.inf:
            self.cancel(key)
            return
        old = self._current.get(key)
        if old is not None and old[0] == due:
            return
        mark = (due, next(self._order))
        self._current[key] = mark
        heapq.heappush(self._heap, (*mark, key))
        if len(self._heap) > 64 + 2 * len(self._current):
            self._heap = [(*m, k) for k, m in self._current.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Forget `key`; nothing happens if it was not set."""
        self._current.pop(key, None)

    def next(self) -> float:
        """Return when the first key is due, math.inf if there is none."""
        while self._heap:
            due, order, key = self._heap[0]
            if self._current.get(key) == (due, order):
                return due
            heapq.heappop(self._heap)
        return math.inf

    def pop_due(self, now: float) -> Iterator[K]:
        """Yield and forget each key due at `now`, by due time, those of one time as they were set."""
        while self.next() <= now:
            key = heapq.heappop(self._heap)[2]
            del self._current[key]
            yield key
