"""Bugs of one line, planted where queues are purged, messages expire and move, clocks are wrong, or in the
order in which messages come out."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode import crossings, expiry, moves
from dmqnode.clock import Now
from dmqnode.groups import Groups
from dmqnode.holds import Holds
from dmqnode.hosted import Hosted
from dmqnode.log import Segment
from dmqnode.messages import Stored
from dmqnode.partition import Partition
from dmqnode.queue import Queue
from dmqnode.ready import Ready
from dmqnode.walls import Walls

Patch = pytest.MonkeyPatch


def wrong_clocks_lead(patch: Patch) -> None:
    """T1"""
    patch.setattr(Walls, "judge", lambda self, now: False)


def a_purge_forgets_debts(patch: Patch) -> None:
    """T3: what stand-ins bring later is not dead."""
    original = Partition.purge

    def purge(self: Partition, now: Now) -> int:
        killed = original(self, now)
        self.state.purged_at = 0
        return killed

    patch.setattr(Partition, "purge", purge)


def a_purge_kills_what_is_read_only(patch: Patch) -> None:
    """T3"""

    def purge(self: Partition, now: Now) -> int:
        killed = sum(len(s) for s in self.ready.take_expired(1 << 62))
        self.touch()
        return killed

    patch.setattr(Partition, "purge", purge)


def what_moves_dies_first(patch: Patch) -> None:
    """N3: the original is marked dead before the other queue has it."""
    original = crossings.Crossings.send

    def send(self: Any, now: Now, queue: str, rows: Any, then: Any) -> None:
        then(now, Stored([], 0))
        self._clustering.later(
            now, 0.5, lambda now: original(self, now, queue, rows, lambda now, answer: None)
        )

    patch.setattr(crossings.Crossings, "send", send)


def moves_are_not_recognised(patch: Patch) -> None:
    """N3: without a dedup id what is repeated is there twice."""
    original = moves._row

    def row(*args: Any) -> Any:
        body, fields = original(*args)
        return body, {k: v for k, v in fields.items() if k != "d"}

    patch.setattr(moves, "_row", row)


def messages_expire_too_soon(patch: Patch) -> None:
    original = expiry._unexpired

    def unexpired(partition: Partition, now: Now, segment: Any, batch: Any) -> Any:
        return original(partition, now._replace(wall=now.wall + 700), segment, batch)

    patch.setattr(expiry, "_unexpired", unexpired)


def messages_never_expire(patch: Patch) -> None:
    patch.setattr(expiry, "_expire", lambda partition, segments: None)
    patch.setattr(expiry, "_unexpired", lambda partition, now, segment, batch: [segment])


def paused_queues_deliver(patch: Patch) -> None:
    original = Queue.redefine

    def redefine(self: Queue, definition: Any) -> None:
        from dataclasses import replace

        original(self, replace(definition, settings=replace(definition.settings, paused=False)))

    patch.setattr(Queue, "redefine", redefine)


def no_notes_outlive_a_stop(patch: Patch) -> None:
    """N1"""

    def save(self: Holds, now: Now, keys: Any, ops: Any) -> None:
        self._unsaved.clear()

    patch.setattr(Holds, "save", save)


def who_hands_over_does_not_wait_for_notes(patch: Patch) -> None:
    """N2"""
    original = Hosted.drain

    def drain(self: Hosted, now: Now, partition: Any, then: Any) -> None:
        original(self, now, partition, lambda now: None)
        for hosted in self.shards[partition].partitions if partition in self.shards else ():
            hosted.holds._unsaved.clear()
        then(now)

    patch.setattr(Hosted, "drain", drain)


def a_group_goes_on_while_one_of_it_is_out(patch: Patch) -> None:
    """P9"""
    original = Groups.pop

    def pop(self: Groups) -> Segment:
        segment = original(self)
        self.free(str(segment.group))
        return segment

    patch.setattr(Groups, "pop", pop)


def what_was_read_last_comes_first(patch: Patch) -> None:
    """P9"""
    original = Ready.add

    def add(self: Ready, segment: Segment) -> None:
        original(self, segment)
        self._window.rotate(segment.group is None)

    patch.setattr(Ready, "add", add)
