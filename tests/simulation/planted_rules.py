"""Bugs of one line against rules that only rare schedules need: their plans let few faults meet."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import pytest

from dmqnode import hosted, mending, queues, smallrows, takeover, taking
from dmqnode.asks import Ask
from dmqnode.catalog import Catalog
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.debts import Debts
from dmqnode.holds import Holds
from dmqnode.hybridclock import HybridClock
from dmqnode.ids import QueueId
from dmqnode.missing import Missing
from dmqnode.peer_messages import Keep, Kept, Taken
from dmqnode.requests import Requests
from dmqnode.smallrows import Described
from dmqnode.streams import Streams
from dmqnode.taking import Taking

Patch = pytest.MonkeyPatch


def q2_what_was_under_way_is_called_not_stored(patch: Patch) -> None:
    patch.setattr(Ask, "risky", property(lambda self: False, lambda self, value: None))


def c1_taken_is_told_before_it_is_safe(patch: Patch) -> None:
    original = Taking._take

    def take(
        self: Taking, now: Now, hosted: Any, sender: Any, shard: Any, ops: Any, debts: Any, messages: Any
    ) -> None:
        self._clustering.send(sender, Taken(hosted.id, [(d.log, d.first) for d in debts]))
        original(self, now, hosted, sender, shard, ops, debts, messages)

    patch.setattr(Taking, "_take", take)


def c1_stand_ins_confirm_before_they_write(patch: Patch) -> None:
    original = Debts.receive

    def receive(self: Debts, now: Now, sender: Any, message: Any) -> bool:
        if isinstance(message, Keep):
            self._clustering.send(sender, Kept(message.nonce))
        return original(self, now, sender, message)

    patch.setattr(Debts, "receive", receive)


def c2_debts_of_deleted_queues_stay(patch: Patch) -> None:
    original = Debts._offer

    def offer(self: Debts, now: Now, partition: Any) -> None:
        if self._broker.registry.definition_of(QueueId(partition[:8])) is not None:
            original(self, now, partition)

    patch.setattr(Debts, "_offer", offer)


def c3_the_dead_are_taken_in_again(patch: Patch) -> None:
    original = taking.take_debt

    def take_debt(now: Now, partition: Any, debt: Any) -> Any:
        log = partition.logs.get(debt.log)
        if log is not None and log.dead.ranges.overlap(debt.first, debt.first + 1):
            log.dead.ranges.remove(debt.first, debt.first + 1)
            log.gaps.add(debt.first, debt.first + 1)
        return original(now, partition, debt)

    patch.setattr(taking, "take_debt", take_debt)


def c5_what_is_owed_is_looked_for(patch: Patch) -> None:
    patch.setattr(Missing, "_heard", lambda self, now, partition: True)
    patch.setattr(Missing, "_not_looked_for", lambda self, now, partition: {})


def f2_what_lies_beyond_the_end_is_adopted(patch: Patch) -> None:
    original = mending.adopt

    def adopt(partition: Any, described: Any, *, certain: bool, owed: Any) -> Any:
        return original(partition, described, certain=False, owed=owed)

    patch.setattr(hosted, "adopt", adopt)


def f2_the_farthest_end_counts(patch: Patch) -> None:
    original = smallrows.merge
    patch.setattr(takeover, "merge", lambda shown, mine, *, sealed: original(shown, mine))


def f2_serves_before_a_majority_knows_the_ends(patch: Patch) -> None:
    patch.setattr(Streams, "seal", lambda self, now, stream, then: then(now))


def f2_what_nobody_led_with_counts(patch: Patch) -> None:
    patch.setattr(Described, "ends_only", lambda self: self)


def f3_fifo_queues_grow(patch: Patch) -> None:
    patch.setattr(queues, "_check_growth", lambda old, count: None)


def n3_nobody_hears_of_the_intent(patch: Patch) -> None:
    patch.setattr(Holds, "give_up", lambda self, reason, to, segments: None)


def t2_nobody_stamps_again(patch: Patch) -> None:
    patch.setattr(HybridClock, "set_back", lambda self, wall: False)


def t3_deletions_are_forgotten(patch: Patch) -> None:
    original = Catalog._keep

    def keep(self: Catalog, queue: Any, known: Any) -> None:
        original(self, queue, known)
        if known.deleted:
            del self._known[queue]
            self._digest ^= int.from_bytes(blake2b(queue + known.hash, digest_size=16).digest(), "big")
            del self._named[known.name][queue]

    patch.setattr(Catalog, "_keep", keep)


def l4_nobody_looks_at_the_lease(patch: Patch) -> None:
    patch.setattr(
        Clustering, "delivers", lambda self, shard: all(self.hosted.serves(p.id) for p in shard.partitions)
    )


def l4_nobody_looks_as_it_leaves(patch: Patch) -> None:
    patch.setattr(Requests, "_fenced", lambda self, reply: reply)
