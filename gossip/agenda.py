"""What is to be done when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any


class Agenda:
    """Calls and their due times, in order of (time, entry).

    Nothing is crossed out: what is called looks whether it is still wanted. Each thing that lives has a
    handful of entries at most, so the agenda is as bounded as those are.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, due: float, act: Callable[..., None], *arguments: Any) -> None:
        """Call `act(now, *arguments)` at `due`."""
        heapq.heappush(self._heap, (due, next(self._order), act, arguments))

    def next(self) -> float:
        """Return when the first call is due; math.inf if there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def pop_due(self, now: float) -> Iterator[tuple[Callable[..., None], tuple[Any, ...]]]:
        """Yield and forget what is due, that which is added meanwhile included."""
        while self._heap and self._heap[0][0] <= now:
            _, _, act, arguments = heapq.heappop(self._heap)
            yield act, arguments
