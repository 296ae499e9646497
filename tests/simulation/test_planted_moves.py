"""Each bug planted in `planted_moves` is seen within so many seeds; without it all is well there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.simulation import episodes
from tests.simulation import planted_moves as planted
from tests.simulation.plan import WIDE, Plan
from tests.simulation.sent import Broken
from tests.simulation.world import World

Patch = pytest.MonkeyPatch
WITHIN = 40
"""Of so many first seeds one sees it, should those named not see it any more."""


class Planted(NamedTuple):
    plant: Callable[[Patch], None]
    plan: Plan | Callable[[int], None]
    """Or a story, where chance does not find it."""
    seeds: tuple[int, ...]
    """Seeds that saw it when it was planted, which are tried first; one is enough."""
    seen: str
    """The promises or rules that are seen to be broken."""


def moving(*faults: str, nodes: int, replicas: int) -> Plan:
    """Return a short plan: nodes get other weights again and again, and other things go wrong."""
    shape = {"nodes": nodes, "replicas": replicas, "write_quorum": min(2, replicas)}
    return Plan(**shape, queues=(WIDE,), faults=("move", *faults), rate=2.0, seconds=8.0)


CUT_UP = moving("isolate", "kill", nodes=3, replicas=1)
ONE_COPY = moving("slow", "slowdisk", nodes=3, replicas=1)
TWO_COPIES = moving("slow", nodes=4, replicas=2)
PLANTED = [
    Planted(
        planted.l1_who_has_just_started_grants, episodes.who_has_started_has_granted_before, (1, 2), "P6"
    ),
    Planted(
        planted.l6_a_copy_follows_whoever_tells_it,
        episodes.an_old_leader_brings_a_copy_up_to_date,
        (1, 2),
        "P5",
    ),
    Planted(
        planted.h3_the_mark_does_not_count,
        episodes.a_home_agrees_before_it_has_what_was_answered,
        (5, 7),
        "P2",
    ),
    Planted(
        planted.h1_the_new_homes_are_enough,
        episodes.a_majority_of_the_new_homes_is_none_of_the_old,
        (2, 3),
        "P6",
    ),
    Planted(planted.h2_a_newer_record_is_not_adopted, episodes.who_missed_a_change_is_shown_it, (3, 4), "P6"),
    Planted(planted.h4_former_homes_forget, CUT_UP, (5, 7), "P6"),
    Planted(planted.c1_homes_change_before_they_have_everything, ONE_COPY, (16, 17), "P2"),
    Planted(planted.c1_former_homes_drop_at_once, TWO_COPIES, (41, 44), "P1"),
    Planted(
        planted.c2_debts_of_unknown_queues_are_forgotten,
        episodes.who_keeps_need_not_know_the_queue,
        (5, 4, 2),
        "C1 P1",
    ),
    Planted(
        planted.c4_what_is_not_owed_never_was, episodes.what_was_owed_before_lives_where_it_is, (1, 2), "C1"
    ),
    Planted(
        planted.t2_clocks_far_ahead_are_believed, episodes.changes_hold_though_a_clock_was_ahead, (1,), "P7"
    ),
]


def play(bug: Planted, seed: int) -> None:
    if isinstance(bug.plan, Plan):
        World(seed, bug.plan).run()
    else:
        bug.plan(seed)


def caught(bug: Planted, seed: int, patch: Patch) -> bool:
    with patch.context() as here:
        bug.plant(here)
        try:
            play(bug, seed)
        except Broken as broken:
            return str(broken).split()[0] in bug.seen.split()
        return False


@pytest.mark.torture
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.plant.__name__)
def test_each_bug_is_seen(bug: Planted, monkeypatch: Patch, *, torture: bool) -> None:
    seeds = (*bug.seeds, *range(WITHIN))
    found = next((seed for seed in seeds if caught(bug, seed, monkeypatch)), None)
    assert found is not None
    if torture:  # without the bug all is well
        play(bug, found)


@pytest.mark.share(1 / 150)
def test_copies_move_and_nothing_is_lost(seeds: range) -> None:
    """Weights change, in clusters with one copy of everything up to three."""
    weighed = 0
    for seed in seeds:
        nodes, replicas = ((3, 1), (4, 2), (5, 3))[seed % 3]
        faults = (("kill",), ("slow", "slowdisk"), ("isolate", "kill"), ("slow", "reset"))[seed % 4]
        weighed += World(seed, moving(*faults, nodes=nodes, replicas=replicas)).run().ledger.counts["weighed"]
    assert weighed > len(seeds)
