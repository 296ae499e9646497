"""Taking sends in: where each message goes, and the batches and index entries that will say so on disk."""

from __future__ import annotations

import math
from collections.abc import Callable

from dmqnode.batch import Batch, merge
from dmqnode.clock import Now
from dmqnode.dedup import Dedup, Runs, join_runs
from dmqnode.ids import LogId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log, StoredBatch
from dmqnode.queues import Settings
from dmqnode.records import State, encode_batch, encode_due, encode_log
from storage.ops import WriteBatch

MERGE_BYTES = 256 << 10
MERGE_MESSAGES = 4096
MERGE_TIME = 50
"""Milliseconds within which sends are stored as sent at one time."""


class _Append:
    """Sends that will be stored as one batch."""

    __slots__ = ("batches", "bytes", "count", "due", "first", "log", "sent_at")

    def __init__(self, log: Log, sent_at: int, due: int) -> None:
        self.log = log
        self.first = log.end
        self.sent_at = sent_at
        self.due = due
        self.batches: list[Batch] = []
        self.count = 0
        self.bytes = 0


class Appends:
    """What one partition was sent since the last write group.

    Sends that meet here and go to one log are stored as one batch.  Messages with a delay go to a log
    of their own, so that the cursor of the others never meets what is not due.
    """

    def __init__(
        self, keys: PartitionKeys, logs: dict[LogId, Log], dedup: Dedup, new_log: Callable[[], LogId]
    ) -> None:
        self._keys = keys
        self._logs = logs
        self._dedup = dedup
        self._new_log = new_log
        self._waiting: list[_Append] = []
        self._current: dict[bool, Log] = {}
        self._opened: list[Log] = []
        self.resting: dict[bool, tuple[LogId, int]] = {}
        """By whether delayed, the log of this run before the partition was closed, and its end."""
        self.last_due = 0
        """The latest due time given out: what a fifo queue's next message may not undercut."""
        self.purged_at = 0
        """When the partition was purged last (ms): what is sent now counts as sent behind it (T3)."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def append(
        self,
        now: Now,
        batch: Batch,
        settings: Settings,
        *,
        delay: float | None,
        behind: bool,
        producer: bytes,
        sequence: int,
        floor: int,
    ) -> tuple[Runs, int]:
        """Take in a send.

        Arguments:
            delay: seconds; None: the queue's own.
            behind: delayed messages of this fifo queue are not delivered yet: come behind them.

        Returns where its messages are, in batch order, and how many of them were known already.
        """
        minute = now.wall // 60_000
        if producer:
            known = self._dedup.find(producer, sequence)
            if known is not None:
                return known, batch.count
        seconds = settings.delay if delay is None else delay
        due = now.wall + round(seconds * 1000) if seconds > 0 else 0
        if behind:
            due = max(due, self.last_due, now.wall)
        duplicates = 0
        if "d" in batch.metadata:
            runs, duplicates = self._append_named(now, minute, batch, due)
        else:
            runs = [self._place(now, batch, due)]
        if producer:
            self._dedup.remember(minute, producer, sequence, floor, runs)
        return runs, duplicates

    def _append_named(self, now: Now, minute: int, batch: Batch, due: int) -> tuple[Runs, int]:
        """Take in a batch with dedup ids: only what was not sent before, nor twice in this batch."""
        at: dict[int, tuple[LogId, int]] = {}
        fresh: list[int] = []
        first_of: dict[str, int] = {}
        same: dict[int, int] = {}
        for i in range(batch.count):
            name = batch.value("d", i)
            if name is not None and (known := self._dedup.find_name(name, minute)) is not None:
                at[i] = (known.log, known.seq)
            elif name is not None and name in first_of:
                same[i] = first_of[name]
            else:
                fresh.append(i)
                if name is not None:
                    first_of[name] = i
        if fresh:
            part = batch if len(fresh) == batch.count else batch.select(fresh)
            log, first, _ = self._place(now, part, due)
            for n, i in enumerate(fresh):
                at[i] = (log, first + n)
        for name, i in first_of.items():
            self._dedup.remember_name(name, *at[i], minute)
        at.update({i: at[original] for i, original in same.items()})
        return join_runs([at[i] for i in range(batch.count)]), batch.count - len(fresh)

    def _place(self, now: Now, batch: Batch, due: int) -> tuple[LogId, int, int]:
        self.last_due = max(due, self.last_due)
        log = self._current.get(due > 0)
        if log is None:
            # Logs are read in the order in which they were opened, also when the clock is set back.
            opened_at = max([now.wall, *(other.opened_at + 1 for other in self._logs.values())])
            log = self._current[due > 0] = Log(self._new_log(), opened_at, delayed=due > 0)
            self._logs[log.id] = log
            self._opened.append(log)
        last = self._waiting[-1] if self._waiting else None
        sent_at = max(now.wall, self.purged_at + 1)
        if (
            last is None
            or last.log is not log
            or last.due != due
            or not self.purged_at < last.sent_at <= sent_at <= last.sent_at + MERGE_TIME
            or last.bytes + batch.bytes > MERGE_BYTES
            or last.count + batch.count > MERGE_MESSAGES
        ):
            last = _Append(log, sent_at, due)
            self._waiting.append(last)
        first = log.end
        last.batches.append(batch)
        last.count += batch.count
        last.bytes += batch.bytes
        log.end += batch.count
        return log.id, first, batch.count

    def rest(self) -> dict[bool, tuple[LogId, int]]:
        """The partition is being closed with everything on disk: return the logs that may be gone on with."""
        return {delayed: (log.id, log.end) for delayed, log in self._current.items()}

    def go_on(self) -> None:
        """The partition was opened again in the same run: go on with its logs, where they end as they did."""
        for delayed, (id_, end) in self.resting.items():
            log = self._logs.get(id_)
            if log is not None and log.end == end:
                self._current[delayed] = log
        self.resting = {}

    def goes_on(self, log: Log) -> bool:
        """Whether what is sent next may be appended to `log`."""
        return log in self._current.values()

    def reopen(self, log: Log) -> None:
        """Write a log's record with the next group: another node opened it."""
        self._opened.append(log)

    def soonest(self) -> float:
        """Return the earliest due time (ms) among what waits to be written, math.inf if none is delayed."""
        return min((a.due for a in self._waiting if a.due), default=math.inf)

    def collect(self, state: State, ops: WriteBatch) -> list[StoredBatch]:
        """Put everything that waits into `ops`; return it as batches."""
        for log in self._opened:
            ops.put(self._keys.log(log.id), encode_log(log.opened_at, delayed=log.delayed))
            ops.put(self._keys.fence(log.id), b"")
        stored = [self._write(append, state, ops) for append in self._waiting]
        self.abandon()
        return stored

    def abandon(self) -> None:
        """Forget what waits to be written."""
        self._waiting, self._opened = [], []

    def _write(self, append: _Append, state: State, ops: WriteBatch) -> StoredBatch:
        batch = merge(append.batches)
        record = encode_batch(append.sent_at, append.due, batch)
        ops.put(self._keys.batch(append.log.id, append.first), record)
        if append.due:
            key = self._keys.due(append.due, append.log.id, append.first)
            ops.put(key, encode_due(batch.count, append.sent_at, len(record)))
        state.bytes += len(record)
        return StoredBatch(
            append.log,
            append.first,
            batch.count,
            size=len(record),
            sent_at=append.sent_at,
            due=append.due,
            batch=batch,
        )
