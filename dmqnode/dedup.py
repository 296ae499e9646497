"""Recognising a send that was made before: by producer and sequence, or by dedup id (design, C5).

A client repeats a send whose outcome it does not know under the same producer id and sequence; a user
repeats one under the same dedup id.  Both are remembered for five minutes, on disk too, by the minute
in which they came; and for longer, within bounds, while a node is away that may bring the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any, NamedTuple

import cbor2

from dmqnode.counters import Counters
from dmqnode.ids import LogId
from dmqnode.keys import PartitionKeys
from dmqnode.ranges import RangeSet
from storage.ops import WriteBatch

WINDOW_MINUTES = 5
MAX_NAMES = 200_000
"""Dedup ids that one partition remembers; further sends with one are refused until some are forgotten."""
MAX_UNSETTLED = 4096
"""Sends of one producer whose outcomes it has not said to know; beyond, its next is refused."""
MAX_EARLIER = 4
"""Messages that are remembered under one name besides the last, each outside of the window of the others."""
MAX_TOLD = 64
"""Ranges of settled sequences that are remembered of one producer."""
MAX_PRODUCERS = 50_000
"""Producers that one partition remembers; beyond, the one silent longest is forgotten and counted."""
PRODUCER_BYTES, SEND_BYTES, NAME_BYTES = 1200, 200, 220
"""What a producer, one of its sends, and a dedup id take in memory, about."""

Runs = list[tuple[LogId, int, int]]
_PRODUCER = b"p"
_NAMES = b"n"


class Placed(NamedTuple):
    """Where a message with a dedup id went, and when (minute)."""

    log: LogId
    seq: int
    minute: int


class Producer:
    """What is remembered of one producer."""

    __slots__ = ("floor", "inherited", "kept", "minute", "runs", "saved", "told")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self.saved: int | None = None
        """The minute of its stored record, which says everything: there is one only."""
        self.floor = 0
        self.runs: dict[int, Runs] = {}
        """Where the send of each sequence not yet settled went."""
        self.told = RangeSet()
        """The settled sequences that came here: a stand-in may bring one of them once more."""
        self.kept: dict[int, Runs] = {}
        """Where sends went that a stand-in had taken in: another stand-in may have taken in the same."""
        self.inherited: set[int] = set()
        """Sends that an earlier leader took in, perhaps unanswered, or this one, and nobody followed it: a
        stand-in, or the next leader, may have, too."""

    def settle(self, sequence: int) -> None:
        """The outcome of a send was told; that it came here is remembered, and where, if that is not sure."""
        runs = self.runs.pop(sequence)
        if sequence in self.inherited:
            self.inherited.discard(sequence)
            self.keep(sequence, self.kept.get(sequence, runs))
            return
        self.told.add(sequence, sequence + 1)
        while len(self.told) > MAX_TOLD:
            low, high = next(iter(self.told))
            self.told.remove(low, high)

    def keep(self, sequence: int, runs: Runs) -> None:
        """Remember where a send went that somebody else may bring once more."""
        self.kept[sequence] = runs
        if len(self.kept) > MAX_UNSETTLED:
            del self.kept[next(iter(self.kept))]


class Dedup:
    """What one partition remembers of recent sends.

    `certain` tells whether messages that this leader took in are on enough disks.
    """

    def __init__(self, counters: Counters, certain: Callable[[Runs], bool] = lambda runs: True) -> None:
        self._counters = counters
        self._certain = certain
        self._producers: dict[bytes, Producer] = {}
        self._names: dict[str, Placed] = {}
        self._earlier: dict[str, list[Placed]] = {}
        """Where messages went under names that were used again since, outside of the window of these."""
        self._keys: dict[int, set[bytes]] = {}
        """Names of the stored records, by minute."""
        self._dirty: dict[bytes, None] = {}
        self._new_names: list[tuple[str, Placed]] = []
        self._gone: list[tuple[int, bytes]] = []
        self.low = 0
        """The lowest minute of which something may be stored."""
        self.size = 0
        """Bytes of memory that all this took, about, after the last sweep."""

    def __len__(self) -> int:
        return len(self._producers) + len(self._names) + len(self._earlier)

    @property
    def unsaved(self) -> bool:
        return bool(self._dirty or self._new_names or self._gone)

    # --- producers -------------------------------------------------------------------------------

    def settled(self, producer: bytes, sequence: int) -> bool:
        """Tell whether the outcome of a send was told, so that it is forgotten."""
        known = self._producers.get(producer)
        return known is not None and sequence < known.floor

    def told(self, producer: bytes, sequence: int) -> bool:
        """Tell whether a send came here, not by a stand-in, and its outcome was told."""
        known = self._producers.get(producer)
        return known is not None and sequence in known.told

    def crowded(self, producer: bytes, sequence: int, floor: int) -> bool:
        """Tell whether one more send of `producer` is one too many."""
        known = self._producers.get(producer)
        if known is None or len(known.runs) < MAX_UNSETTLED or sequence in known.runs:
            return False
        return sum(n >= floor for n in known.runs) >= MAX_UNSETTLED

    def find(self, producer: bytes, sequence: int) -> Runs | None:
        """Return where the send `sequence` of `producer` went, None if it is new."""
        known = self._producers.get(producer)
        return None if known is None else known.runs.get(sequence) or known.kept.get(sequence)

    def kept_at(self, producer: bytes, sequence: int) -> Runs | None:
        """Return where a stand-in had taken a send in, which may owe it still; None if none is known."""
        known = self._producers.get(producer)
        return None if known is None else known.kept.get(sequence)

    def forget_places(self, lost: Mapping[LogId, RangeSet]) -> None:
        """Messages are lost: whoever repeats their sends sends anew."""
        for producer, known in self._producers.items():
            for found in (known.runs, known.kept):
                for sequence in [n for n, runs in found.items() if overlaps(lost, runs)]:
                    del found[sequence]
                    self._dirty[producer] = None
        self._keep_names(lambda placed: not overlaps(lost, [(placed.log, placed.seq, 1)]))

    def _keep_names(self, keep: Callable[[Placed], bool]) -> None:
        for name in [n for n, places in self._earlier.items() if not all(map(keep, places))]:
            self._earlier[name] = [placed for placed in self._earlier[name] if keep(placed)]
            if not self._earlier[name]:
                del self._earlier[name]
        for name in [n for n, placed in self._names.items() if not keep(placed)]:
            del self._names[name]

    def remember(
        self,
        minute: int,
        producer: bytes,
        sequence: int,
        floor: int,
        runs: Runs,
        *,
        kept: bool = False,
        inherited: bool = False,
    ) -> None:
        """Remember a send; forget those below `floor`, whose outcomes the producer knows.

        Arguments:
            kept: a stand-in had taken it in.
            inherited: an earlier leader had.
        """
        known = self._producers.pop(producer, None) or Producer(minute)
        self._producers[producer] = known
        known.minute = max(known.minute, minute)
        if floor > known.floor:
            known.floor = floor
            # They come in order, but for repetitions: what is settled stands in front.
            for settled in list(takewhile(lambda n: n < floor, known.runs)):
                if not self._certain(known.runs[settled]):
                    # Its outcome was learnt elsewhere: it went another way, too.
                    known.inherited.add(settled)
                known.settle(settled)
        if kept:
            known.keep(sequence, runs)
        else:
            known.runs[sequence] = runs
            if inherited:
                known.inherited.add(sequence)
        self._dirty[producer] = None
        if len(self._producers) > MAX_PRODUCERS:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self._forget_producer(next(iter(self._producers)))
        self._counters.forgotten += 1

    def _forget_producer(self, producer: bytes) -> None:
        del self._producers[producer]
        self._dirty.pop(producer, None)

    # --- dedup ids -------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return len(self._names) >= MAX_NAMES

    def find_name(self, name: str, minute: int) -> Placed | None:
        """Return where the message with dedup id `name` went, None if there was none lately.

        Arguments:
            minute: in which the message came that is asked for: what came more than the window before or
                behind it is another one, though it may still be remembered.
        """
        placed = self._names.get(name)
        if placed is not None and abs(minute - placed.minute) <= WINDOW_MINUTES:
            return placed
        earlier = self._earlier.get(name)
        if not earlier:
            return None
        return next((p for p in reversed(earlier) if abs(minute - p.minute) <= WINDOW_MINUTES), None)

    def remember_name(self, name: str, log: LogId, seq: int, minute: int, *, late: bool = False) -> None:
        """Remember where the message with dedup id `name` goes.

        Arguments:
            late: it was sent before, in `minute`; what came since under its name stays the one that is known.
        """
        placed, known = Placed(log, seq, minute), self._names.get(name)
        if known == placed:
            return  # a debt that is offered again
        if known is not None and known.minute - minute > WINDOW_MINUTES:
            if not self._name_earlier(name, placed):
                return
        elif late and known is not None and known.minute > minute:
            return
        else:
            self._name(name, placed)
        self._new_names.append((name, placed))
        if len(self._names) > 2 * MAX_NAMES:
            # Only moves between queues come so far: they are not refused.
            del self._names[next(iter(self._names))]

    def _name(self, name: str, placed: Placed) -> None:
        """Of a name hold where its last message went; and where one did that is remembered for long (C5)."""
        before = self._names.pop(name, None)
        if before is not None and placed.minute - before.minute > WINDOW_MINUTES:
            self._name_earlier(name, before)
        self._names[name] = placed

    def _name_earlier(self, name: str, placed: Placed) -> bool:
        """Hold where another message went under a name; tell whether that is new."""
        places = self._earlier.setdefault(name, [])
        if placed in places:
            return False
        places.append(placed)
        places.sort(key=lambda p: p.minute)
        del places[:-MAX_EARLIER]
        return True

    # --- forgetting ------------------------------------------------------------------------------

    def sweep(self, minute: int, *, awaited: bool = False, share: float = 1.0) -> None:
        """Forget what came more than the window before `minute`.

        Arguments:
            awaited: somebody may still bring a send that was repeated before: forget only so much of it that
                half of all the room is left for others.
            share: how much of all that is remembered may stay, if it is awaited.
        """
        limit = minute - WINDOW_MINUTES
        if awaited:
            limit = min(limit, self._crowd(share))
        for producer in [p for p, known in self._producers.items() if known.minute < limit]:
            self._forget_producer(producer)
        self._keep_names(lambda placed: placed.minute >= limit)
        for old in [m for m in self._keys if m < limit]:
            self._gone += ((old, key) for key in self._keys.pop(old))
        if limit > self.low and (self._keys or self._gone):
            self.low = limit
        sends = sum(len(p.runs) + len(p.kept) for p in self._producers.values())
        names = len(self._names) + sum(1 + len(places) for places in self._earlier.values())
        self.size = PRODUCER_BYTES * len(self._producers) + SEND_BYTES * sends + NAME_BYTES * names

    def _crowd(self, share: float) -> int:
        """Return before which minute all is to be forgotten, so that half of the room is left; 0: nothing."""
        limit = 0
        for remembered, most in ((self._producers, MAX_PRODUCERS), (self._names, MAX_NAMES)):
            excess = len(remembered) - min(most // 2, int(len(remembered) * share))
            if excess > 0:
                limit = max(limit, sorted(known.minute for known in remembered.values())[excess - 1] + 1)
        return limit

    # --- on disk ---------------------------------------------------------------------------------

    def load(self, minute: int, name: bytes, record: bytes) -> None:
        """Take in one stored record; to be called in the order of minutes."""
        self._keys.setdefault(minute, set()).add(name)
        found = cbor2.loads(record)
        if name[:1] == _PRODUCER:
            known = self._producers.pop(name[1:], None) or Producer(minute)
            known.minute = known.saved = minute
            self._producers[name[1:]] = known
            self._merge(known, found)
            if len(self._producers) > MAX_PRODUCERS:
                self._forget_oldest()
        else:
            for text, log, seq in found:
                self._name(text, Placed(LogId(log), seq, minute))

    def _merge(self, known: Producer, found: list[Any]) -> None:
        """Add what a later record says to what is known; the two may be of two leaders."""
        floor, runs, *rest = found
        known.floor = max(known.floor, floor)
        for sequence, places in runs.items():
            known.runs[sequence] = [(LogId(a), b, c) for a, b, c in places]
        for low, high in RangeSet.decode(rest[0]) if rest else ():
            known.told.add(low, high)
        for sequence, places in rest[1].items() if rest else ():
            known.kept[sequence] = [(LogId(a), b, c) for a, b, c in places]
        known.runs = dict(sorted(known.runs.items()))
        known.inherited.update(known.runs)
        for sequence in list(takewhile(lambda n: n < known.floor, known.runs)):
            known.settle(sequence)

    def save(self, keys: PartitionKeys, ops: WriteBatch) -> None:
        """Write what changed since the last save."""
        for producer in self._dirty:
            known = self._producers[producer]
            name = _PRODUCER + producer
            if known.saved is not None and known.saved != known.minute:
                ops.delete(keys.sent(known.saved, name))
                self._keys.get(known.saved, set()).discard(name)
            known.saved = known.minute
            self._keys.setdefault(known.minute, set()).add(name)
            self.low = min(self.low, known.minute)
            ops.put(keys.sent(known.minute, name), encode_producer(known))
        self._dirty.clear()
        by_minute: dict[int, list[tuple[str, Placed]]] = {}
        for text, placed in self._new_names:
            by_minute.setdefault(placed.minute, []).append((text, placed))
        for minute, names in by_minute.items():
            first, taken = names[0][1], self._keys.setdefault(minute, set())
            name = _NAMES + first.log + first.seq.to_bytes(8, "big")
            while name in taken:  # by an earlier group, in which other names are, too
                name += b"\x00"
            taken.add(name)
            self.low = min(self.low, minute)
            ops.put(keys.sent(minute, name), cbor2.dumps([[text, p.log, p.seq] for text, p in names]))
        self._new_names = []
        for minute, name in self._gone:
            ops.delete(keys.sent(minute, name))
        self._gone = []


def overlaps(ranges: Mapping[LogId, RangeSet], runs: Runs) -> bool:
    """Tell whether some of the messages at these places are among those in `ranges`."""
    return any(log in ranges and ranges[log].overlap(first, first + count) for log, first, count in runs)


def encode_producer(known: Producer) -> bytes:
    """Return the record of what is remembered of a producer."""
    return cbor2.dumps([known.floor, known.runs, known.told.encode(), known.kept])


def join_runs(places: list[tuple[LogId, int]]) -> Runs:
    """Return (log, first, count) runs for messages given one by one."""
    runs: Runs = []
    for log, seq in places:
        if runs and runs[-1][0] == log and runs[-1][1] + runs[-1][2] == seq:
            runs[-1] = (log, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((log, seq, 1))
    return runs
