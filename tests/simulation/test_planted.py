"""Each planted bug is seen: by one of the seeds named, which are among the first thirty."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.simulation import planted
from tests.simulation.ledger import Broken
from tests.simulation.world import World

Patch = pytest.MonkeyPatch


class Planted(NamedTuple):
    plant: Callable[[Patch], None]
    seeds: tuple[int, ...]
    seen: str
    """The promise that is seen to be broken."""


PLANTED = [
    Planted(planted.answers_before_the_quorum, (0, 1, 3, 4), "P1"),
    Planted(planted.answers_before_the_disk, (0, 1, 2, 3), "P1"),
    Planted(planted.a_home_that_lacks_messages_counts, (0, 3, 16, 25), "P1"),
    Planted(planted.dead_sets_are_not_united, (21, 22), "P5"),
    Planted(planted.gaps_are_forgotten, (0, 16, 21, 25), "P1 P2"),
    Planted(planted.the_gaps_of_a_new_leader_are_forgotten, (5,), "P2"),
    Planted(planted.entries_are_taken_out_of_turn, (3, 11, 17, 25), "P1 P2 P7"),
    Planted(planted.serves_with_its_own_copy_only, (320, 329, 374), "P1 P2 P5"),
    Planted(planted.recent_sends_are_not_merged, (23, 28, 29, 33), "P10"),
    Planted(planted.notes_are_not_written, (5, 13, 14, 50), "P4"),
    Planted(planted.debts_are_forgotten_at_once, (5, 8, 9, 10), "P2"),
]


def caught(bug: Planted, seed: int, patch: Patch) -> bool:
    with patch.context() as here:
        bug.plant(here)
        try:
            World(seed).run()
        except Broken as broken:
            return str(broken).split()[0] in bug.seen.split()
        return False


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.plant.__name__)
def test_each_bug_is_seen(bug: Planted, monkeypatch: Patch) -> None:
    assert any(caught(bug, seed, monkeypatch) for seed in bug.seeds)
