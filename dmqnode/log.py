"""A partition's logs: what was appended, what of it is dead, how far it was read.

A log is append-only and belongs to one run of one acceptor.  Live = held minus dead.  The dead set is a
RangeSet; replicas merge it by union (see `smallrows`), so nothing deleted ever comes back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from dmqnode.batch import Batch
from dmqnode.ids import LogId
from dmqnode.keys import PartitionKeys
from dmqnode.ranges import RangeSet
from storage.ops import WriteBatch

REWRITE_BELOW = 32
"""Ranges up to which a dead set is written whole: cheaper than a delta and its folding."""


class DeadSet:
    """A log's dead set and how it is kept on disk.

    A small set is written whole each time.  A large one is written as deltas, folded into a new base
    once they hold as many ranges as the base: each range is written O(1) times on average.
    """

    __slots__ = ("_base_ranges", "_delta_ranges", "_deltas", "_unsaved", "ranges")

    def __init__(self) -> None:
        self.ranges = RangeSet()
        self._unsaved: list[tuple[int, int]] = []
        self._deltas = 0
        self._delta_ranges = 0
        self._base_ranges = 0

    @property
    def unsaved(self) -> bool:
        return bool(self._unsaved)

    def add(self, low: int, high: int) -> int:
        """Add low … high - 1; return how many were new."""
        new = self.ranges.add(low, high)
        if new:
            self._unsaved.append((low, high))
        return new

    def load(self, number: int, record: bytes) -> None:
        """Take in one stored record: the base (0) or a delta."""
        loaded = RangeSet.decode(record)
        for low, high in loaded:
            self.ranges.add(low, high)
        if number:
            self._deltas = max(self._deltas, number)
            self._delta_ranges += len(loaded)
        else:
            self._base_ranges = len(loaded)

    def forget(self, keys: PartitionKeys, log: LogId, ops: WriteBatch) -> None:
        """Delete the stored records; the log is closed and needs none."""
        for number in range(self._deltas + 1):
            ops.delete(keys.dead(log, number))

    def save(self, keys: PartitionKeys, log: LogId, ops: WriteBatch) -> None:
        """Write what changed since the last save."""
        if not self._unsaved:
            return
        if len(self.ranges) <= REWRITE_BELOW or self._delta_ranges >= max(self._base_ranges, REWRITE_BELOW):
            ops.put(keys.dead(log, 0), self.ranges.encode())
            for number in range(1, self._deltas + 1):
                ops.delete(keys.dead(log, number))
            self._deltas, self._delta_ranges, self._base_ranges = 0, 0, len(self.ranges)
        else:
            delta = RangeSet(self._unsaved)
            self._deltas += 1
            self._delta_ranges += len(delta)
            ops.put(keys.dead(log, self._deltas), delta.encode())
        self._unsaved.clear()


class Log:
    """One log of one partition, as one node holds it.

    `end` is the next seq to give out, `durable` how far it is on disk, `cursor` how far it was read
    ahead.  `taken` are the messages below the cursor that are not in the read-ahead window although
    they live: in flight, or waiting for their next delivery.
    """

    __slots__ = (
        "aligned",
        "arrivals",
        "cursor",
        "dead",
        "delayed",
        "durable",
        "end",
        "gaps",
        "id",
        "opened_at",
        "taken",
    )

    def __init__(self, id_: LogId, opened_at: int, *, delayed: bool, end: int = 0) -> None:
        self.id = id_
        self.opened_at = opened_at
        self.delayed = delayed
        self.end = end
        self.durable = end
        self.cursor = 0
        self.aligned = True
        """Whether the cursor stands on a batch's first message."""
        self.dead = DeadSet()
        self.taken = RangeSet()
        self.gaps = RangeSet()
        """What lives, or may live, and is not held here: to be fetched from another home."""
        self.arrivals = 0
        """How often some of that has come: a read that began before has not seen it."""

    @property
    def live(self) -> int:
        """How many durable messages are not dead."""
        return self.durable - self.dead.ranges.size - self.gaps.size

    @property
    def all_read(self) -> bool:
        """Whether nothing that lives and is on disk lies ahead of the cursor."""
        return self.cursor >= self.durable or self.dead.ranges.first_gap(self.cursor) >= self.durable

    @property
    def unsettled(self) -> bool:
        """Whether something that was appended, be it on disk or not, is not dead."""
        return self.end > self.dead.ranges.size

    def open_pieces(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the ranges of low … high - 1 that are held here, neither dead nor taken."""
        pieces = []
        for a, b in self.dead.ranges.gaps(low, high):
            pieces += self.taken.gaps(a, b)
        if not self.gaps.size:
            return pieces
        return [piece for a, b in pieces for piece in self.gaps.gaps(a, b)]

    def rewind(self, to: int) -> None:
        """Read again from `to` on: what was read ahead is dropped."""
        if to < self.cursor:
            self.cursor = to
            self.aligned = False


class StoredBatch:
    """Where one batch lies, and its messages while they are in memory."""

    __slots__ = ("batch", "count", "due", "first", "log", "sent_at", "size")

    def __init__(
        self, log: Log, first: int, count: int, *, size: int, sent_at: int, due: int, batch: Batch | None
    ):
        self.log = log
        self.first = first
        self.count = count
        self.size = size
        self.sent_at = sent_at
        self.due = due
        self.batch = batch

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def dead(self) -> bool:
        """Whether all its messages are dead."""
        return self.log.dead.ranges.covers(self.first, self.end)

    @property
    def over(self) -> bool:
        """Whether none of its messages lives here: each is dead, or lacking until it is fetched."""
        gaps = self.log.gaps
        return all(gaps.covers(low, high) for low, high in self.log.dead.ranges.gaps(self.first, self.end))


class Segment:
    """Neighbouring messages of one batch that share a fate: low … high - 1, delivered `attempt` times.

    `group`: the group of its one message, or None.  `slot`: the note that speaks of it, or None.
    """

    __slots__ = ("attempt", "group", "high", "low", "slot", "stored")

    def __init__(self, stored: StoredBatch, low: int, high: int, attempt: int = 0, group: str | None = None):
        self.stored = stored
        self.low = low
        self.high = high
        self.attempt = attempt
        self.group = group
        self.slot: int | None = None

    def __len__(self) -> int:
        return self.high - self.low

    def cut(self, low: int, high: int) -> Segment:
        """Return the part low … high - 1 as a segment of its own."""
        part = Segment(self.stored, low, high, self.attempt, self.group)
        part.slot = self.slot
        return part


class SegmentMap:
    """Segments by where they are, for settling by (log, seq): per log in ascending order."""

    __slots__ = ("_logs", "size")

    def __init__(self, segments: list[Segment]) -> None:
        self._logs: dict[LogId, tuple[list[int], list[Segment]]] = {}
        self.size = 0
        for segment in segments:
            self._insert(segment)

    def __iter__(self) -> Iterator[Segment]:
        for _, segments in self._logs.values():
            yield from segments

    def _insert(self, segment: Segment) -> None:
        lows, segments = self._logs.setdefault(segment.stored.log.id, ([], []))
        at = len(lows) if not lows or lows[-1] < segment.low else bisect_right(lows, segment.low)
        lows.insert(at, segment.low)
        segments.insert(at, segment)
        self.size += len(segment)

    def count(self, log: LogId, low: int, high: int) -> int:
        """Return how many messages within low … high - 1 of a log there are."""
        if log not in self._logs:
            return 0
        lows, segments = self._logs[log]
        found = 0
        for segment in segments[max(0, bisect_right(lows, low) - 1) :]:
            if segment.low >= high:
                break
            found += max(0, min(high, segment.high) - max(low, segment.low))
        return found

    def take(self, log: LogId, low: int, high: int) -> list[Segment]:
        """Remove and return what lies within low … high - 1 of a log, cut where needed."""
        if log not in self._logs:
            return []
        lows, segments = self._logs[log]
        first = max(0, bisect_right(lows, low) - 1)
        if first < len(segments) and segments[first].high <= low:
            first += 1
        last = first
        taken: list[Segment] = []
        rest: list[Segment] = []
        while last < len(segments) and segments[last].low < high:
            segment = segments[last]
            a, b = max(low, segment.low), min(high, segment.high)
            taken.append(segment if len(segment) == b - a else segment.cut(a, b))
            if segment.low < a:
                rest.append(segment.cut(segment.low, a))
            if b < segment.high:
                rest.append(segment.cut(b, segment.high))
            last += 1
        lows[first:last] = [s.low for s in rest]
        segments[first:last] = rest
        self.size -= sum(map(len, taken))
        if not lows:
            del self._logs[log]
        return taken


def certain(logs: Mapping[LogId, Log], runs: Iterable[tuple[LogId, int, int]]) -> bool:
    """Tell whether messages at (log, first, count) that were taken in here are on enough disks, or dead."""
    return all(log not in logs or first + count <= logs[log].durable for log, first, count in runs)
