"""Reading a partition's messages from disk before consumers ask for them.

The cursor of each log only goes forward.  It jumps over what the dead set says is dead, instead of
seeking over the deleted keys, which an LSM tree would step through one by one.
"""

from __future__ import annotations

from collections.abc import Callable

from dmqnode.clock import Now
from dmqnode.duetimes import DueBatch, DueTimes
from dmqnode.log import Log, Segment, StoredBatch
from dmqnode.partition import Partition
from dmqnode.reads import Get, Procedure, Reads, Rows, Scan
from dmqnode.records import Unreadable, decode_batch, decode_due

READ_BYTES = 512 << 10
READ_ROWS = 2048
JUMP = 4096
"""A scan stops before a dead range longer than this, and goes on behind it."""
LOADS = 64
"""Batches read at once for messages that come again."""


class ReadAhead:
    """Keeps one partition's ready messages in memory; at most one read of each kind is under way."""

    def __init__(self, partition: Partition, reads: Reads, woken: Callable[[], None]) -> None:
        self._woken = woken
        self._partition = partition
        self._reads = reads
        self._scanning = False
        self._loading = False
        self._due_reading = False

    @property
    def busy(self) -> bool:
        return self._scanning or self._loading or self._due_reading

    def fill(self, now: Now) -> None:
        """Start the reads that are needed now; a consumer waits, or the window is to be looked through."""
        ready = self._partition.ready
        # In a fifo queue what is delayed was sent behind all that is not, so it is shown behind it.
        again = self._partition.settings.ordering != "fifo" or self._all_read()
        if not self._loading and (wanted := ready.wanted(LOADS, again=again)):
            self._loading = True
            self._reads.start(now, self._load(wanted), self._loaded)
        if not self._scanning and ready.low and (log := self._next_log()) is not None:
            self._scanning = True
            self._reads.start(now, self._scan(log), self._scanned)
        self.fill_due(now)

    def fill_due(self, now: Now) -> None:
        """Read the next delayed batches' due times, if they are not known."""
        if self._partition.due.hungry and not self._due_reading:
            self._due_reading = True
            self._partition.due.reading = True
            self._reads.start(now, self._read_due(), self._due_read)

    def _all_read(self) -> bool:
        """Whether every message without a delay was read, or is dead."""
        logs = self._partition.logs.values()
        return all(log.delayed or log.dead.ranges.first_gap(log.cursor) >= log.end for log in logs)

    def _next_log(self) -> Log | None:
        logs = self._partition.logs.values()
        if self._partition.settings.ordering == "fifo" and any(log.gaps.size for log in logs):
            return None  # what is lacking is fetched first: nothing may come out before it
        for log in logs:
            if not log.delayed and not log.all_read:
                return log
        return None

    # --- the window ------------------------------------------------------------------------------

    def _scan(self, log: Log) -> Procedure[tuple[Log, int, int, int, Rows]]:
        dead, arrivals = log.dead.ranges, log.arrivals
        cursor = dead.first_gap(log.cursor)
        if cursor != log.cursor:
            log.cursor, log.aligned = cursor, False
        keys = self._partition.keys
        jump = dead.next_range(cursor, longer_than=JUMP)
        end = min(log.durable, jump[0] if jump else log.durable)
        rows = yield Scan(
            keys.batch(log.id, cursor),
            keys.batch(log.id, end),
            READ_ROWS,
            READ_BYTES,
            floor=None if log.aligned else keys.batch(log.id, 0),
        )
        return log, arrivals, cursor, end, rows

    def _scanned(self, now: Now, result: tuple[Log, int, int, int, Rows]) -> None:
        log, arrivals, cursor, end, rows = result
        self._scanning = False
        self._woken()
        if log.cursor != cursor or self._partition.logs.get(log.id) is not log:
            return  # the window was dropped meanwhile; the next fill starts from there
        if log.arrivals != arrivals:
            return  # what was lacking is here by now, and need not be in what was read: it is read again
        at, last, more = cursor, -1, rows.more
        for key, record in rows.rows:
            first = self._partition.keys.first_seq(key)
            stored = self._stored(log, first, record)
            if stored is None or stored.end <= at:
                last = first
                continue
            if self._missing(log, at, first):
                log.cursor, log.aligned = at, False
                return
            at = max(at, first)
            pieces = log.open_pieces(at, stored.end)
            if pieces:
                self._partition.show(stored, pieces)
            at = stored.end
            if not self._partition.ready.roomy:
                more = True
                break
        # If nothing of a whole page means anything, go on behind it all the same.
        up_to = max(at, end) if not more else last + 1 if at == cursor and last >= at else at
        if self._missing(log, at, up_to):
            log.cursor, log.aligned = at, False
            return
        log.cursor = up_to
        log.aligned = more and (bool(rows.rows) or log.aligned)

    def _stored(self, log: Log, first: int, record: bytes) -> StoredBatch | None:
        try:
            sent_at, due, batch = decode_batch(record)
        except Unreadable:
            return None
        return StoredBatch(log, first, batch.count, size=len(record), sent_at=sent_at, due=due, batch=batch)

    def _missing(self, log: Log, low: int, high: int) -> bool:
        """Messages that live but have no readable record are lost here: say so, and go on.

        Returns whether to wait until another home has brought them: nothing may come out of order.
        """
        pieces = log.open_pieces(low, high) if low < high else []
        if self._partition.replicated:
            for a, b in pieces:
                log.gaps.add(a, b)
            return bool(pieces) and self._partition.settings.ordering == "fifo"
        for a, b in pieces:
            nowhere = StoredBatch(log, a, b - a, size=0, sent_at=0, due=0, batch=None)
            self._partition.counters.lost += self._partition.kill([Segment(nowhere, a, b)])
        return False

    # --- what comes again ------------------------------------------------------------------------

    def _load(self, wanted: list[StoredBatch]) -> Procedure[tuple[list[tuple[StoredBatch, int]], Rows]]:
        keys = self._partition.keys
        arrivals = [stored.log.arrivals for stored in wanted]
        rows = yield Get(tuple(keys.batch(s.log.id, s.first) for s in wanted))
        return list(zip(wanted, arrivals)), rows

    def _loaded(self, now: Now, result: tuple[list[tuple[StoredBatch, int]], Rows]) -> None:
        wanted, rows = result
        self._loading = False
        self._woken()
        partition = self._partition
        found = dict(rows.rows)
        fifo = partition.settings.ordering == "fifo"
        for stored, arrivals in wanted:
            record = found.get(partition.keys.batch(stored.log.id, stored.first))
            read = None if record is None else self._stored(stored.log, stored.first, record)
            if read is None or read.batch is None:
                # What came meanwhile need not be in what was read: it is read again.
                if stored.log.arrivals == arrivals:
                    self._lost(stored)
                continue
            fresh: list[Segment] = []
            if stored.due and (fifo or "g" in read.batch.metadata):
                # Only now is it known which groups the messages whose delay ended belong to.
                fresh = partition.ready.take_again(stored, fresh=True)
            partition.ready.load(stored, read.batch)
            if fresh:
                stored.batch = read.batch  # `load` did so only if others of the batch wait, and counted it
                partition.show(stored, [(segment.low, segment.high) for segment in fresh])

    def _lost(self, stored: StoredBatch) -> None:
        """A batch that is waited for is not there."""
        partition = self._partition
        segments = partition.ready.take_lost(stored)
        if not partition.replicated:
            partition.counters.lost += partition.kill(segments)
            return
        for segment in segments:
            stored.log.taken.remove(segment.low, segment.high)
            for low, high in stored.log.dead.ranges.gaps(segment.low, segment.high):
                stored.log.gaps.add(low, high)  # what died meanwhile is deleted, and lacking nowhere
            partition.holds.release(segment)
            if segment.group is not None:
                partition.ready.groups.free(segment.group)
        if segments and partition.settings.ordering == "fifo":
            # Until another home has brought it, nothing behind it may come out.
            for log, low in partition.ready.clear(again=False).items():
                log.rewind(low)

    # --- delayed messages ------------------------------------------------------------------------

    def _read_due(self) -> Procedure[tuple[DueTimes, list[DueBatch], bool]]:
        keys, times = self._partition.keys, self._partition.due
        horizon = times.horizon
        assert horizon is not None, "only what lies beyond a horizon is read"
        low, stop = keys.due(*horizon), keys.due_range(0)[1]
        while True:
            # What is damaged stays: who leads next makes up for it, too, and it goes with its batch.
            rows = yield Scan(low, stop, 1024, leave=True)
            batches = [DueBatch(*keys.read_due(key), *decode_due(record)) for key, record in rows.rows]
            for key in rows.damaged:
                batches += yield from self._mend_due(key)
            if batches or not rows.more:
                batches.sort()
                return times, batches, rows.more

    def _mend_due(self, key: bytes) -> Procedure[list[DueBatch]]:
        """Make up for a damaged index entry: its key says where the batch is, and that says the rest."""
        keys = self._partition.keys
        if not keys.is_due(key):
            return []
        due, log, first = keys.read_due(key)
        stored_log = self._partition.logs.get(log)
        if stored_log is None:
            return []
        while True:
            arrivals = stored_log.arrivals
            found = yield Get((keys.batch(log, first),))
            if found.rows:
                break
            behind = yield Scan(keys.batch(log, first + 1), keys.fence(log), 1, leave=True)
            if stored_log.arrivals != arrivals:
                continue  # what came meanwhile need not be in what was read
            ends = [keys.first_seq(row[0]) for row in behind.rows] + list(map(keys.first_seq, behind.damaged))
            self._never_due(key, stored_log, first, min([*ends, stored_log.durable]))
            return []
        record = found.rows[0][1]
        stored = self._stored(stored_log, first, record)
        return (
            [] if stored is None else [DueBatch(due, log, first, stored.count, stored.sent_at, stored.size)]
        )

    def _never_due(self, key: bytes, log: Log, low: int, high: int) -> None:
        """Neither a delayed batch nor when it is due can be read here."""
        partition = self._partition
        pieces = log.open_pieces(low, high)
        partition.undue = max(0, partition.undue - sum(b - a for a, b in pieces))
        if not partition.replicated:
            for a, b in pieces:
                log.dead.add(a, b)
                partition.counters.lost += b - a
            partition.freed(0, key)
            partition.touch()
        for a, b in pieces if partition.replicated else ():
            log.gaps.add(a, b)  # another home has it

    def _due_read(self, now: Now, result: tuple[DueTimes, list[DueBatch], bool]) -> None:
        self._due_reading = False
        times, batches, more = result
        if times is self._partition.due:  # else all that was there when it was read is purged
            times.loaded(batches, more=more, stored=self._is_stored)
        self._woken()

    def _is_stored(self, batch: DueBatch) -> bool:
        """Tell whether a batch may come out: while its write is under way it may be on this disk alone."""
        log = self._partition.logs.get(batch.log)
        return log is None or batch.first + batch.messages <= log.durable
