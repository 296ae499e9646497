"""Each planted bug is seen, within a stated number of seeds; without it all is well there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.simulation import planted
from tests.simulation.ledger import Broken
from tests.simulation.plan import FIFO, PLAIN, WIDE, Plan, draw_harsh
from tests.simulation.world import World

Patch = pytest.MonkeyPatch


class Planted(NamedTuple):
    plant: Callable[[Patch], None]
    seeds: tuple[int, ...]
    """Seeds that saw it when they were looked for, which are tried first; one is enough."""
    within: int
    """Of so many first seeds one sees it, should those not see it any more."""
    seen: str
    """The promises that are seen to be broken."""
    plan: Callable[[int], Plan | None] = lambda seed: None
    """By the seed; None: drawn as the swarm does."""


def fifo(seed: int) -> Plan:
    """Order under much trouble."""
    faults = ("kill", "halves", "power")
    return Plan(queues=(FIFO,), faults=faults, rate=1.0, seconds=12.0, producers=3)


def kills(seed: int) -> Plan:
    """Nothing but deaths: what is delivered twice is not excused by clocks or power."""
    return Plan(queues=(PLAIN, WIDE), faults=("kill",), rate=0.4, seconds=12.0)


def cut_up(seed: int) -> Plan:
    """Sends that nobody leads, and leaders that take over from few copies."""
    faults = ("isolate", "halves", "kill", "power")
    return Plan(queues=(PLAIN, WIDE), faults=faults, rate=1.2, seconds=14.0, producers=3)


def owed(seed: int) -> Plan:
    """Many sends that nobody leads, and stand-ins that die."""
    shape = {"queues": (PLAIN,), "nodes": 5, "replicas": 3, "write_quorum": 2}
    return Plan(**shape, faults=("isolate", "halves", "kill"), rate=1.5, seconds=10.0, producers=3)


def named(seed: int) -> Plan:
    """Harsh plans, but not the first: in that one a node stops over two batches of one name."""
    return draw_harsh(seed + 1)


PLANTED = [
    Planted(planted.answers_before_the_quorum, (3,), 10, "P1"),
    Planted(planted.answers_before_the_disk, (0,), 10, "P1"),
    Planted(planted.a_home_that_lacks_messages_counts, (0,), 40, "P1"),
    Planted(planted.dead_sets_are_not_united, (1,), 40, "P5", cut_up),
    Planted(planted.gaps_are_forgotten, (0,), 40, "P1 P2"),
    Planted(planted.the_gaps_of_a_new_leader_are_forgotten, (49, 90), 120, "P1 P2", draw_harsh),
    Planted(planted.entries_are_taken_out_of_turn, (0,), 40, "P1 P2 P7"),
    Planted(planted.serves_with_its_own_copy_only, (7,), 150, "P1 P2 P5", cut_up),
    Planted(planted.recent_sends_are_not_merged, (10,), 60, "P10"),
    Planted(planted.notes_are_not_written, (0,), 60, "P4", kills),
    Planted(planted.debts_are_forgotten_at_once, (5,), 30, "P2"),
    Planted(planted.q1_no_majority_is_needed, (5,), 40, "P6 P9", draw_harsh),
    Planted(planted.c4_whoever_keeps_a_debt_says_what_else_is_owed, (63, 89, 115, 164), 170, "P2 C1", owed),
    Planted(planted.c5_repeated_debts_are_taken_in, (1,), 40, "P10", draw_harsh),
    Planted(planted.f1_what_is_lacking_does_not_hold_up_a_fifo_queue, (1,), 40, "P9", fifo),
    Planted(planted.h5_everybody_makes_up_the_first_homes, (0,), 40, "P1", draw_harsh),
    Planted(planted.i1_logs_are_named_alike_in_every_run, (0,), 40, "P3", named),
    Planted(planted.a_restart_forgets_debts, (2,), 40, "P2 P7", draw_harsh),
    Planted(planted.a_range_of_a_dead_set_is_dropped, (1,), 40, "P5", draw_harsh),
]


def caught(bug: Planted, seed: int, patch: Patch) -> bool:
    with patch.context() as here:
        bug.plant(here)
        try:
            World(seed, bug.plan(seed)).run()
        except Broken as broken:
            return str(broken).split()[0] in bug.seen.split()
        return False


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.plant.__name__)
def test_each_bug_is_seen(bug: Planted, monkeypatch: Patch, *, torture: bool) -> None:
    seeds = (*bug.seeds, *range(bug.within))
    found = next((seed for seed in seeds if caught(bug, seed, monkeypatch)), None)
    assert found is not None
    if torture:  # without the bug all is well
        World(found, bug.plan(found)).run()
