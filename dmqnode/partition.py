"""One node's copy of one partition: append, deliver, settle.

A core: it never waits.  What it wants on disk it hands out in `collect`, what may be said once that is
on disk it keeps until `written`; what it wants to read it asks of `Reads`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dmqnode.appends import Appends
from dmqnode.batch import Batch
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.dedup import Dedup, Runs
from dmqnode.duetimes import CameDue, DueBatch, DueTimes
from dmqnode.effects import Reply
from dmqnode.elsewhere import Elsewhere
from dmqnode.exhausted import Exhausted
from dmqnode.expiry import living
from dmqnode.groups import Groups
from dmqnode.holds import Holds
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log, Segment, StoredBatch, certain
from dmqnode.messages import Part
from dmqnode.queues import Settings
from dmqnode.ranges import RangeSet
from dmqnode.ready import Ready
from dmqnode.records import State, encode_state
from storage.ops import WriteBatch

MAX_IN_FLIGHT = 120_000
"""Messages of one partition that may be with consumers, or nacked and waiting, or being moved, at once."""
MAX_DUE = 4096
"""Segments whose delay ended that one partition keeps in memory, or twice as many; others wait on disk."""
PART_SIZE = 80
"""Bytes that a part takes in a frame, besides its batch."""


class Collected(NamedTuple):
    """What one partition gave into a write group: to be made known once it is on disk."""

    partition: Partition
    appended: list[StoredBatch]
    then: list[Reply]


class Partition:
    """The state of one partition.

    Arguments:
        id_: its id.
        settings: of its queue.
        new_log: gives the id of a new log of this run.
        counters: of the node.
    """

    def __init__(
        self, id_: PartitionId, settings: Settings, new_log: Callable[[], LogId], counters: Counters
    ) -> None:
        self.id = id_
        self.keys = PartitionKeys.of(id_)
        self.settings = settings
        self.counters = counters
        self.logs: dict[LogId, Log] = {}
        self.closed: dict[LogId, int] = {}
        self.mended: list[LogId] = []
        """Logs whose records were damaged."""
        self.state = State()
        self.holds = Holds()
        self.ready = Ready()
        self.dedup = Dedup(counters, lambda runs: certain(self.logs, runs))
        self.due = DueTimes()
        self.undue = 0
        """Delayed messages whose time has not come."""
        self.arriving = math.inf  # when the first of the delayed messages is due that other homes brought
        self.exhausted = Exhausted()
        """Messages for another queue."""
        self.appends = Appends(self.keys, self.logs, self.dedup, new_log)
        self.elsewhere = Elsewhere()
        self._deletes: list[bytes] = []
        self._then: list[Reply] = []
        self._state_changed = False
        self.came_due = CameDue()
        self.writing: deque[float] = deque()  # per write group under way: when its first is due
        self.replicated = False
        """Whether other homes may hold what this copy lacks: then nothing is given up for lost here."""
        self.tainted = False
        """Whether something died that may be ready: what is given out must be looked at."""
        self.frozen = False  # whether nothing becomes due nor expires: this node's clock is not right (T1)
        self.gone = False  # whether it was closed, or its queue deleted: nothing more is written
        self.purging = False  # whether purged batches are being deleted
        self.purged: tuple[LogId, int] | None = None  # how far

    def add_log(self, log: Log) -> None:
        """Another home shows a log that this node did not know."""
        self.logs[log.id] = log
        self.appends.reopen(log)
        self.touch()

    def lack(self, log: Log, end: int) -> None:
        """A log goes up to `end`, and what is new of it is not here; the homes that follow lack it, too."""
        log.gaps.add(log.end, end)
        self.elsewhere.lack(log.id, log.end, end)

    # --- sending ---------------------------------------------------------------------------------

    def append(
        self, now: Now, batch: Batch, *, delay: float | None, producer: bytes, sequence: int, floor: int
    ) -> tuple[Runs, int]:
        """Take in a send; see `Appends.append`.  To be answered by `after_write` only."""
        self.appends.purged_at = self.state.purged_at
        fifo = self.settings.ordering == "fifo"
        behind = fifo and any(g.delayed and g.unsettled for g in self.logs.values())
        return self.appends.append(
            now,
            batch,
            self.settings,
            delay=delay,
            behind=behind,
            producer=producer,
            sequence=sequence,
            floor=floor,
        )

    # --- delivering ------------------------------------------------------------------------------

    @property
    def spare(self) -> int:
        """How many more messages may be out."""
        return MAX_IN_FLIGHT - self.holds.in_flight - self.holds.delayed - self.exhausted.messages

    def take(
        self,
        now: Now,
        delivery: int,
        holder: str,
        visibility: float,
        limit: int,
        max_bytes: int,
        *,
        first: bool = True,
    ) -> tuple[list[Part], int]:
        """Deliver up to `limit` messages of up to `max_bytes`.

        Arguments:
            first: nothing else is in the answer, so one message goes, if one is ready, however long it is.

        Returns the parts and the bytes that they take.  What is not in memory is left for later.
        """
        parts: list[Part] = []
        segments: list[Segment] = []
        left, room = min(limit, self.spare), max_bytes
        while left > 0:
            head = self.ready.head()
            if head is None or head.stored.batch is None:
                break
            stored, batch = head.stored, head.stored.batch
            low = head.low - stored.first
            if (parts or not first) and batch.weight(low) + PART_SIZE > room:
                break
            high = batch.fits(low, min(low + left, head.high - stored.first), room - PART_SIZE)
            segment = self.ready.pop(head, high + stored.first)
            for piece in living(self, now, segment, batch):
                piece.attempt += 1
                stored.log.taken.add(piece.low, piece.high)
                segments.append(piece)
                blob = batch.part(piece.low - stored.first, piece.high - stored.first).blob
                room -= len(blob) + PART_SIZE
                left -= len(piece)
                if piece.attempt > 1:
                    self.counters.redelivered += len(piece)
                where = (stored.log.id, piece.low, len(piece))
                parts.append(Part(self.id, delivery, *where, piece.attempt, stored.sent_at, blob))
        if segments:
            self.holds.deliver(delivery, holder, now.run + visibility, segments)
            self.counters.delivered += sum(map(len, segments))
        return parts, max_bytes - room

    # --- giving up and dying -----------------------------------------------------------------------

    def spent(self, segment: Segment) -> bool:
        """Whether messages were delivered as often as the queue allows."""
        limit = self.settings.max_attempts
        return limit is not None and self.settings.dead_letter is not None and segment.attempt >= limit

    def exhaust(self, segments: Iterable[Segment], reason: str, to: str = "") -> None:
        """Set messages aside for the dead-letter queue, or for queue `to`."""
        self.exhausted.extend(segments, reason, to)

    def unbury(self, segments: list[Segment]) -> None:
        """There is no such queue: deliver again."""
        self.exhausted.done()
        self.holds.delay(-math.inf, segments)

    def buried(self, segments: list[Segment]) -> int:
        """Messages are in the other queue: they die here."""
        self.exhausted.done()
        return self.kill(segments)

    def kill(self, segments: Iterable[Segment]) -> int:
        """Mark messages dead, whoever had them; return how many."""
        killed = 0
        for segment in segments:
            stored, log = segment.stored, segment.stored.log
            killed += log.dead.add(segment.low, segment.high)
            log.gaps.remove(segment.low, segment.high)
            log.taken.remove(segment.low, segment.high)
            self.holds.release(segment)
            if segment.group is not None:
                self.ready.groups.free(segment.group)
            if stored.dead:
                self._delete(stored)
        return killed

    def _delete(self, stored: StoredBatch) -> None:
        self._deletes.append(self.keys.batch(stored.log.id, stored.first))
        if stored.due:
            self._deletes.append(self.keys.due(stored.due, stored.log.id, stored.first))
        self.freed(stored.size)

    def freed(self, size: int, key: bytes | None = None) -> None:
        """Count `size` bytes as deleted; delete `key`, too."""
        if key is not None:
            self._deletes.append(key)
        self.state.bytes = max(0, self.state.bytes - size)

    def abandon(self) -> list[Reply]:
        """The queue is deleted: return the answers that now will not come true."""
        self.gone = True
        self.exhausted.clear()
        then, self._then = self._then, []
        self.appends.abandon()
        self._deletes = []
        return then

    def purge(self, now: Now) -> int:
        """Kill everything that was accepted so far; return how many messages of it are here."""
        killed = 0
        self.state.purged_at = max(self.state.purged_at, now.wall)
        for log in self.logs.values():
            low = log.dead.ranges.first_gap(0)
            if low >= log.durable:
                continue
            killed += log.dead.add(0, log.durable)
            self.state.purges.append((log.id, low, log.durable))
            for a, b in log.gaps:
                self.elsewhere.void(log.id, a, b)
            log.taken, log.gaps = RangeSet(), RangeSet()
            log.cursor, log.aligned = log.durable, True
        self.ready.clear(again=True)
        self.holds.clear()
        self.ready.groups = Groups()
        self.due = DueTimes()
        self.undue = 0
        self.exhausted.clear()
        self.touch()
        return killed

    # --- figures ---------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Return how many messages are ready, delayed (or due, and on disk by MAX_DUE) and in flight."""
        live = sum(log.live for log in self.logs.values())
        in_flight = self.holds.in_flight + self.exhausted.messages
        delayed = self.holds.delayed + self.undue
        return max(0, live - in_flight - delayed), delayed, in_flight

    @property
    def idle(self) -> bool:
        """Whether nothing of this partition needs to stay in memory."""
        unsaved = self.unsaved or self.holds.unsaved or self.writing
        return not (unsaved or self.holds or self.exhausted.messages or self.state.purges)

    # --- time ------------------------------------------------------------------------------------

    def tick(self, now: Now) -> bool:
        """Do what is due; return whether something became ready."""
        woke = False
        for segment in self.holds.pop_due(now.run):
            woke = True
            if self.spent(segment):
                self.exhaust([segment], f"not acked within {segment.attempt} deliveries")
            else:
                self.ready.add_again(segment)
        while not self.frozen and self.ready.again < MAX_DUE and (popped := self.due.pop_due(now.wall)):
            woke = True
            for batch in popped:
                self._come_due(batch)
        return woke

    def _come_due(self, batch: DueBatch) -> None:
        log = self.logs.get(batch.log)
        if log is None:
            return
        pieces = log.open_pieces(batch.first, batch.first + batch.messages)
        stored = batch.stored(log)
        self.came_due.add(stored)
        for low, high in pieces:
            self.undue = max(0, self.undue - (high - low))
            log.taken.add(low, high)
            self.ready.add_again(Segment(stored, low, high))

    def next_deadline(self, now: Now) -> float:
        """Return when `tick` is to be called (running time), math.inf: never."""
        due, held = self.due.next_due(), self.holds.next_due()
        if due == math.inf or self.frozen or self.ready.again >= MAX_DUE:
            return held
        return min(held, max(now.run, now.run_at(int(due))))

    # --- the disk --------------------------------------------------------------------------------

    def touch(self) -> None:
        """Have the state written."""
        self._state_changed = True

    def after_write(self, reply: Reply) -> None:
        """Keep `reply` until all that was changed so far is on disk."""
        self._then.append(reply)

    @property
    def unsaved(self) -> bool:
        """Whether something waits for a synced write."""
        changed = self._state_changed or self.dedup.unsaved
        return bool(self.appends or self._then or self._deletes or changed)

    def collect(self, now: Now, ops: WriteBatch) -> Collected:
        """Put everything that is to be written into `ops`."""
        soonest = self.appends.soonest()
        appended = self.appends.collect(self.state, ops)
        for log in self.logs.values():
            if log.dead.unsaved:
                log.dead.save(self.keys, log.id, ops)
        for key in self._deletes:
            ops.delete(key)
        self.holds.save(now, self.keys, ops)
        if self.dedup.unsaved:
            self.dedup.save(self.keys, ops)
            self.state.sent_low = self.dedup.low
        if appended or self._deletes or self._state_changed:
            self.state.due_low = self._due_low(soonest)
            self.state.ends = {log.id: log.end for log in self.logs.values()}
            ops.put(self.keys.state(), encode_state(self.state))
        then = self._then
        self.writing.append(soonest)
        self._deletes, self._then, self._state_changed = [], [], False
        return Collected(self, appended, then)

    def _due_low(self, soonest: float) -> int:
        """Return the time before which no living batch is due: where a start begins to read."""
        low = min(self.due.low(), self.came_due.low(), soonest, self.arriving, *self.writing)
        if any(log.delayed and log.gaps.size for log in self.logs.values()):
            low = min(low, self.state.due_low)  # nobody here knows when what is lacking is due
        return self.state.due_low if low == math.inf else int(low)

    def written(self, collected: Collected) -> bool:
        """What was collected is on disk; return whether something became ready or due."""
        self.writing.popleft()
        for stored in collected.appended:
            log = stored.log
            log.durable = stored.end
            self.counters.sent += stored.count
            if stored.due:
                stored.batch = None
                self.undue += stored.count - log.gaps.overlap(stored.first, stored.end)
                self.due.add(
                    DueBatch(stored.due, log.id, stored.first, stored.count, stored.sent_at, stored.size)
                )
            elif log.cursor == stored.first and self.ready.roomy and self._reads_last(log):
                log.cursor = stored.end
                self.show(stored, [(stored.first, stored.end)])
            else:
                stored.batch = None
        return bool(collected.appended)

    def _reads_last(self, log: Log) -> bool:
        """Whether all other logs were read to their ends."""
        return all(o is log or o.delayed or o.all_read for o in self.logs.values())

    def show(self, stored: StoredBatch, pieces: list[tuple[int, int]]) -> None:
        """Make messages of a batch that is in memory ready."""
        batch = stored.batch
        assert batch is not None
        fifo = self.settings.ordering == "fifo"
        if not fifo and "g" not in batch.metadata:
            for low, high in pieces:
                self.ready.add(Segment(stored, low, high))
            return
        default = "" if fifo else None
        for low, high in pieces:
            for seq in range(low, high):
                group = batch.value("g", seq - stored.first)
                self.ready.add(Segment(stored, seq, seq + 1, group=default if group is None else group))
