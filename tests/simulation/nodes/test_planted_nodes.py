"""Each planted bug is seen in a world of whole nodes, by one of SEEDS seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.simulation.nodes import planted_nodes as planted
from tests.simulation.nodes.accounts import Broken
from tests.simulation.nodes.plan import Plan
from tests.simulation.nodes.world import World

Patch = pytest.MonkeyPatch
SEEDS = 6
"""Within so many seeds each is seen; most are by the first."""


class Planted(NamedTuple):
    rule: str
    plant: Callable[[Patch], None]
    plan: Plan
    seen: str
    """The promises or rules that are seen to be broken."""
    first: int = 1
    """The first seed."""
    quick: bool = False
    """Whether `make test` has it, too."""


def plan(*faults: str, nodes: int = 3, replicas: int = 3, dead_after: float = 20.0) -> Plan:
    return Plan(faults=faults, nodes=nodes, replicas=replicas, dead_after=dead_after, seconds=6.0)


BEREAVED = plan("bereave", nodes=7, replicas=5)
ONE_COPY = plan("long_split", replicas=1)._replace(write_quorum=1)
STRAGGLES = plan("straggle", nodes=7, replicas=5)._replace(seconds=2.0, labours=True)
HELD_BACK = plan("boundary", "boundary", "boundary")._replace(edge="local")
LISTED = plan("boundary", "join")._replace(edge="roster")
LABOURS = plan(nodes=1, replicas=1)._replace(write_quorum=1, consumers=3, labours=True)
CHORES = plan("kill")._replace(chores=True)
CLOCKS = plan("clock", "clock", "clock")._replace(producers=3, seconds=3.0)
PLANTED = [
    Planted("I2", planted.an_old_backup_is_welcome, plan("restore"), "I2"),
    Planted("I2", planted.a_run_keeps_its_number, plan("restore"), "I2"),
    Planted(
        "I2",
        planted.who_sits_where_a_member_was_is_not_asked,
        plan("relapse", dead_after=600.0),
        "I2",
        quick=True,
    ),
    Planted("I2", planted.two_with_one_id_are_welcome, plan("twin"), "I2 P7"),
    Planted("I2", planted.a_damaged_memory_is_not_noticed, plan("damage"), "P7", quick=True),
    Planted("I2", planted.a_new_disk_does_not_retire_the_old, plan("replace", dead_after=600.0), "P7"),
    Planted("I3", planted.each_seed_founds, plan("kill"), "P7"),
    Planted("I3", planted.data_of_another_cluster_is_no_hindrance, plan("stranger"), "I3"),
    Planted("I3", planted.a_stranger_ends_who_dials_it, plan("stranger"), "P7", quick=True),
    Planted("M1", planted.who_stops_has_left, plan("stop"), "P7", quick=True),
    Planted("M2", planted.nobody_is_forgotten, plan("absent", nodes=4), "M2", quick=True),
    Planted("M2", planted.too_few_may_remain, plan("absent"), "M2"),
    Planted("M2", planted.the_forgotten_are_not_told, plan("absent", nodes=4), "M2"),
    Planted("M2", planted.homes_without_majority_wait_for_the_dead, BEREAVED, "M2"),
    Planted("M3", planted.the_cut_off_go_on_granting, plan("long_split", nodes=5), "P6"),
    Planted("M3", planted.who_has_the_only_copy_goes_on_granting, ONE_COPY, "P6", first=3, quick=True),
    Planted("M3", planted.whoever_starts_may_grant, plan("astray", nodes=5), "P5 P6"),
    Planted("M4", planted.homes_without_majority_stay, plan("absent", replicas=2), "P2 P7"),
    Planted(
        "M4",
        planted.a_minority_forms_homes_again,
        plan("halves", "halves", nodes=5),
        "P2 P5 P6 P7",
        quick=True,
    ),
    Planted("M4", planted.one_of_those_left_need_not_be_asked, STRAGGLES, "P5 P9", first=46),
    Planted("M5", planted.one_of_two_cannot_decide, plan("destroy", nodes=2, replicas=2), "P7", quick=True),
    Planted("P10", planted.what_lay_waiting_is_done, plan("long_pause", dead_after=350.0), "P5 P10"),
    Planted("P10", planted.names_are_not_recognised, CHORES, "P10", quick=True),
    Planted("N3", planted.what_has_moved_stays, CHORES, "N3 P10", quick=True),
    Planted("T1", planted.whose_clock_is_wrong_goes_on_leading, CLOCKS, "P3"),
    Planted("T3", planted.a_purge_does_nothing, CHORES, "T3", first=3),
    Planted(
        "P4", planted.nobody_hears_of_deliveries, plan("stop", "stop", dead_after=600.0), "P4", quick=True
    ),
    Planted("P1", planted.groups_are_written_and_not_synced, HELD_BACK, "P1", quick=True),
    Planted("P1", planted.what_one_disk_has_is_stored, HELD_BACK, "P1", quick=True),
    Planted("I2", planted.a_dead_process_is_taken_for_alive_at_once, LISTED, "P7", first=10),
    Planted("I3", planted.who_has_a_cluster_joins_the_seeds_too, plan("strangers"), "I3"),
    Planted(
        "M2", planted.who_is_forgotten_may_come_back_to_its_homes, plan("forget", replicas=2), "P0 P2 P7"
    ),
    Planted("M2", planted.who_may_serve_behind_a_cut_is_forgotten, plan("forget", replicas=2), "M2"),
    Planted("P9", planted.a_group_goes_on_while_one_of_it_is_out, CHORES, "P9", quick=True),
    Planted("P4", planted.an_extension_changes_nothing, LABOURS, "P4", quick=True),
]


def caught(bug: Planted, seed: int, patch: Patch) -> bool:
    with patch.context() as here:
        bug.plant(here)
        try:
            World(seed, bug.plan).run()
        except Broken as broken:
            return str(broken).split()[0] in bug.seen.split()
        return False


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.plant.__name__)
def test_each_bug_is_seen(bug: Planted, monkeypatch: Patch, *, torture: bool) -> None:
    """And without it all is well there."""
    if not (torture or bug.quick):
        pytest.skip("all of them take minutes: make torture")
    seeds = range(bug.first, bug.first + SEEDS)
    found = next((seed for seed in seeds if caught(bug, seed, monkeypatch)), None)
    assert found is not None
    if torture:  # without the bug all is well
        World(found, bug.plan).run()
