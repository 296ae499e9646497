"""Runs of whole nodes that once broke a promise, each as small as it was found."""

from __future__ import annotations

import pytest

from tests.simulation.nodes.plan import Plan
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


@pytest.mark.parametrize(
    ("seed", "plan"),
    [
        pytest.param(4, LEAVES, id="who does not hear that it has left leaves all the same"),
        pytest.param(22, LEAVES, id="who is about to leave keeps nothing for others"),
        pytest.param(5, FORGOTTEN, id="a partition all of whose homes were forgotten gets new ones"),
        pytest.param(4, FORGOTTEN, id="and not others for those who join later"),
        pytest.param(65, BEHIND, id="a change of homes is finished though a new one has not heard of it"),
        pytest.param(11, TWO_CLOCKS, id="what is delayed by one of two clocks is due by that one"),
        pytest.param(113, None, id="copies are compared though who would do that had just started"),
        pytest.param(2116, LOST_TWO, id="of four homes of the list one is replaced and another lost at once"),
        pytest.param(2, BURN, id="of five nodes three burn"),
        pytest.param(1, BEREAVED, id="of five homes three are lost at once, and one more member than may be"),
        pytest.param(73, LEFT_ALONE, id="who alone knows the new homes does not leave before another does"),
        pytest.param(21, TOLD, id="who is forgotten begins anew, though it hears so by the list without it"),
        pytest.param(24, LEFT_ALONE, id="no copy is given up before the new homes are known on disk"),
    ],
)
def test_promises_hold(seed: int, plan: Plan | None) -> None:
    World(seed, plan).run()
