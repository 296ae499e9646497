"""Bugs of one line, planted in the real shells and cores: each takes away one of the rules about nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dmqnode import deliveries, doors, takeover
from dmqnode.acquaintances import AMNESIA, TWICE, Acquaintances, Rebuffs
from dmqnode.belonging import Belonging
from dmqnode.clustering import Clustering
from dmqnode.dedup import Dedup
from dmqnode.hearing import Hearing
from dmqnode.homesets import HomeSet
from dmqnode.joining import Joining
from dmqnode.messages import Failed, Step
from dmqnode.missing import Missing
from dmqnode.orphans import Orphans
from dmqnode.partition import Partition
from dmqnode.peers import Peers
from dmqnode.roster import Roster, Rosters
from dmqnode.walls import Walls
from storage.committer import Committer
from tests.simulation import planted_ops
from tests.simulation.nodes import box

Patch = pytest.MonkeyPatch


def an_old_backup_is_welcome(patch: Patch) -> None:
    _welcome(patch, AMNESIA)


def a_run_keeps_its_number(patch: Patch) -> None:
    patch.setattr(Belonging, "_counted", lambda self, boot, now: None)


def who_sits_where_a_member_was_is_not_asked(patch: Patch) -> None:
    patch.setattr(Peers, "_told_by_successor", lambda self, peer, roster: None)


def two_with_one_id_are_welcome(patch: Patch) -> None:
    _welcome(patch, TWICE)


def _welcome(patch: Patch, code: str) -> None:
    original = Acquaintances.judge

    def judge(self: Acquaintances, hello: Any, live: Any) -> Failed | None:
        failed = original(self, hello, live)
        return None if failed is not None and failed.code == code else failed

    patch.setattr(Acquaintances, "judge", judge)


def a_damaged_memory_is_not_noticed(patch: Patch) -> None:
    patch.setattr(box, "lost_memory", lambda store, incomplete: None)


def a_new_disk_does_not_retire_the_old(patch: Patch) -> None:
    original = Rosters._next

    def following(self: Rosters, step: Step, roster: Roster) -> Roster:
        absent, self.hearing.absent = self.hearing.absent, {}
        try:
            return original(self, step, roster)
        finally:
            self.hearing.absent = absent

    patch.setattr(Rosters, "_next", following)
    patch.setattr(Rosters, "_replaced", lambda self: None)


def a_stranger_ends_who_dials_it(patch: Patch) -> None:
    original, refused = Rebuffs.sent_away, Peers._refused

    def sent_away(self: Rebuffs, now: float, peer: Any, code: str, members: int, **by: bool) -> bool:
        return code == "other-cluster" or original(self, now, peer, code, members, **by)

    patch.setattr(Rebuffs, "sent_away", sent_away)
    patch.setattr(
        Peers, "_refused", lambda self, peer, failed, _, later: refused(self, peer, failed, True, later)
    )


def each_seed_founds(patch: Patch) -> None:
    async def join(self: Joining, seeds: list[str]) -> Any:
        return await self._found()

    patch.setattr(Joining, "_join", join)


def data_of_another_cluster_is_no_hindrance(patch: Patch) -> None:
    async def look(self: Joining, seeds: list[str]) -> None:
        return None

    patch.setattr(Joining, "_look", look)


def who_stops_has_left(patch: Patch) -> None:
    original = Belonging.hand_over

    async def hand_over(self: Belonging) -> None:
        await self.ask(Step("leave", self._me.node, False))
        await original(self)

    patch.setattr(Belonging, "hand_over", hand_over)


def nobody_is_forgotten(patch: Patch) -> None:
    patch.setattr(Rosters, "overdue", lambda self, now, dead_after, missed: None)


def too_few_may_remain(patch: Patch) -> None:
    def overdue(self: Rosters, now: Any, dead_after: float, missed: Any) -> Any:
        return next((n for n, since in self.hearing.absent.items() if now.run - since >= dead_after), None)

    patch.setattr(Rosters, "overdue", overdue)


def homes_without_majority_wait_for_the_dead(patch: Patch) -> None:
    patch.setattr(Orphans, "missed", lambda self, absent: None)


def the_cut_off_go_on_granting(patch: Patch) -> None:
    patch.setattr(Hearing, "isolated", lambda self, now: False)


def the_forgotten_are_not_told(patch: Patch) -> None:
    patch.setattr(Rebuffs, "sent_away", lambda *_, **by: False)


def _reform_by(patch: Patch, how: Callable[[Clustering, HomeSet], HomeSet]) -> None:
    original = Clustering.__init__

    def init(self: Clustering, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self.cluster.grants.reform = lambda partition, record: how(self, record)

    patch.setattr(Clustering, "__init__", init)


def one_of_those_left_need_not_be_asked(patch: Patch) -> None:
    patch.setattr(takeover, "_led", lambda record, shown: True)


def homes_without_majority_stay(patch: Patch) -> None:
    _reform_by(patch, lambda clustering, record: record)


def a_minority_forms_homes_again(patch: Patch) -> None:
    def reform(clustering: Clustering, record: HomeSet) -> HomeSet:
        there = tuple(n for n in record.members if clustering.reachable(n))
        if record.has_majority(there) or not there:
            return record
        return HomeSet(record.version + 1, record.lease, there, there, True)

    _reform_by(patch, reform)
    patch.setattr(Orphans, "_sure", lambda self, partition, known: True)


def one_of_two_cannot_decide(patch: Patch) -> None:
    patch.setattr(Rosters, "cut_off", lambda self, gone, reachable: False)


def what_lay_waiting_is_done(patch: Patch) -> None:
    patch.setattr(doors, "STALE", 1e9)
    # What is remembered for who is away would make up for it, as long as there is room and it is a member.
    patch.setattr(Missing, "expects_more", lambda self, now, partition: False)


def whose_clock_is_wrong_goes_on_leading(patch: Patch) -> None:
    patch.setattr(Walls, "_outvoted", staticmethod(lambda apart: False))


# --- what deaths at an effect show, and strangers, and who is forgotten by command --------------------------


def what_one_disk_has_is_stored(patch: Patch) -> None:
    patch.setattr(HomeSet, "has_quorum", lambda self, have, least: bool(have))


def groups_are_written_and_not_synced(patch: Patch) -> None:
    def write_now(self: Committer[Any], group: Any) -> int:
        self._store.write(group.batch, sync=False)
        self._shell.look(group)
        return self._store.free_bytes()

    patch.setattr(Committer, "_write_now", write_now)


def a_dead_process_is_taken_for_alive_at_once(patch: Patch) -> None:
    original = Rebuffs.sent_away

    def sent_away(self: Rebuffs, now: float, peer: Any, code: str, members: int, *, later: bool) -> bool:
        return (later and code == TWICE) or original(self, now, peer, code, members, later=later)

    patch.setattr(Rebuffs, "sent_away", sent_away)


def who_has_a_cluster_joins_the_seeds_too(patch: Patch) -> None:
    original = Joining.settle

    async def settle(self: Joining) -> Any:
        seeds = [a for a in self.config.join if a != self.me.address]
        return await self._join(seeds) if self.membership.several and seeds else await original(self)

    patch.setattr(Joining, "settle", settle)


def who_is_forgotten_may_come_back_to_its_homes(patch: Patch) -> None:
    original = Rosters._without

    def without(self: Rosters, version: int, gone: Any, *, destroyed: bool) -> Any:
        return original(self, version, gone, destroyed=False)

    patch.setattr(Rosters, "_without", without)


def who_may_serve_behind_a_cut_is_forgotten(patch: Patch) -> None:
    patch.setattr(Rosters, "_check_absence", lambda self, now, step: None)


def whoever_starts_may_grant(patch: Patch) -> None:
    original = Hearing.look

    def look(self: Hearing, now: Any, answers: Any) -> None:
        original(self, now, answers)
        self._deaf = False

    patch.setattr(Hearing, "look", look)


def who_has_the_only_copy_goes_on_granting(patch: Patch) -> None:
    patch.setattr(Hearing, "few", True)


def nobody_hears_of_deliveries(patch: Patch) -> None:
    planted_ops.no_notes_outlive_a_stop(patch)


# --- what only queues of every kind show -----------------------------------------------------------------


def names_are_not_recognised(patch: Patch) -> None:
    patch.setattr(Dedup, "find_name", lambda self, name, minute: None)


def what_has_moved_stays(patch: Patch) -> None:
    def buried(self: Partition, segments: Any) -> int:
        self.unbury(segments)
        return 0

    patch.setattr(Partition, "buried", buried)


def a_purge_does_nothing(patch: Patch) -> None:
    patch.setattr(Partition, "purge", lambda self, now: 0)


def a_group_goes_on_while_one_of_it_is_out(patch: Patch) -> None:
    planted_ops.a_group_goes_on_while_one_of_it_is_out(patch)


def an_extension_changes_nothing(patch: Patch) -> None:
    patch.setattr(deliveries, "extend", lambda *_: None)
