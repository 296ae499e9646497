"""Runs of whole nodes that once broke a promise, each as small as it was found."""

from __future__ import annotations

import random

import pytest

from tests.simulation.nodes.plan import Plan, draw_large_plan
from tests.simulation.nodes.world import World

LEAVES = Plan(faults=("leave",), seconds=4.0)
FORGOTTEN = Plan(
    faults=("long_split",), nodes=5, replicas=2, dead_after=20.0, seconds=0.0, producers=1, consumers=1
)
BEHIND = Plan(faults=("join", "halves"), replicas=2, dead_after=20.0, seconds=4.0, producers=1, consumers=1)
TWO_CLOCKS = Plan(faults=("clock",), nodes=2, replicas=2, dead_after=20.0, seconds=6.0)
BURN = Plan(faults=("burn",), nodes=5, replicas=2, seconds=6.0, producers=1, consumers=1)
BEREAVED = Plan(faults=("bereave",), nodes=7, replicas=5, dead_after=20.0, seconds=6.0)
LOST_TWO = Plan(faults=("replace", "absent"), nodes=4, replicas=2, dead_after=20.0, seconds=6.0)

LEFT_ALONE = Plan(
    faults=("boundary", "leave"), edge="homes", nodes=2, replicas=2, seconds=4.0, producers=1, consumers=1
)

TOLD = Plan(
    faults=("boundary", "forget"), edge="roster", dead_after=60.0, seconds=4.0, producers=1, consumers=1
)

ALONE = Plan(
    faults=("torn", "pause"), nodes=1, write_quorum=3, dead_after=20.0, seconds=6.0, consumers=3, labours=True
)
SECOND = Plan(
    faults=("blackout", "join"),
    nodes=1,
    write_quorum=1,
    dead_after=20.0,
    seconds=6.0,
    producers=1,
    labours=True,
)
STRAGGLES = Plan(faults=("straggle",), nodes=7, replicas=5, dead_after=20.0, seconds=2.0, labours=True)
ON_ALL = Plan(faults=("replace", "destroy"), write_quorum=3, seconds=2.0, producers=1, consumers=1)


@pytest.mark.torture
@pytest.mark.parametrize(
    ("seed", "plan"),
    [
        pytest.param(12, STRAGGLES, id="homes formed anew wait for all that was left"),
        pytest.param(31, SECOND, id="who is not alone any more visits no queues"),
        pytest.param(16, STRAGGLES, id="acks that nobody is left to know of may be gone"),
        pytest.param(4, FORGOTTEN, id="and not others for those who join later"),
        pytest.param(2116, LOST_TWO, id="of four homes of the list one is replaced and another lost at once"),
        pytest.param(2, BURN, id="of five nodes three burn"),
        pytest.param(1, BEREAVED, id="of five homes three are lost at once, and one more member than may be"),
        pytest.param(58, None, id="who claims does not lead, whatever was heard"),
        pytest.param(63, None, id="a copy moves though what has come since is on all homes only then"),
        pytest.param(1, ON_ALL, id="the list changes though W copies of it cannot be"),
    ],
)
def test_promises_hold_in_large_plans(seed: int, plan: Plan | None, *, torture: bool) -> None:
    if not torture:
        pytest.skip("takes several seconds: make torture")
    World(seed, plan or draw_large_plan(random.Random(seed))).run()


@pytest.mark.parametrize(
    ("seed", "plan"),
    [
        pytest.param(4, LEAVES, id="who does not hear that it has left leaves all the same"),
        pytest.param(22, LEAVES, id="who is about to leave keeps nothing for others"),
        pytest.param(5, FORGOTTEN, id="a partition all of whose homes were forgotten gets new ones"),
        pytest.param(65, BEHIND, id="a change of homes is finished though a new one has not heard of it"),
        pytest.param(11, TWO_CLOCKS, id="what is delayed by one of two clocks is due by that one"),
        pytest.param(113, None, id="copies are compared though who would do that had just started"),
        pytest.param(73, LEFT_ALONE, id="who alone knows the new homes does not leave before another does"),
        pytest.param(21, TOLD, id="who is forgotten begins anew, though it hears so by the list without it"),
        pytest.param(24, LEFT_ALONE, id="no copy is given up before the new homes are known on disk"),
        pytest.param(10, ALONE, id="a purge of a node without others is told to nobody"),
    ],
)
def test_promises_hold(seed: int, plan: Plan | None) -> None:
    World(seed, plan).run()
