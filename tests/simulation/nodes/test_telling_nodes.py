"""What is raised where whole nodes break a promise tells the story of the message concerned."""

from __future__ import annotations

import re

import pytest

from tests.simulation.nodes import planted_nodes as planted
from tests.simulation.nodes.accounts import Broken
from tests.simulation.nodes.plan import Plan
from tests.simulation.nodes.world import World
from tests.simulation.test_telling import LINE, MESSAGE, SEND


def run(seeds: range) -> None:
    for seed in seeds:
        World(seed, Plan(faults=("kill",), chores=True, dead_after=20.0, seconds=6.0)).run()


def test_the_story_is_that_of_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    planted.names_are_not_recognised(monkeypatch)
    with pytest.raises(Broken, match=r"^P10 ") as raised:
        run(range(1, 7))
    text = str(raised.value)
    found = MESSAGE.search(text)
    assert found is not None, "it names the message"
    lines = LINE.findall(text)
    reasons = ", ".join(why for _, why, _ in lines)
    assert "stored as" in reasons
    assert re.search(rf"delivers n\d \S+ \w+ \d+ \[it\] .*\b{found[1]}\b", text)
    sends = [SEND.search(what) for _, _, what in lines]
    numbers = [{int(n or 0) for n in send[1].split(",")} for send in sends if send is not None]
    assert all(int(found[1]) in of_line for of_line in numbers), "and nothing of another"
