"""What a partition can deliver next, and in which order.

Three places: messages that come *again* (or whose delay ended), each by itself in a heap; messages with
a *group*; and the *window*, what was read ahead of consumers.  Bodies are in memory for the window and,
once asked for, for the heads of the others.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from itertools import count

from dmqnode.batch import Batch
from dmqnode.groups import Groups
from dmqnode.ids import LogId
from dmqnode.log import Log, Segment, StoredBatch

WINDOW_BYTES = 2 << 20
"""Bodies that one partition keeps ready; further ones wait on disk."""
PARKED_MESSAGES = 20_000
"""Messages with groups that one partition looks through for one that may go."""
PARKED_BYTES = 16 << 20
BATCH_COST = 512
"""Bytes that a batch takes in memory besides its own."""


class Ready:
    """The messages of one partition that may be delivered now."""

    def __init__(self) -> None:
        self._again: list[tuple[tuple[int, LogId, int], int, Segment]] = []
        self._window: deque[Segment] = deque()
        self._tie = count()
        self.groups = Groups()
        self.cached = 0
        """Bytes of batches in memory."""
        self._waiting: dict[StoredBatch, int] = {}
        """How many segments that wait here are of each batch: with the last its bodies go."""

    @property
    def again(self) -> int:
        """How many segments wait for their next delivery outside the window."""
        return len(self._again)

    def __bool__(self) -> bool:
        return bool(self._window or self._again or self.groups.runnable)

    @property
    def roomy(self) -> bool:
        """Whether more may be read ahead."""
        if self.groups.count:
            return self.groups.count < PARKED_MESSAGES and self.cached < PARKED_BYTES
        return self.cached < WINDOW_BYTES

    @property
    def low(self) -> bool:
        """Whether it is time to read ahead."""
        if self.groups.count:
            return self.roomy and not self.groups.runnable
        return self.cached < WINDOW_BYTES // 2

    # --- coming in -------------------------------------------------------------------------------

    def add(self, segment: Segment) -> None:
        """Add messages in the order of their log; their batch is in memory."""
        self._enter(segment)
        if segment.group is None:
            self._window.append(segment)
        else:
            self.groups.park(segment)

    def add_again(self, segment: Segment) -> None:
        """Add messages that were out, or whose delay ended."""
        self._enter(segment)
        if segment.group is not None:
            self.groups.put_back(segment)
        else:
            self._push_again(segment)

    def _push_again(self, segment: Segment) -> None:
        stored = segment.stored
        rank = (stored.due or stored.log.opened_at, stored.log.id, segment.low)
        heapq.heappush(self._again, (rank, next(self._tie), segment))

    def load(self, stored: StoredBatch, batch: Batch) -> None:
        """Take in the bodies of a batch that some segment here waits for."""
        if stored in self._waiting and stored.batch is None:
            stored.batch = batch
            self.cached += len(batch.blob) + BATCH_COST

    def _enter(self, segment: Segment) -> None:
        stored = segment.stored
        waiting = self._waiting.get(stored, 0)
        if not waiting and stored.batch is not None:
            self.cached += len(stored.batch.blob) + BATCH_COST
        self._waiting[stored] = waiting + 1

    def _leave(self, segment: Segment) -> None:
        stored = segment.stored
        waiting = self._waiting[stored] - 1
        if waiting:
            self._waiting[stored] = waiting
            return
        del self._waiting[stored]
        if stored.batch is not None:
            self.cached -= len(stored.batch.blob) + BATCH_COST
            stored.batch = None

    # --- going out -------------------------------------------------------------------------------

    @property
    def _others(self) -> bool:
        return bool(self._window or self.groups.runnable)

    def head(self) -> Segment | None:
        """Return the segment that is next, None if nothing is ready."""
        if self._again and (self._again[0][2].stored.batch is not None or not self._others):
            return self._again[0][2]
        grouped = self.groups.peek()
        if not self._window:
            return grouped
        plain = self._window[0]
        if grouped is not None and (grouped.stored.sent_at, grouped.low) < (plain.stored.sent_at, plain.low):
            return grouped
        return plain

    def pop(self, segment: Segment, high: int) -> Segment:
        """Take low … high - 1 of the segment that `head` returned.

        With the last segment of a batch its bodies leave memory: read them before.
        """
        if segment.group is not None:
            self.groups.pop()
            self._leave(segment)
            return segment
        again = bool(self._again) and self._again[0][2] is segment
        if again:
            heapq.heappop(self._again)
        if high == segment.high:
            if not again:
                self._window.popleft()
            self._leave(segment)
            return segment
        piece = segment.cut(segment.low, high)
        segment.low = high
        if again:
            self._push_again(segment)
        return piece

    def wanted(self, limit: int, *, again: bool = True) -> list[StoredBatch]:
        """Return the batches needed next that are not in memory, at most `limit`.

        Arguments:
            again: look at what waits in the heap, too.
        """
        entries = self._again if again else []
        heads = [e[2] for e in (heapq.nsmallest(limit, entries) if len(entries) > 1 else entries)]
        grouped = self.groups.peek()
        if grouped is not None:
            heads.append(grouped)
        return list({s.stored: None for s in heads if s.stored.batch is None})

    def take_again(self, stored: StoredBatch, *, fresh: bool = False) -> list[Segment]:
        """Take out what waits of one batch in the heap: to be shown by group, or because it is lost.

        Arguments:
            fresh: only what was not delivered yet.
        """
        found = (e[2] for e in self._again if e[2].stored is stored)
        taken = sorted((s for s in found if s.slot is None or not fresh), key=lambda s: s.low)
        if taken:
            gone = set(map(id, taken))
            self._again = [e for e in self._again if id(e[2]) not in gone]
            heapq.heapify(self._again)
        for segment in taken:
            self._leave(segment)
        return taken

    def take_lost(self, stored: StoredBatch) -> list[Segment]:
        """Take out what waits of a batch that cannot be read."""
        lost = self.take_again(stored)
        head = self.groups.peek()
        while head is not None and head.stored is stored:
            lost.append(self.pop(head, head.high))
            head = self.groups.peek()
        return lost

    def waiting_again(self) -> list[Segment]:
        """Return what waits for its next delivery, or whose delay ended."""
        parked = (s for s in (*self.groups, *self._window) if s.slot is not None or s.stored.due)
        return [*(e[2] for e in self._again), *parked]

    def take_expired(self, limit: int) -> list[Segment]:
        """Take out what was sent, or became due, at or before `limit` (ms)."""
        taken = []
        while self._window and self._window[0].stored.sent_at <= limit:
            taken.append(self._window.popleft())
        taken += self.groups.take_expired(limit)
        old = [e[2] for e in self._again if 0 < (e[2].stored.due or e[2].stored.sent_at) <= limit]
        if old:
            gone = set(map(id, old))
            self._again = [e for e in self._again if id(e[2]) not in gone]
            heapq.heapify(self._again)
        for segment in (*taken, *old):
            self._leave(segment)
            segment.group = None  # it was not in flight: its death frees no group
        return taken + old

    def clear(self, *, again: bool) -> dict[Log, int]:
        """Drop what reading ahead finds again; return per log the lowest seq dropped.

        Arguments:
            again: drop what comes again, too.
        """
        lowest: dict[Log, int] = {}
        parked = self.groups.clear()
        kept: list[Segment] = []
        for segment in (*self._window, *parked):
            if segment.slot is None and not segment.stored.due:
                log = segment.stored.log
                lowest[log] = min(segment.low, lowest.get(log, segment.low))
            else:
                kept.append(segment)
        back = [] if again else [e[2] for e in self._again]
        self._window.clear()
        self._again.clear()
        self._forget_bodies(self._waiting)
        self._waiting.clear()
        if not again:
            for segment in back:
                self._enter(segment)
                self._push_again(segment)
            for segment in kept:
                self._enter(segment)
                if segment.slot is None:
                    # Its delay ended; it is shown again behind what is read again before it.
                    segment.group = None
                    self._push_again(segment)
                else:
                    self.groups.park(segment)
        return lowest

    def _forget_bodies(self, batches: Iterable[StoredBatch]) -> None:
        for stored in batches:
            stored.batch = None
        self.cached = 0
