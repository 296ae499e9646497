"""Bugs that fill the memory of whole nodes are seen (P8)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dmqnode import upkeep
from dmqnode.config import NodeConfig
from dmqnode.dedup import PRODUCER_BYTES
from tests.simulation import planted_bounds as planted
from tests.simulation.nodes.accounts import Broken
from tests.simulation.nodes.hauling import Haul
from tests.simulation.nodes.plan import Plan
from tests.simulation.nodes.world import World

Patch = pytest.MonkeyPatch
SEEDS = 3
"""Of so many seeds one sees a bug."""
PLANTED = (
    planted.what_is_settled_stays_in_a_table,
    planted.the_sessions_of_peers_that_are_gone_stay,
)


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_each_bug_is_seen(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)

    def seen(seed: int) -> bool:
        try:
            World(seed, Plan(faults=("kill", "kill"), seconds=6.0)).run()
        except Broken as broken:
            return str(broken).startswith("P8 unbounded")
        return False

    assert any(seen(seed) for seed in range(1, SEEDS + 1))


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("peer", ["dead", "restarted"])
def test_after_the_third_hour_no_more_is_in_memory_than_after_the_first(
    peer: str, monkeypatch: Patch, *, torture: bool
) -> None:
    if not torture:
        pytest.skip("takes minutes: make torture")
    limit = NodeConfig(data=Path("/nowhere")).memory_limit
    monkeypatch.setattr(upkeep, "AWAITED", limit / (20 * PRODUCER_BYTES))
    haul = Haul(1, peer=peer, hour=3600.0)
    haul.run()
    assert haul.visits > 300
    assert haul.grown() == []
