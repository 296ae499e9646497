"""Delayed messages by when they are due.

The index is on disk; the nearest entries are in memory, up to a horizon behind which only the disk
knows.  So a million messages for tomorrow cost no memory today.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from dmqnode.ids import LogId
from dmqnode.log import Log, StoredBatch

MAX_CACHED = 4096


class DueBatch(NamedTuple):
    """One delayed batch: when due (ms), and where it lies."""

    due: int
    log: LogId
    first: int
    messages: int
    sent_at: int
    size: int

    def stored(self, log: Log) -> StoredBatch:
        """Return where it lies in `log`, without its messages."""
        size, sent_at, due = self.size, self.sent_at, self.due
        return StoredBatch(log, self.first, self.messages, size=size, sent_at=sent_at, due=due, batch=None)


class DueTimes:
    """The delayed batches of one partition whose time has not come.

    `whole` tells that nothing lies beyond the horizon.
    """

    def __init__(self) -> None:
        self._near: list[DueBatch] = []
        self._taken = 0
        self._late: list[DueBatch] = []
        self.whole = True
        self.horizon: tuple[int, LogId, int] | None = None
        self.reading = False

    def add(self, batch: DueBatch) -> None:
        """Add a batch that is on disk."""
        if self.reading:
            self._late.append(batch)
            return
        if self.whole or (self.horizon is not None and batch[:3] < self.horizon):
            insort(self._near, batch, lo=self._taken)
            if len(self._near) - self._taken > MAX_CACHED:
                self._trim()

    def _trim(self) -> None:
        keep = self._taken + MAX_CACHED // 2
        self.horizon = self._near[keep][:3]
        self.whole = False
        del self._near[keep:]

    @property
    def hungry(self) -> bool:
        """Whether the next entries must be read from disk."""
        return not self.whole and not self.reading and self._taken >= len(self._near)

    def loaded(self, batches: list[DueBatch], *, more: bool, stored: Callable[[DueBatch], bool]) -> None:
        """Take in what was read from the horizon on.

        Arguments:
            stored: whether a batch is known to be stored; otherwise it is left to `add`, once it is.
        """
        self.reading = False
        end = batches[-1][:3] if batches else None
        batches = [b for b in batches if stored(b)]
        known = {b[:3] for b in batches}
        late, self._late = self._late, []
        fresh = [b for b in late if b[:3] not in known]
        self._near = sorted([*self._near[self._taken :], *batches])
        self._taken = 0
        if more and end is not None:
            self.whole, self.horizon = False, (end[0], end[1], end[2] + 1)
        else:
            self.whole, self.horizon = True, None
        for batch in fresh:
            self.add(batch)

    def next_due(self) -> float:
        """Return the first due time known, ms; math.inf if there is none."""
        return self._near[self._taken].due if self._taken < len(self._near) else math.inf

    def pop_due(self, wall: int) -> list[DueBatch]:
        """Take the batches due at `wall` (ms)."""
        start = self._taken
        while self._taken < len(self._near) and self._near[self._taken].due <= wall:
            self._taken += 1
        popped = self._near[start : self._taken]
        if self._taken > 1024:
            del self._near[: self._taken]
            self._taken = 0
        return popped

    def low(self) -> float:
        """Return a time (ms) before which no batch here is due; math.inf if there is none."""
        late = min((b.due for b in self._late), default=math.inf)
        if self._taken < len(self._near):
            return min(late, self._near[self._taken].due)
        return min(late, self.horizon[0] if self.horizon is not None else (math.inf if self.whole else 0))

    def near(self) -> list[DueBatch]:
        """Return the entries in memory, soonest first."""
        return self._near[self._taken :]


class CameDue:
    """The batches whose delay ended and that live here: a start must read the index from the first on.

    Those that are over are skipped at the head; when most are, behind a head that lives, the heap is built
    anew.  What is lacking is over, too: it comes due again once it is here, and meanwhile the partition
    does not raise what a start reads from.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, StoredBatch]] = []
        self._tie = count()
        self._tidy_at = 1024

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, stored: StoredBatch) -> None:
        """Add a batch whose delay ended."""
        heapq.heappush(self._heap, (stored.due, next(self._tie), stored))
        if len(self._heap) >= self._tidy_at:
            self._heap = [entry for entry in self._heap if not entry[2].over]
            heapq.heapify(self._heap)
            self._tidy_at = max(1024, 2 * len(self._heap))

    def low(self) -> float:
        """Return when the first of them that lives was due (ms), math.inf if there is none."""
        while self._heap and self._heap[0][2].over:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf
