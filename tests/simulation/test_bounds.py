"""Memory stays within its bounds (P8): hours in which somebody is dead, and bugs that fill it are seen."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dmqnode import upkeep
from dmqnode.config import NodeConfig
from dmqnode.dedup import PRODUCER_BYTES
from tests.simulation import planted_bounds as planted
from tests.simulation.bounds import KEPT, Around, excess
from tests.simulation.haul import Haul
from tests.simulation.memory import Walk
from tests.simulation.plan import PLAIN, WIDE, Plan, draw_wider_plan
from tests.simulation.sent import Broken
from tests.simulation.test_swarm import run
from tests.simulation.world import World

Patch = pytest.MonkeyPatch
SEEDS = 3
"""Of so many seeds one sees a bug."""


class Planted(NamedTuple):
    plant: Callable[[Patch], None]
    plan: Plan


QUIET = Plan(queues=(PLAIN, WIDE), seconds=8.0)
PLANTED = [
    Planted(planted.the_receives_of_who_is_gone_stay, QUIET),
    Planted(planted.what_is_settled_stays_in_a_table, QUIET),
    Planted(planted.the_sessions_of_peers_that_are_gone_stay, QUIET._replace(faults=("reset",), rate=1.0)),
    Planted(planted.every_sequence_of_a_producer_is_remembered, QUIET),
]


def caught(bug: Planted, seed: int, patch: Patch) -> bool:
    with patch.context() as here:
        bug.plant(here)
        try:
            World(seed, bug.plan).run()
        except Broken as broken:
            return str(broken).startswith("P8 unbounded")
        return False


@pytest.mark.torture
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.plant.__name__)
def test_each_bug_is_seen(bug: Planted, monkeypatch: Patch, *, torture: bool) -> None:
    found = next((seed for seed in range(SEEDS) if caught(bug, seed, monkeypatch)), None)
    assert found is not None
    if torture:  # without the bug all is well
        World(found, bug.plan).run()


def test_a_lease_of_what_is_deleted_meanwhile_is_given_up() -> None:
    """A takeover waited for homes that show nothing of a deleted queue, renewing its lease for ever."""
    World(66, draw_wider_plan(random.Random(66))).run()


def test_a_receive_waits_once_where_its_node_comes_to_lead_as_it_is_asked() -> None:
    run(454)


@pytest.mark.torture
@pytest.mark.parametrize("peer", ["dead", "restarted"])
def test_after_the_third_hour_no_more_is_in_memory_than_after_the_first(
    peer: str, monkeypatch: Patch, *, torture: bool
) -> None:
    if not torture:
        pytest.skip("takes long: make torture")
    # What is remembered for who is away fills its part of the memory limit only after days.
    monkeypatch.setattr(
        upkeep, "AWAITED", NodeConfig(data=Path("/nowhere")).memory_limit / (50 * PRODUCER_BYTES)
    )
    haul = Haul(1, peer=peer, hour=3600.0)
    haul.run()
    assert haul.visits > 450
    assert haul.grown() == []


# --- the walk -----------------------------------------------------------------------------------------------


class _Slotted:
    __slots__ = ("__dict__", "things")
    __module__ = "dmqnode.made_up"

    def __init__(self) -> None:
        self.things: list[Any] = []
        self.more: dict[Any, Any] = {}


def test_the_walk_finds_what_lies_in_slots_attributes_calls_and_containers() -> None:
    root = _Slotted()
    inner = _Slotted()
    inner.more = {1: {2, 3}}
    root.things = [lambda: None, (inner, "text"), inner.more.get]
    root.more = {"call": _Slotted.__init__, "self": root, "method": inner.__class__}
    walk = Walk().look(root)
    assert dict(walk.entries) == {"_Slotted.things": 3, "_Slotted.more": 3 + 1 + 2}
    assert walk.instances == {"_Slotted": 2}


def test_what_is_in_no_table_must_be_empty_at_rest_and_is_bounded_by_what_is_under_way_before() -> None:
    root, around = _Slotted(), Around(3, 1, 1, busy=100)
    root.things = [0] * 400
    assert "_Slotted.things" not in KEPT
    assert excess(root, around, rest=False) == []
    assert excess(root, around, rest=True) == ["_Slotted.things holds 400, at most 0"]
    root.things = [0] * 2000
    assert excess(root, around, rest=False) == ["_Slotted.things holds 2000, at most 1528"]
