"""Runs of whole nodes that once broke a promise, each as small as it was found."""

from __future__ import annotations

import pytest

from tests.simulation.nodes.plan import Plan
from tests.simulation.nodes.world import World

LEAVES = Plan(faults=("leave",), seconds=4.0)


@pytest.mark.parametrize(
    ("seed", "plan"),
    [
        pytest.param(4, LEAVES, id="who does not hear that it has left leaves all the same"),
        pytest.param(22, LEAVES, id="who is about to leave keeps nothing for others"),
    ],
)
def test_promises_hold(seed: int, plan: Plan) -> None:
    World(seed, plan).run()
