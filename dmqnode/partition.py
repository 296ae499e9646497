"""One node's copy of one partition: append, deliver, settle.

A core: it never waits.  What it wants on disk it hands out in `collect`, what may be said once that is
on disk it keeps until `written`; what it wants to read it asks of `Reads`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable

from dmqnode.appends import Appends
from dmqnode.batch import Batch
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.dedup import Dedup, Runs
from dmqnode.duetimes import DueBatch, DueTimes
from dmqnode.effects import Reply
from dmqnode.groups import Groups
from dmqnode.holds import Holds
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log, Segment, StoredBatch
from dmqnode.messages import Part
from dmqnode.queues import Settings
from dmqnode.ranges import RangeSet
from dmqnode.ready import Ready
from dmqnode.records import State, encode_state
from storage.ops import WriteBatch

MAX_IN_FLIGHT = 120_000
"""Messages of one partition that may be with consumers, or nacked and waiting, at once."""
MAX_DUE = 100_000
"""Segments whose delay ended that one partition keeps in memory; the others wait on disk."""


class Collected:
    """What one partition gave into a write group: to be made known once it is on disk."""

    __slots__ = ("appended", "partition", "then")

    def __init__(self, partition: Partition, appended: list[StoredBatch], then: list[Reply]) -> None:
        self.partition = partition
        self.appended = appended
        self.then = then


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
        self.state = State()
        self.holds = Holds()
        self.ready = Ready()
        self.dedup = Dedup()
        self.due = DueTimes()
        self.undue = 0
        """Delayed messages whose time has not come."""
        self.exhausted: list[tuple[Segment, str]] = []
        """Messages for the dead-letter queue, each with the reason."""
        self.moving = 0
        self.appends = Appends(self.keys, self.logs, self.dedup, new_log)
        self._deletes: list[bytes] = []
        self._then: list[Reply] = []
        self._state_changed = False
        self._came_due: list[tuple[int, int, StoredBatch]] = []
        """A heap of the batches whose delay ended and that are not dead."""
        self.purging = False
        """Whether purged batches are being deleted."""
        self.deleted_bytes = 0
        """Bytes deleted since the partition's range was last compacted."""

    # --- sending ---------------------------------------------------------------------------------

    def append(
        self, now: Now, batch: Batch, *, delay: float | None, producer: bytes, sequence: int, floor: int
    ) -> tuple[Runs, int]:
        """Take in a send; see `Appends.append`.  To be answered by `after_write` only."""
        behind = self.settings.ordering == "fifo" and bool(self.undue or self.ready.again)
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

    def take(
        self, now: Now, delivery: int, holder: str, visibility: float, limit: int, max_bytes: int
    ) -> tuple[list[Part], int]:
        """Deliver up to `limit` messages of up to `max_bytes`, but at least one if one is ready.

        Returns the parts and the bytes of their bodies.  What is not in memory is left for later.
        """
        parts: list[Part] = []
        segments: list[Segment] = []
        left, room = limit, max_bytes
        left = min(left, MAX_IN_FLIGHT - self.holds.in_flight - self.holds.delayed)
        while left > 0:
            head = self.ready.head()
            if head is None or head.stored.batch is None:
                break
            stored, batch = head.stored, head.stored.batch
            low = head.low - stored.first
            if parts and batch.span(low, low + 1) > room:
                break
            high = batch.fits(low, min(low + left, head.high - stored.first), room)
            segment = self.ready.pop(head, high + stored.first)
            for piece in self._unexpired(now, segment):
                piece.attempt += 1
                stored.log.taken.add(piece.low, piece.high)
                segments.append(piece)
                a, b = piece.low - stored.first, piece.high - stored.first
                room -= batch.span(a, b)
                left -= len(piece)
                if piece.attempt > 1:
                    self.counters.redelivered += len(piece)
                parts.append(
                    Part(
                        self.id,
                        delivery,
                        stored.log.id,
                        piece.low,
                        len(piece),
                        piece.attempt,
                        stored.sent_at,
                        batch.part(a, b).blob,
                    )
                )
        if segments:
            self.holds.deliver(delivery, holder, now.run + visibility, segments)
            self.counters.delivered += sum(map(len, segments))
        return parts, max_bytes - room

    def _unexpired(self, now: Now, segment: Segment) -> list[Segment]:
        """Return the parts of a segment that still live by time; the others die."""
        stored = segment.stored
        if (stored.due or stored.sent_at) + self.settings.retention * 1000 <= now.wall:
            self._expire([segment])
            return []
        batch = stored.batch
        if batch is None or "t" not in batch.metadata:
            return [segment]
        alive: list[Segment] = []
        expired: list[Segment] = []
        for seq in range(segment.low, segment.high):
            ttl = batch.value("t", seq - stored.first)
            into = expired if ttl is not None and stored.sent_at + ttl <= now.wall else alive
            if into and into[-1].high == seq:
                into[-1].high += 1
            else:
                into.append(segment.cut(seq, seq + 1))
        self._expire(expired)
        return alive

    def _expire(self, segments: list[Segment]) -> None:
        self.counters.expired += self.kill(segments)

    # --- giving up and dying -----------------------------------------------------------------------

    def spent(self, segment: Segment) -> bool:
        """Whether messages were delivered as often as the queue allows."""
        limit = self.settings.max_attempts
        return limit is not None and self.settings.dead_letter is not None and segment.attempt >= limit

    def exhaust(self, segments: Iterable[Segment], reason: str) -> None:
        """Set messages aside for the dead-letter queue."""
        for segment in segments:
            self.exhausted.append((segment, reason))
            self.moving += len(segment)

    def unbury(self, segments: list[Segment]) -> None:
        """There is no dead-letter queue to move to: deliver again."""
        self.moving -= sum(map(len, segments))
        self.holds.delay(-math.inf, segments)

    def kill(self, segments: Iterable[Segment]) -> int:
        """Mark messages dead, whoever had them; return how many."""
        killed = 0
        for segment in segments:
            stored = segment.stored
            log = stored.log
            killed += log.dead.add(segment.low, segment.high)
            log.taken.remove(segment.low, segment.high)
            self.holds.release(segment)
            if segment.group is not None:
                self.ready.groups.free(segment.group)
            if self._dead(stored):
                self._delete(stored)
        return killed

    def _delete(self, stored: StoredBatch) -> None:
        self._deletes.append(self.keys.batch(stored.log.id, stored.first))
        if stored.due:
            self._deletes.append(self.keys.due(stored.due, stored.log.id, stored.first))
        self.freed(stored.size)

    def freed(self, size: int, key: bytes | None = None) -> None:
        """Count `size` bytes as deleted; delete `key`, too, if given."""
        if key is not None:
            self._deletes.append(key)
        self.state.bytes = max(0, self.state.bytes - size)
        self.deleted_bytes += size

    def touch(self) -> None:
        """Have the state written."""
        self._state_changed = True

    def abandon(self) -> list[Reply]:
        """The queue is deleted: return the answers that now will not come true."""
        then, self._then = self._then, []
        self.appends.abandon()
        self._deletes = []
        return then

    def purge(self) -> int:
        """Kill everything that is stored; return how many messages that was."""
        killed = 0
        for log in self.logs.values():
            low = log.dead.ranges.first_gap(0)
            if low >= log.durable:
                continue
            killed += log.dead.add(0, log.durable)
            self.state.purges.append((log.id, low, log.durable))
            log.taken = RangeSet()
            log.cursor, log.aligned = log.durable, True
        self.ready.clear(again=True)
        self.holds.clear()
        self.ready.groups = Groups()
        self.due = DueTimes()
        self.undue, self.moving, self.exhausted = 0, 0, []
        self.touch()
        return killed

    # --- figures ---------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Return how many messages are ready, delayed and in flight."""
        live = sum(log.live for log in self.logs.values())
        in_flight = self.holds.in_flight + self.moving
        delayed = self.holds.delayed + self.undue
        return max(0, live - in_flight - delayed), delayed, in_flight

    @property
    def idle(self) -> bool:
        """Whether nothing of this partition needs to stay in memory."""
        return not (self.unsaved or self.holds or self.holds.unsaved or self.exhausted or self.state.purges)

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
        while self.ready.again < MAX_DUE and (popped := self.due.pop_due(now.wall)):
            woke = True
            for batch in popped:
                self._come_due(batch)
        return woke

    def _come_due(self, batch: DueBatch) -> None:
        log = self.logs.get(batch.log)
        if log is None:
            return
        pieces = log.open_pieces(batch.first, batch.first + batch.messages)
        stored = StoredBatch(
            log,
            batch.first,
            batch.messages,
            size=batch.size,
            sent_at=batch.sent_at,
            due=batch.due,
            batch=None,
        )
        if pieces:
            heapq.heappush(self._came_due, (batch.due, id(stored), stored))
        for low, high in pieces:
            self.undue = max(0, self.undue - (high - low))
            log.taken.add(low, high)
            self.ready.add_again(Segment(stored, low, high))

    def next_deadline(self, now: Now) -> float:
        """Return when `tick` is to be called (running time), math.inf: never."""
        due = self.due.next_due()
        at = (
            math.inf if due == math.inf or self.ready.again >= MAX_DUE else max(now.run, now.run_at(int(due)))
        )
        return min(self.holds.next_due(), at)

    # --- the disk --------------------------------------------------------------------------------

    def after_write(self, reply: Reply) -> None:
        """Keep `reply` until all that was changed so far is on disk."""
        self._then.append(reply)

    @property
    def unsaved(self) -> bool:
        """Whether something waits for a synced write."""
        return bool(self.appends or self._then or self._deletes or self._state_changed or self.dedup.unsaved)

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
        self._deletes, self._then = [], []
        self._state_changed = False
        return Collected(self, appended, then)

    def _due_low(self, soonest: float) -> int:
        """Return the time before which no living batch is due: where a start begins to read."""
        while self._came_due and self._dead(self._came_due[0][2]):
            heapq.heappop(self._came_due)
        low = min(self.due.low(), self._came_due[0][0] if self._came_due else math.inf, soonest)
        return self.state.due_low if low == math.inf else int(low)

    @staticmethod
    def _dead(stored: StoredBatch) -> bool:
        return stored.log.dead.ranges.covers(stored.first, stored.end)

    def written(self, collected: Collected) -> bool:
        """What was collected is on disk; return whether something became ready or due."""
        for stored in collected.appended:
            log = stored.log
            log.durable = stored.end
            self.counters.sent += stored.count
            if stored.due:
                stored.batch = None
                self.undue += stored.count
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
        """Whether all older logs were read to their ends, so that `log` is the one to read from."""
        return all(o is log or o.delayed or o.cursor >= o.durable for o in self.logs.values())

    def show(self, stored: StoredBatch, pieces: list[tuple[int, int]]) -> None:
        """Make messages of a batch that is in memory ready."""
        batch = stored.batch
        assert batch is not None
        fifo = self.settings.ordering == "fifo"
        if not fifo and "g" not in batch.metadata:
            for low, high in pieces:
                self.ready.add(Segment(stored, low, high))
            return
        for low, high in pieces:
            for seq in range(low, high):
                group = batch.value("g", seq - stored.first)
                if group is None and fifo:
                    group = ""
                self.ready.add(Segment(stored, seq, seq + 1, group=group))
