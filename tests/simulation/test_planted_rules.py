"""Each bug planted in `planted_rules` is seen within so many seeds; without it all is well there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.simulation import planted_rules as planted
from tests.simulation import stories
from tests.simulation.plan import BROOM, DEAD, FIFO, PLAIN, REBORN, SPENT, WIDE, Plan
from tests.simulation.sent import Broken
from tests.simulation.world import World

Patch = pytest.MonkeyPatch
WITHIN = 60
"""Of so many first seeds one sees it, should those named not see it any more."""
HURRIED = SPENT._replace(settings={"visibility": 1.0, "max_attempts": 1, "dead_letter": "dead"})
"""Gives messages up after one delivery."""


class Planted(NamedTuple):
    plant: Callable[[Patch], None]
    plan: Plan | Callable[[int], None]
    """Or a story, where chance does not find it."""
    seeds: tuple[int, ...]
    """Seeds that saw it when it was planted, which are tried first; one is enough."""
    seen: str
    """The promise or rule that is seen to be broken."""


def draw(*queues: object, faults: str = "", **fields: object) -> Plan:
    """Return a short plan of few faults, and often."""
    return Plan(queues=queues, faults=tuple(faults.split()), **{"rate": 1.0, "seconds": 8.0, **fields})  # type: ignore[arg-type]


PARTED = draw(FIFO, faults="halves isolate kill", rate=1.2, tries=1)
PLANTED = [
    Planted(
        planted.q2_what_was_under_way_is_called_not_stored,
        draw(PLAIN, FIFO, faults="isolate", tries=1),
        (5, 11, 18),
        "P10",
    ),
    Planted(planted.c1_taken_is_told_before_it_is_safe, draw(PLAIN, faults="isolate kill"), (5, 6, 7), "C1"),
    Planted(
        planted.c1_stand_ins_confirm_before_they_write, draw(PLAIN, faults="isolate kill"), (5, 6, 7), "P1"
    ),
    Planted(planted.c2_debts_of_deleted_queues_stay, draw(REBORN, faults="isolate kill"), (4, 5, 11), "P7"),
    Planted(planted.c3_the_dead_are_taken_in_again, draw(PLAIN, faults="isolate kill"), (6, 9, 11), "P5"),
    Planted(
        planted.c5_what_is_owed_is_looked_for,
        draw(WIDE, faults="halves kill", consumers=5, late=0.3),
        (779,),
        "P10",
    ),
    Planted(planted.f2_what_lies_beyond_the_end_is_adopted, PARTED, (12, 63, 92), "P9"),
    Planted(planted.f2_the_farthest_end_counts, stories.two_homes_have_one_each, (1,), "P9"),
    Planted(planted.f2_serves_before_a_majority_knows_the_ends, stories.two_homes_have_one_each, (1,), "P9"),
    Planted(planted.f2_what_nobody_led_with_counts, stories.ends_that_nobody_led_with, (1,), "P9 P2"),
    Planted(planted.f3_fifo_queues_grow, draw(FIFO._replace(grows=(4, 7))), (1, 2), "P9"),
    Planted(
        planted.n3_nobody_hears_of_the_intent,
        draw(DEAD, HURRIED, faults="kill", rate=2.0, seconds=6.0),
        (46, 137, 182),
        "N3 P4 P5",
    ),
    Planted(planted.t2_nobody_stamps_again, draw(BROOM, faults="leap", rate=2.0), (4, 9, 22), "P7 P2"),
    Planted(planted.t3_deletions_are_forgotten, draw(REBORN, faults="isolate"), (6, 19, 42), "P5"),
    Planted(planted.l4_nobody_looks_at_the_lease, draw(PLAIN, faults="stall"), (17, 26, 46), "P6"),
    Planted(planted.l4_nobody_looks_as_it_leaves, draw(PLAIN, faults="stall"), (1, 2, 5), "P6"),
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
