"""What a node tells of itself and of its queues."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dmqnode import reports
from dmqnode.counters import Counters
from dmqnode.messages import (
    Browse,
    Explain,
    Failed,
    ListQueues,
    Members,
    NodeStatus,
    QueueList,
    Report,
    SetQueue,
)
from tests.dmqnode.world import World


def told(world: World, request: Any) -> dict[str, Any]:
    answer = world.ask(request)
    assert isinstance(answer, Report), answer
    return answer.fields


def reasons(world: World) -> list[str]:
    found: list[str] = told(world, Explain("q"))["reasons"]
    return found


def test_why_nothing_comes_out_is_said_in_sentences() -> None:
    world = World()
    world.create(visibility=20.0)
    assert reasons(world) == ["the queue is empty"]
    world.send(b"a")
    assert reasons(world) == ["1 message is ready and nobody receives"]
    world.send(b"later", delay=60.0)
    assert "1 message waits for its delay to end" in reasons(world)
    world.receive()
    assert any("with consumers" in reason for reason in reasons(world))
    world.ask(SetQueue("q", {"paused": True}))
    assert reasons(world)[0] == "the queue is paused; let it go on with: dmq queue resume q"


def test_a_node_that_refuses_sends_says_so_to_its_operator() -> None:
    world = World()
    assert told(world, NodeStatus())["notices"] == []
    around, config = world.broker.surroundings, world.broker.config
    around.free_disk, around.memory = config.disk_reserve - 1, config.memory_limit + 1
    disk, memory = told(world, NodeStatus())["notices"]
    assert disk.startswith("sends are refused: the disk is full: 255 MiB are free and 256 MiB are kept")
    assert memory.startswith("sends are refused: memory is above --memory-limit")


def test_groups_that_wait_are_said_to() -> None:
    world = World()
    world.create()
    for n in range(2):
        world.send(b"%d" % n, g="one")
    world.receive(1)
    assert "1 group waits for a message of its own that is with a consumer" in reasons(world)


def test_who_holds_what_until_when(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.create(visibility=20.0)
    for n in range(4):
        world.send(b"%d" % n)
    first = world.receive(1)
    world.pass_time(5.0)
    world.receive(2)
    holders = told(world, Explain("q"))["holders"]
    assert [(h["count"], h["attempt"], h["until_seconds"]) for h in holders] == [(1, 1, 15.0), (2, 1, 20.0)]
    assert holders[0]["delivery"] == first[0].held[1]
    monkeypatch.setattr(reports, "MAX_HOLDERS", 1)
    assert len(told(world, Explain("q"))["holders"]) == 1


def test_queues_are_listed_page_by_page_in_order() -> None:
    world = World()
    for name in ("b", "a1", "a2", "a3"):
        world.create(name)
    world.send(b"x", queue="a2")

    def page(**fields: Any) -> tuple[list[str], bool]:
        answer = world.ask(ListQueues(**{"prefix": "", "after": "", "limit": 10, "counts": False, **fields}))
        assert isinstance(answer, QueueList)
        return [q["name"] for q in answer.queues], answer.more

    assert page() == (["a1", "a2", "a3", "b"], False)
    assert page(prefix="a", limit=2) == (["a1", "a2"], True)
    assert page(prefix="a", after="a2") == (["a3"], False)
    answer = world.ask(ListQueues("a2", "", 1, True))
    assert isinstance(answer, QueueList)
    assert answer.queues[0]["ready"] == 1
    assert page(prefix="z", counts=True) == ([], False)


@pytest.mark.parametrize(
    "request_",
    [
        ListQueues("", "", 0, False),
        ListQueues("", "", reports.MAX_LIST + 1, False),
        Browse("q", "gone", 1, 1, None),
        Browse("q", "ready", 0, 1, None),
        Browse("q", "ready", reports.MAX_BROWSE + 1, 1, None),
        Browse("q", "ready", 1, 0, None),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(request_: Any) -> None:
    world = World()
    world.create()
    answer = world.ask(request_)
    assert isinstance(answer, Failed)
    assert answer.code == "invalid"


def test_a_node_counts_what_it_does_and_says_how_it_is() -> None:
    world = World()
    world.create(partitions=3)
    world.send(b"a", b"b")
    world.ack(world.receive())
    status = told(world, NodeStatus())
    assert set(Counters.__slots__) <= set(status)
    assert (status["sent"], status["delivered"], status["acked"], status["queues"]) == (2, 2, 2, 1)
    assert (status["partitions"], status["healthy"], status["notices"]) == (3, True, [])
    overview = status["overview"]
    assert (overview["members"], overview["moves"], overview["nodes"][0]["sent"]) == (1, [], 2)


def test_a_node_that_lost_something_is_not_healthy() -> None:
    world = World()
    world.broker.counters.lost = 1
    assert told(world, NodeStatus())["healthy"] is False


def test_one_node_is_the_only_member() -> None:
    (member,) = told(World(), Members())["members"]
    assert (member["state"], member["weight"]) == ("alive", 1.0)
    heavy = World()
    heavy.broker.config = replace(heavy.broker.config, weight=2)
    assert told(heavy, Members())["members"][0]["weight"] == 2.0
