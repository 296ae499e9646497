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
    the heap is built anew, so that it stays within twice the number of keys.  Entries do not hold their
    keys: what is cancelled, be it a partition with all its messages, is not kept until its time.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._current: dict[K, tuple[float, int]] = {}
        self._keys: dict[int, K] = {}
        """The keys by the order in which they were set."""
        self._order = count()

    def __len__(self) -> int:
        return len(self._current)

    def __iter__(self) -> Iterator[K]:
        return iter(self._current)

    def set(self, key: K, due: float) -> None:
        """Make `key` due at `due` (math.inf: never), whatever it was before."""
        if due == math.inf:
            self.cancel(key)
            return
        old = self._current.get(key)
        if old is not None:
            if old[0] == due:
                return
            del self._keys[old[1]]
        mark = (due, next(self._order))
        self._current[key] = mark
        self._keys[mark[1]] = key
        heapq.heappush(self._heap, mark)
        if len(self._heap) > 64 + 2 * len(self._current):
            self._heap = list(self._current.values())
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Forget `key`; nothing happens if it was not set."""
        old = self._current.pop(key, None)
        if old is not None:
            del self._keys[old[1]]

    def next(self) -> float:
        """Return when the first key is due, math.inf if there is none."""
        while self._heap:
            due, order = self._heap[0]
            if order in self._keys:
                return due
            heapq.heappop(self._heap)
        return math.inf

    def pop_due(self, now: float) -> Iterator[K]:
        """Yield and forget each key due at `now`, by due time, those of one time as they were set."""
        while self.next() <= now:
            key = self._keys.pop(heapq.heappop(self._heap)[1])
            del self._current[key]
            yield key
