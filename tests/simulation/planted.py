"""Bugs of one line, planted in the real cores: each takes away something that the promises rest on."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode import copies, owing, takeover, taking
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.copies import Copies
from dmqnode.debts import Debts
from dmqnode.following import Follower, Stream
from dmqnode.holds import Holds
from dmqnode.homesets import HomeSet
from dmqnode.ids import LogId
from dmqnode.log import DeadSet
from dmqnode.numbering import Numbering
from dmqnode.ranges import RangeSet
from dmqnode.readahead import ReadAhead
from dmqnode.streams import Streams
from dmqnode.takeover import Takeovers
from tests.simulation.host import Host

Patch = pytest.MonkeyPatch


def answers_before_the_quorum(patch: Patch) -> None:
    def complete(self: Streams, now: Now, stream: Stream) -> None:
        while stream.waiting and stream.durable >= stream.waiting[0].seq:
            stream.waiting.popleft().then(now)

    patch.setattr(Streams, "_complete", complete)


def answers_before_the_disk(patch: Patch) -> None:
    original = Host._write

    def write(self: Host, pending: Any) -> None:
        pending.sync = False
        original(self, pending)

    patch.setattr(Host, "_write", write)


def a_home_that_lacks_messages_counts(patch: Patch) -> None:
    patch.setattr(Follower, "has", lambda self, waiting, under_way=(): self.confirmed >= waiting.seq)


def dead_sets_are_not_united(patch: Patch) -> None:
    original = takeover.merge

    def merge(shown: Any, mine: Any, *, sealed: bool) -> Any:
        # Of the dead sets only that of one copy counts, not of the one that knows most.
        copies_ = sorted(shown, key=lambda c: c.stamp)
        for copy in copies_[1:]:
            copy.described.dead.clear()
        return original(copies_, mine, sealed=sealed)

    patch.setattr(takeover, "merge", merge)


def gaps_are_forgotten(patch: Patch) -> None:
    original = copies.align_rows

    def align_rows(keys: Any, own: Any, rows: Any) -> Any:
        return original(keys, own, rows)._replace(gaps={})

    patch.setattr(copies, "align_rows", align_rows)


def the_gaps_of_a_new_leader_are_forgotten(patch: Patch) -> None:
    original = takeover.align_rows

    def align_rows(keys: Any, own: Any, rows: Any) -> Any:
        return original(keys, own, rows)._replace(gaps={})

    patch.setattr(takeover, "align_rows", align_rows)


def entries_are_taken_out_of_turn(patch: Patch) -> None:
    original = Copies._take_entry

    def take_entry(self: Copies, now: Now, sender: Any, entry: Any, *, sync: bool) -> None:
        copy = self.by_partition.get(entry.partition)
        if copy is not None and copy.aligned and entry.seq > copy.seq:
            copy.seq = entry.seq - 1
        original(self, now, sender, entry, sync=sync)

    def gone(self: Streams, node: Any) -> None:
        """What was under way when a link broke is forgotten, and the next entry sent all the same."""

    patch.setattr(Copies, "_take_entry", take_entry)
    patch.setattr(Streams, "gone", gone)


def serves_with_its_own_copy_only(patch: Patch) -> None:
    original = Takeovers._see

    def see(self: Takeovers, now: Now, partition: Any, taking: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(HomeSet, "has_majority", lambda self, nodes: True)
            original(self, now, partition, taking)

    patch.setattr(Takeovers, "_see", see)


def recent_sends_are_not_merged(patch: Patch) -> None:
    original = takeover.merge

    def merge(shown: Any, mine: Any, *, sealed: bool) -> Any:
        rows, gaps = original(shown, mine, sealed=sealed)
        return {k: v for k, v in rows.items() if k[:1] != b"u"}, gaps

    patch.setattr(takeover, "merge", merge)


def notes_are_not_written(patch: Patch) -> None:
    def save(self: Holds, now: Now, keys: Any, ops: Any) -> None:
        self._unsaved.clear()

    patch.setattr(Holds, "save", save)


def debts_are_forgotten_at_once(patch: Patch) -> None:
    original = Debts._offer

    def offer(self: Debts, now: Now, partition: Any) -> None:
        if self._clustering.leader_of(partition) is not None:
            self._forget(partition, list(self._owed.get(partition, ())))
        original(self, now, partition)

    patch.setattr(Debts, "_offer", offer)


# --- one for each rule that is kept here ----------------------------------------------------------------


def q1_no_majority_is_needed(patch: Patch) -> None:
    def has_quorum(self: HomeSet, nodes: Any, least: int) -> bool:
        return all(sum(1 for n in homes if n in nodes) >= min(least, len(homes)) for homes in self.sets)

    patch.setattr(HomeSet, "has_quorum", has_quorum)


def c4_whoever_keeps_a_debt_says_what_else_is_owed(patch: Patch) -> None:
    class Anybody(bytes):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = bytes.__hash__

    patch.setattr(taking, "acceptor_of", lambda log: Anybody(log[:8]))


def c5_repeated_debts_are_taken_in(patch: Patch) -> None:
    patch.setattr(owing, "_known", lambda partition, debt: False)
    patch.setattr(taking, "repeated", lambda partition, debt: [])


def f1_what_is_lacking_does_not_hold_up_a_fifo_queue(patch: Patch) -> None:
    original = ReadAhead._next_log

    def next_log(self: ReadAhead) -> Any:
        kept = {log: log.gaps for log in self._partition.logs.values()}
        for log in kept:
            log.gaps = RangeSet()
        try:
            return original(self)
        finally:
            for log, gaps in kept.items():
                log.gaps = gaps

    patch.setattr(ReadAhead, "_next_log", next_log)


def h5_everybody_makes_up_the_first_homes(patch: Patch) -> None:
    patch.setattr(Clustering, "first_homes", lambda self, definition, index: HomeSet.first((self.me,)))


def i1_logs_are_named_alike_in_every_run(patch: Patch) -> None:
    def new_log(self: Numbering) -> LogId:
        self._logs += 1
        return LogId(self._identity.node + bytes(8) + self._logs.to_bytes(4, "big"))

    patch.setattr(Numbering, "new_log", new_log)


def a_restart_forgets_debts(patch: Patch) -> None:
    patch.setattr(Debts, "load", lambda self, now: None)


def a_range_of_a_dead_set_is_dropped(patch: Patch) -> None:
    original = DeadSet.save

    def save(self: DeadSet, keys: Any, log: Any, ops: Any) -> None:
        if len(self.ranges) > 2:
            ranges = list(self.ranges)
            kept, self.ranges = self.ranges, RangeSet(ranges[:1] + ranges[2:])
            original(self, keys, log, ops)
            self.ranges = kept
        else:
            original(self, keys, log, ops)

    patch.setattr(DeadSet, "save", save)
