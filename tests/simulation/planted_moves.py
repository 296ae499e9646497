"""Bugs of one line, planted where copies move, nodes have just started, or few know what another has said."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.cluster import Cluster
from dmqnode.copies import Copies
from dmqnode.debts import Debts
from dmqnode.following import Stream
from dmqnode.grants import Grants
from dmqnode.hybridclock import HybridClock
from dmqnode.ids import QueueId
from dmqnode.peer_messages import Dropped
from dmqnode.streams import Streams
from tests.simulation import test_lease_world as leases

Patch = pytest.MonkeyPatch


def h3_the_mark_does_not_count(patch: Patch) -> None:
    def ready(self: Copies, partition: Any, number: Any, mark: int) -> bool:
        copy = self.find(partition)
        return copy is not None and copy.aligned and copy.lease == number

    patch.setattr(Copies, "ready", ready)


def c1_homes_change_before_they_have_everything(patch: Patch) -> None:
    original = Cluster._move

    def move(self: Cluster, now: Any, stream: Stream, record: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Stream, "complete", lambda self, follower: True)
            original(self, now, stream, record)

    patch.setattr(Cluster, "_move", move)


def c1_former_homes_drop_at_once(patch: Patch) -> None:
    original = Cluster._move

    def move(self: Cluster, now: Any, stream: Stream, record: Any) -> None:
        original(self, now, stream, record)
        if wanted := self._wanted(stream.partition):
            for node in [n for n in record.new if n not in (*wanted, self.me)]:
                self._port.send(node, Dropped(stream.partition, stream.number.n))

    patch.setattr(Cluster, "_move", move)


def l1_who_has_just_started_grants(patch: Patch) -> None:
    patch.setattr(Grants, "silence", lambda boot: 0.0)


def c4_what_is_not_owed_never_was(patch: Patch) -> None:
    patch.setattr(Streams, "unshown", lambda self, partition, gaps: gaps)


def c2_debts_of_unknown_queues_are_forgotten(patch: Patch) -> None:
    original = Debts._offer

    def offer(self: Debts, now: Any, partition: Any) -> None:
        if self._broker.registry.definition_of(QueueId(partition[:8])) is None:
            self._forget(partition, list(self._owed.get(partition, ())))
        original(self, now, partition)

    patch.setattr(Debts, "_offer", offer)


def l6_a_copy_follows_whoever_tells_it(patch: Patch) -> None:
    def refused(self: Copies, sender: Any, partition: Any, n: int) -> bool:
        return self.deleted(partition) or partition in self._leaving

    patch.setattr(Copies, "_refused", refused)


def t2_clocks_far_ahead_are_believed(patch: Patch) -> None:
    def observe(self: HybridClock, stamp: Any, wall: int) -> bool:
        self.remember(stamp)
        return True

    patch.setattr(HybridClock, "observe", observe)


def h1_the_new_homes_are_enough(patch: Patch) -> None:
    leases.the_new_set_is_enough(patch)


def h2_a_newer_record_is_not_adopted(patch: Patch) -> None:
    leases.a_newer_record_is_not_adopted(patch)


def h4_former_homes_forget(patch: Patch) -> None:
    leases.former_homes_forget(patch)
