"""Each bug planted in `planted_ops` is seen within so many seeds; without it all is well there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.simulation import planted_ops as planted
from tests.simulation.nodes.planted_nodes import names_are_not_recognised
from tests.simulation.plan import BRIEF, BROOM, DEAD, GROUPS, NAMED, PLAIN, SPENT, SWEPT, Plan
from tests.simulation.sent import Broken
from tests.simulation.world import World

Patch = pytest.MonkeyPatch
WITHIN = 40
"""Of so many first seeds one sees it, should those named not see it any more."""


class Planted(NamedTuple):
    plant: Callable[[Patch], None]
    plan: Plan
    seeds: tuple[int, ...]
    seen: str
    """The promise or rule that is seen to be broken."""


MOVING = Plan(queues=(DEAD, SPENT), rate=0.5)
PLANTED = [
    Planted(
        planted.wrong_clocks_lead, Plan(queues=(BRIEF,), faults=("leap",), rate=0.5), (1, 4, 9, 11), "P2 P4"
    ),
    Planted(
        planted.a_purge_forgets_debts, Plan(queues=(SWEPT,), faults=("kill",), rate=0.5), (2, 3, 6, 7), "T3"
    ),
    Planted(planted.a_purge_kills_what_is_read_only, Plan(queues=(SWEPT,)), (0,), "T3"),
    Planted(planted.what_moves_dies_first, MOVING._replace(faults=("kill",)), (0, 1, 2), "P2"),
    Planted(planted.moves_are_not_recognised, MOVING._replace(faults=("isolate",)), (0,), "P10"),
    Planted(names_are_not_recognised, Plan(queues=(NAMED,)), (0,), "P10"),
    Planted(planted.messages_expire_too_soon, Plan(queues=(BRIEF,)), (0,), "P2"),
    Planted(planted.messages_never_expire, Plan(queues=(BRIEF,)), (0,), "P2"),
    Planted(planted.no_notes_outlive_a_stop, Plan(faults=("standstill",), rate=0.5), (2, 3, 4, 6), "P4"),
    Planted(
        planted.who_hands_over_does_not_wait_for_notes,
        Plan(faults=("rolling",), rate=0.5),
        (3, 19, 24),
        "P4",
    ),
    Planted(planted.paused_queues_deliver, Plan(queues=(BROOM,)), (0,), "P2"),
    Planted(planted.a_group_goes_on_while_one_of_it_is_out, Plan(queues=(GROUPS,)), (0,), "P9"),
    Planted(planted.what_was_read_last_comes_first, Plan(queues=(PLAIN,)), (0,), "P9"),
]


def caught(bug: Planted, seed: int, patch: Patch) -> bool:
    with patch.context() as here:
        bug.plant(here)
        try:
            World(seed, bug.plan).run()
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
        World(found, bug.plan).run()
