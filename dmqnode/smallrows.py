"""The small records of a partition's copy, as values: everything that describes it but the batches.

    l log …   d dead sets …   n notes …   s state   u names of recent sends …   m the roster (one partition)

A leader sends them to a copy that is to follow (`Align`), homes show them to a new leader (`Summary`), and
`merge` makes of what a majority shows the records with which the new leader begins.  Dead sets are united:
nothing that anybody knows to be dead comes back, but in a fifo queue what a copy holds that followed further.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import cbor2

from dmqnode.dedup import Runs
from dmqnode.errors import ProtocolError
from dmqnode.homesets import NO_LEASE, LeaseNumber
from dmqnode.ids import LOG_ID_SIZE, LogId, NodeId
from dmqnode.keys import PartitionKeys
from dmqnode.ranges import RangeSet
from dmqnode.records import State, decode_log, decode_state, encode_log, encode_state
from dmqnode.repeats import Repeats, join_rows, without

Rows = dict[bytes, bytes]
"""Key behind the partition's prefix -> record."""
Gaps = dict[LogId, RangeSet]
"""Per log, what lives or may live and is not held."""
Stale = dict[LogId, RangeSet]
"""Per log, what is dead and may still be on disk."""
Stamp = tuple[LeaseNumber, int]
"""Up to which entry of which lease a copy has followed."""
NO_STAMP: Stamp = (NO_LEASE, 0)


@dataclass(slots=True)
class Described:
    """What small records say."""

    rows: Rows
    logs: dict[LogId, tuple[int, bool]] = field(default_factory=dict)
    """Open logs: (opened_at, delayed)."""
    closed: dict[LogId, int] = field(default_factory=dict)
    dead: dict[LogId, RangeSet] = field(default_factory=dict)
    state: State = field(default_factory=State)

    def end(self, log: LogId) -> int:
        """Return how far a log goes, as far as this copy knows."""
        if log in self.closed:
            return self.closed[log]
        dead = self.dead.get(log)
        return max(self.state.ends.get(log, 0), dead.end if dead is not None else 0)

    @property
    def known(self) -> list[LogId]:
        """The logs that are open, as far as this copy knows: damage may have taken the record of one."""
        return list(dict.fromkeys((*self.logs, *(log for log in self.state.ends if log not in self.closed))))

    def missing_from(self, log: LogId, end: int, dead: RangeSet, gaps: Gaps) -> RangeSet:
        """Return which of the first `end` messages of a log, those in `dead` aside, this copy lacks.

        What it took for dead it does not hold any more, should that not be so.
        """
        missing = RangeSet(dead.gaps(0, end))
        for low, high in self.held(log, end, gaps):
            missing.remove(low, high)
        return missing

    def ends_only(self) -> Described:
        """Return the same without what is dead: it stands to be led, and has died for nobody yet (F2)."""
        return replace(self, closed={}, dead={})

    def held(self, log: LogId, end: int, gaps: Gaps) -> list[tuple[int, int]]:
        """Return which of the first `end` messages of a log are on this copy's disk for certain."""
        without = RangeSet(gaps.get(log, ()))
        for low, high in self.dead.get(log, ()):
            without.add(low, high)
        return list(without.gaps(0, 0 if log in self.closed else min(end, self.end(log))))


def describe(rows: Rows) -> Described:
    """Read small records.  Errors: ProtocolError for records that mean nothing."""
    out = Described(rows)
    try:
        for key, record in rows.items():
            letter, rest = key[:1], key[1:]
            if letter == b"l":
                opened_at, delayed, end = decode_log(record)
                if end is None:
                    out.logs[LogId(rest)] = (opened_at, delayed)
                else:
                    out.closed[LogId(rest)] = end
            elif letter == b"d":
                dead = out.dead.setdefault(LogId(rest[:LOG_ID_SIZE]), RangeSet())
                for low, high in RangeSet.decode(record):
                    dead.add(low, high)
            elif letter == b"s":
                out.state = decode_state(record)
    except (ValueError, TypeError, KeyError, LookupError) as error:
        raise ProtocolError(f"the small records of a copy cannot be read: {error}") from error
    return out


@dataclass(slots=True)
class Shown:
    """What one home shows of its copy."""

    stamp: Stamp
    described: Described
    gaps: Gaps


def harmed(shown: Iterable[Shown]) -> bool:
    """Tell whether a copy has lost records to damage: it comes last, and may know more than the first."""
    return any(copy.stamp == NO_STAMP and copy.described.rows for copy in shown)


def certain(shown: Iterable[Shown]) -> bool:
    """Tell whether the copy that followed furthest may say alone what lives (F2): none has lost anything."""
    copies = list(shown)
    best = max(copies, key=lambda copy: copy.stamp)
    return b"s" in best.described.rows and not harmed(copies)


def merge(shown: Iterable[Shown], mine: Shown, *, sealed: bool = False) -> tuple[Rows, Gaps]:
    """Return the records with which a new leader begins, and what its own copy, `mine`, lacks of them.

    Arguments:
        shown: what a majority of the homes showed, `mine` included.
        sealed: what the copy that followed furthest does not know was never answered "stored", and dies (F2):
            it would come out behind later messages of its group.  And what that copy holds lives, whoever
            takes it for dead: a leader whose ends no majority ever had has not ended anything.

    Deliveries (notes) are those of the copy that followed furthest (N1); of several that followed as far the
    notes are the same, but for those that a disk has damaged, so that each makes up for the others.  That
    copy says, too, when a purge was: one that it does not know was not answered, and its time may be wrong.
    """
    copies = sorted(shown, key=lambda c: c.stamp, reverse=True)
    best = copies[0].described
    rows = {k: v for k, v in best.rows.items() if k[:1] in (b"n", b"u")}
    for copy in copies:
        if copy.stamp == copies[0].stamp:
            rows.update({k: v for k, v in copy.described.rows.items() if k[:1] == b"n"})
    sealed = sealed and certain(copies)
    state = _united_state(copies)
    logs: dict[LogId, tuple[int, bool]] = {}
    closed: dict[LogId, int] = {}
    repeats, ends, void = Repeats(), dict[LogId, int](), dict[LogId, RangeSet]()
    lacking = dict[LogId, RangeSet]()
    for at, copy in enumerate(copies):
        described = copy.described
        if not sealed and (elsewhere := repeats.elsewhere(described.rows)):
            described = sparing(described, elsewhere)
            copies[at] = copy = Shown(copy.stamp, described, copy.gaps)
        logs.update({k: v for k, v in described.logs.items() if k not in logs})
        closed.update({k: v for k, v in described.closed.items() if not (sealed and k in best.logs)})
        for key, record in described.rows.items():
            if key[:1] == b"u" and not sealed:
                known = rows.setdefault(key, record)
                if known != record:
                    rows[key] = join_rows(key, known, record)
        extra: dict[LogId, RangeSet] = {}
        for log in described.known:
            if (end := described.end(log)) > ends.get(log, 0):
                extra[log] = RangeSet([(ends.get(log, 0), end)])
                ends[log] = end
        for log, low, high in repeats.learn(described.rows, extra, lacking):
            void.setdefault(log, RangeSet()).add(low, high)
        _learn_lacking(lacking, copy, extra)
    if void:
        rows = without(rows, void)  # whoever repeats such a send is to find the place that lives
    rosters = [r for copy in copies if (r := copy.described.rows.get(b"m")) is not None]
    if rosters:
        rows[b"m"] = max(rosters, key=lambda record: int(cbor2.loads(record)[0]))
    gaps: Gaps = {}
    for log in [g for g, end in closed.items() if g in logs and ends.get(g, 0) > end]:
        void.setdefault(log, RangeSet()).add(
            0, closed.pop(log)
        )  # a stand-in brought more of it: it is open again
    for log, end in closed.items():
        rows[b"l" + log] = encode_log(logs.get(log, (0, False))[0], delayed=False, end=end)
    for log, (opened_at, delayed) in logs.items():
        if log in closed:
            continue
        dead = void.get(log, RangeSet())
        for low, high in _dead(log, copies, sealed=sealed):
            dead.add(low, high)
        end = max(copy.described.end(log) for copy in copies)
        if sealed and best.end(log) < end:
            dead.add(best.end(log), end)
        missing = mine.described.missing_from(log, end, dead, mine.gaps)
        if missing.size:
            gaps[log] = missing
        state.ends[log] = end
        rows[b"l" + log] = encode_log(opened_at, delayed=delayed)
        if dead.size:
            rows[b"d" + log + bytes(4)] = dead.encode()
    state.purges = [p for p in state.purges if p[0] in logs and p[0] not in closed]
    rows[b"s"] = encode_state(state)
    return rows, gaps


def _united_state(copies: list[Shown]) -> State:
    best = copies[0].described
    state = State(best.state.bytes, best.state.due_low, best.state.sent_low)
    stated = [copy.described.state for copy in copies if b"s" in copy.described.rows]
    state.purged_at = stated[0].purged_at if stated else 0
    for said in (copy.described.state for copy in copies):
        state.due_low = min(state.due_low, said.due_low)
        state.sent_low = min(state.sent_low, said.sent_low)
        state.purges += [p for p in said.purges if p not in state.purges]
    return state


def sparing(described: Described, places: Iterable[Runs]) -> Described:
    """Return the same without the deaths of some messages: they died for repeating what another leader knew.

    That one nobody had followed, or these were not known.
    """
    spared: Gaps = {}
    for log, first, count in (run for runs in places for run in runs):
        if log in described.dead or log in described.closed:
            spared.setdefault(log, RangeSet()).add(first, first + count)
    if not spared:
        return described
    logs, closed, dead = dict(described.logs), dict(described.closed), dict(described.dead)
    ends = dict(described.state.ends)
    for log, ranges in spared.items():
        died = RangeSet(dead.get(log, ()))
        if log in closed:
            end = closed[log]
            if not ranges.overlap(0, end):
                continue
            del closed[log]
            died.add(0, end)
            ends[log] = end
        elif died.size:
            ends[log] = described.end(log)
        for low, high in ranges:
            died.remove(low, high)
        dead[log] = died
    return replace(described, logs=logs, closed=closed, dead=dead, state=replace(described.state, ends=ends))


def _learn_lacking(lacking: dict[LogId, RangeSet], copy: Shown, extra: Gaps) -> None:
    """Know of one more copy in what all lack so far; `extra` is what none before it knew."""
    for log in copy.described.known:
        left = lacking.setdefault(log, RangeSet())
        for low, high in extra.get(log, ()):
            left.add(low, high)
        for low, high in RangeSet(copy.gaps.get(log, ())).gaps(0, copy.described.end(log)):
            left.remove(low, high)


def _dead(log: LogId, copies: list[Shown], *, sealed: bool) -> RangeSet:
    """Return what some copy of a log knows to be dead; if `sealed`, and none that followed further holds it.

    Of what was answered one of a majority has both: the message, and that it is dead.
    """
    dead = RangeSet()
    for copy in copies:
        said = RangeSet(copy.described.dead.get(log, ()))
        if log in copy.described.closed:
            said.add(0, copy.described.closed[log])
        for other in copies if sealed else ():
            if other.stamp > copy.stamp:
                for low, high in other.described.held(log, other.described.end(log), other.gaps):
                    said.remove(low, high)
        for low, high in said:
            dead.add(low, high)
    return dead


def encode_rows(rows: Rows) -> bytes:
    """Return small records as they travel."""
    return cbor2.dumps(rows)


def decode_rows(data: bytes) -> Rows:
    """Read what `encode_rows` returned.  Errors: ProtocolError."""
    try:
        rows = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError) as error:
        raise ProtocolError(f"small records are not CBOR: {error}") from error
    if type(rows) is not dict or not all(
        type(k) is bytes and type(v) is bytes and k[:1] in b"dlmnsu" for k, v in rows.items()
    ):
        raise ProtocolError("small records are not a map of keys and records")
    return rows


def encode_gaps(gaps: Gaps) -> bytes:
    """Return gaps as they travel and are stored."""
    return cbor2.dumps({log: missing.encode() for log, missing in gaps.items() if missing.size})


def decode_gaps(data: bytes) -> Gaps:
    """Read what `encode_gaps` returned.  Errors: ProtocolError."""
    try:
        found = cbor2.loads(data)
        return {LogId(bytes(log)): RangeSet.decode(missing) for log, missing in found.items()}
    except (cbor2.CBORDecodeError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ProtocolError(f"the gaps of a copy cannot be read: {error}") from error


def encode_stamp(stamp: Stamp) -> bytes:
    """Return a stamp's record."""
    seq = stamp[1]
    if seq < 24:
        return _stamp_head(stamp[0]) + bytes((seq,))
    size = 0 if seq < 1 << 8 else 1 if seq < 1 << 16 else 2 if seq < 1 << 32 else 3
    return _stamp_head(stamp[0]) + bytes((24 + size,)) + seq.to_bytes(1 << size, "big")


@lru_cache(maxsize=4096)
def _stamp_head(number: LeaseNumber) -> bytes:
    """Return a stamp in CBOR up to where its last number begins: one is written for every entry."""
    return cbor2.dumps([number.n, number.node, 0])[:-1]


def decode_stamp(record: bytes) -> Stamp:
    """Read what `encode_stamp` returned."""
    n, node, seq = cbor2.loads(record)
    return LeaseNumber(n, NodeId(node)), seq


def stamp_key(keys: PartitionKeys) -> bytes:
    """Where a node keeps how far its copy of a partition has followed; not part of what is shipped."""
    return keys.prefix + b"as"


def gaps_key(keys: PartitionKeys) -> bytes:
    """Where a node keeps what its copy lacks; not part of what is shipped."""
    return keys.prefix + b"ag"


def stale_key(keys: PartitionKeys) -> bytes:
    """Where a node keeps which dead batches of its copy are still to be deleted; not shipped either."""
    return keys.prefix + b"ad"


def small_ranges(keys: PartitionKeys) -> tuple[tuple[bytes, bytes], ...]:
    """Return the key ranges of everything that `describe` reads, and of the notes of what was damaged."""
    return keys.harm(), keys.described(), keys.sent_range(0)


def own_ranges(keys: PartitionKeys) -> tuple[tuple[bytes, bytes], ...]:
    """Return the key ranges of the small records, and of the stamp and the gaps."""
    return (keys.prefix + b"a", keys.prefix + b"b"), keys.described(), keys.sent_range(0)
