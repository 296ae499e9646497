"""Deliveries: who has which messages, hidden until when; and the notes that keep this over a restart.

Notes are written without waiting and without fsync, so that they cost nothing and only those of the
last instants can be lost in a crash (design, N1); a delivery that is settled before its note was due
to be written is never written at all.  A nack's note is the exception: the answer waits for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from dmqnode.clock import Now
from dmqnode.deadlines import Deadlines
from dmqnode.ids import LogId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Segment, SegmentMap
from dmqnode.records import Note, NotedSegment, encode_note
from storage.ops import WriteBatch


class Hold:
    """Messages hidden from consumers until `until` (running time).

    `delivery` is 0 for messages that nobody has: nacked, they wait for their delay.
    """

    __slots__ = ("counter", "delivery", "holder", "segments", "slot", "until")

    def __init__(
        self, slot: int, counter: int, delivery: int, holder: str, until: float, segments: list[Segment]
    ):
        self.slot = slot
        self.counter = counter
        self.delivery = delivery
        self.holder = holder
        self.until = until
        self.segments = SegmentMap(segments)


class Holds:
    """All holds of one partition, and the slots of their notes."""

    def __init__(self) -> None:
        self._by_delivery: dict[int, list[Hold]] = {}
        self._delayed: dict[int, Hold] = {}
        self._due: Deadlines[Hold] = Deadlines()
        self._counter = 0
        self._slots = 0
        self._free: list[int] = []
        self._users: dict[int, int] = {}
        self._unsaved: dict[int, Note | Hold | None] = {}
        self._saved: set[int] = set()
        self.in_flight = 0
        self.delayed = 0

    def __len__(self) -> int:
        return len(self._by_delivery) + len(self._delayed)

    @property
    def unsaved(self) -> bool:
        return bool(self._unsaved)

    @property
    def noted(self) -> int:
        """Messages that some note speaks of."""
        return sum(self._users.values())

    def __iter__(self) -> Iterator[Hold]:
        for holds in self._by_delivery.values():
            yield from holds
        yield from self._delayed.values()

    # --- opening ---------------------------------------------------------------------------------

    def deliver(self, delivery: int, holder: str, until: float, segments: list[Segment]) -> None:
        """Note that a consumer has `segments` until `until`."""
        hold = self._open(delivery, holder, until, segments)
        self._by_delivery.setdefault(delivery, []).append(hold)
        self.in_flight += hold.segments.size

    def delay(self, until: float, segments: list[Segment]) -> None:
        """Note that nobody gets `segments` before `until`; -inf: at once."""
        hold = self._open(0, "", until, segments)
        self._delayed[hold.slot] = hold
        self.delayed += hold.segments.size

    def give_up(self, reason: str, to: str, segments: list[Segment]) -> None:
        """Note that `segments` are to move to another queue, whoever leads (N3).

        Once this is on the homes' disks nobody else gets them, and no receipt of them counts.
        """
        for segment in segments:
            self.release(segment)
        slot = self._take_slot()
        self._counter += 1
        for segment in segments:
            segment.slot = slot
        self._users[slot] = sum(map(len, segments))
        self._unsaved[slot] = Note(self._counter, 0, 0, reason, _noted(segments), to=to)

    def _open(self, delivery: int, holder: str, until: float, segments: list[Segment]) -> Hold:
        for segment in segments:
            self.release(segment)
        slot = self._take_slot()
        self._counter += 1
        hold = Hold(slot, self._counter, delivery, holder, until, segments)
        for segment in segments:
            segment.slot = slot
        self._users[slot] = hold.segments.size
        self._unsaved[slot] = hold
        self._due.set(hold, until)
        return hold

    def restore(self, now: Now, note: Note, slot: int, segments: list[Segment]) -> None:
        """Take up what a note said before the restart."""
        self._counter = max(self._counter, note.counter)
        if note.given_up:
            for segment in segments:
                segment.slot = slot
            self._users[slot] = sum(map(len, segments))
            return
        until = now.run_at(note.until) if note.until else float("-inf")
        if note.remaining:
            # The wall clock may have been set back meanwhile.
            until = min(until, now.run + note.remaining / 1000)
        hold = Hold(slot, note.counter, note.delivery, note.holder, until, segments)
        for segment in segments:
            segment.slot = slot
        self._users[slot] = hold.segments.size
        if note.delivery:
            self._by_delivery.setdefault(note.delivery, []).append(hold)
            self.in_flight += hold.segments.size
        else:
            self._delayed[slot] = hold
            self.delayed += hold.segments.size
        self._due.set(hold, until)

    def adopt_slots(self, used: dict[int, int], counter: int) -> None:
        """After a restart: these slots are on disk; value 0 says that nothing of the note still matters."""
        self._slots = max(used, default=-1) + 1
        self._counter = max(self._counter, counter)
        self._saved = set(used)
        for slot in range(self._slots):
            if not used.get(slot):
                self._drop_slot(slot)

    # --- settling --------------------------------------------------------------------------------

    def has(self, delivery: int) -> bool:
        """Tell whether something of a delivery is still out."""
        return delivery in self._by_delivery

    def count(self, delivery: int, log: LogId, low: int, high: int) -> int:
        """Return how many messages within low … high - 1 of a log a delivery has."""
        return sum(h.segments.count(log, low, high) for h in self._by_delivery.get(delivery, ()))

    def settle(self, delivery: int, log: LogId, low: int, high: int) -> list[Segment]:
        """End the hold of `delivery` on messages of a log; return the segments that it still had."""
        taken: list[Segment] = []
        for hold in list(self._by_delivery.get(delivery, ())):
            taken += hold.segments.take(log, low, high)
            if not hold.segments.size:
                self._end(hold)
        self.in_flight -= sum(map(len, taken))
        return taken

    def extend(self, delivery: int, log: LogId, low: int, high: int, until: float) -> int:
        """Hide messages until `until`; return how many there were."""
        found = 0
        for hold in list(self._by_delivery.get(delivery, ())):
            segments = hold.segments.take(log, low, high)
            size = sum(map(len, segments))
            if not size:
                continue
            found += size
            if hold.segments.size:
                self.in_flight -= size
                self.deliver(delivery, hold.holder, until, segments)
            else:
                hold.segments = SegmentMap(segments)
                hold.until = until
                self._unsaved[hold.slot] = hold
                self._due.set(hold, until)
        return found

    def _end(self, hold: Hold) -> None:
        """Remove a hold whose segments are gone from it; its note lives on while messages need it."""
        self._due.cancel(hold)
        if hold.delivery:
            holds = self._by_delivery[hold.delivery]
            holds.remove(hold)
            if not holds:
                del self._by_delivery[hold.delivery]
        else:
            del self._delayed[hold.slot]

    def next_due(self) -> float:
        """Return when the first hold ends, math.inf if there is none."""
        return self._due.next()

    def pop_due(self, now: float) -> list[Segment]:
        """End the holds whose time has come; return their segments, which keep their notes."""
        ended: list[Segment] = []
        for hold in self._due.pop_due(now):
            segments = list(hold.segments)
            if hold.delivery:
                self.in_flight -= hold.segments.size
            else:
                self.delayed -= hold.segments.size
            self._end(hold)
            if hold.slot in self._unsaved:
                self._unsaved[hold.slot] = _note(hold, 0)
            hold.segments = SegmentMap([])
            ended += segments
        return ended

    # --- notes -----------------------------------------------------------------------------------

    def release(self, segment: Segment) -> None:
        """A segment is dead, or has a newer note: its old note need not speak of it."""
        slot = segment.slot
        if slot is None:
            return
        segment.slot = None
        self._users[slot] -= len(segment)
        if not self._users[slot]:
            self._drop_slot(slot)

    def clear(self) -> None:
        """Every message is dead: no hold and no note matters."""
        self._by_delivery.clear()
        self._delayed.clear()
        self._due = Deadlines()
        for slot in list(self._users):
            self._drop_slot(slot)
        self.in_flight = self.delayed = 0

    def _take_slot(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._slots += 1
        return self._slots - 1

    def _drop_slot(self, slot: int) -> None:
        self._users.pop(slot, None)
        heapq.heappush(self._free, slot)
        if slot in self._saved:
            self._unsaved[slot] = None
        else:
            self._unsaved.pop(slot, None)

    def save(self, now: Now, keys: PartitionKeys, ops: WriteBatch) -> None:
        """Write the notes that changed."""
        for slot, known in self._unsaved.items():
            if known is None:
                ops.delete(keys.note(slot))
                self._saved.discard(slot)
                continue
            if isinstance(known, Hold):
                until = max(1, now.wall_at(known.until)) if known.until > now.run else 0
                known = _note(known, until)
                known.remaining = max(0, until - now.wall)
            ops.put(keys.note(slot), encode_note(known))
            self._saved.add(slot)
        self._unsaved.clear()


def _note(hold: Hold, until: int) -> Note:
    return Note(hold.counter, hold.delivery, until, hold.holder, _noted(hold.segments))


def _noted(segments: Iterable[Segment]) -> list[NotedSegment]:
    return [
        NotedSegment(
            s.stored.log.id,
            s.stored.first,
            s.stored.count,
            s.stored.size,
            s.stored.sent_at,
            s.stored.due,
            s.low,
            s.high,
            s.attempt,
            s.group,
        )
        for s in segments
    ]
