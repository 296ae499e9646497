"""Bugs of one line, planted in the real cores: each takes away something that the promises rest on."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode import copies, takeover
from dmqnode.clock import Now
from dmqnode.copies import Copies
from dmqnode.debts import Debts
from dmqnode.following import Follower, Stream
from dmqnode.holds import Holds
from dmqnode.homesets import HomeSet
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
        copy = self._copies.get(entry.partition)
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
