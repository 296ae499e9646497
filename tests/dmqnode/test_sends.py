"""What is refused at the door, and what then is not counted as under way."""

from __future__ import annotations

import pytest

from dmqnode import sends
from dmqnode.messages import Failed, Stored
from tests.dmqnode.world import World


@pytest.fixture
def world() -> World:
    world = World()
    world.create()
    return world


def refused(world: World, *bodies: bytes, **options: object) -> Failed:
    answer = world.ask(world.send_request(list(bodies), **options))  # type: ignore[arg-type]
    assert isinstance(answer, Failed), answer
    assert world.broker.sends.unstored == 0
    return answer


def test_a_producer_id_has_a_bound(world: World) -> None:
    longest = b"p" * sends.MAX_PRODUCER
    assert isinstance(world.ask(world.send_request([b"x"], producer=longest)), Stored)
    answer = refused(world, b"y", producer=longest + b"p")
    assert (answer.code, answer.retryable) == ("invalid", False)
    assert "65 bytes is too long; the limit is 64" in answer.message
    assert world.bodies() == [b"x"]


def test_too_much_under_way_is_refused_for_the_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sends, "MAX_UNSTORED", 1000)
    world.hold_writes = True
    first = world.request(world.send_request([b"x" * 800]))
    second = world.request(world.send_request([b"y" * 800]))
    world.run()
    answer = world.replies[second]
    assert isinstance(answer, Failed)
    assert (answer.code, answer.retryable) == ("overloaded", True)
    world.hold_writes = False
    world.run()
    assert isinstance(world.replies[first], Stored)
    assert world.broker.sends.unstored == 0
    assert isinstance(world.ask(world.send_request([b"z" * 800])), Stored)


def test_memory_over_its_limit_refuses_sends_and_nothing_else(world: World) -> None:
    world.send(b"a")
    world.broker.surroundings.memory = world.config.memory_limit + 1
    assert refused(world, b"b").code == "overloaded"
    assert world.bodies() == [b"a"]


def test_an_unknown_queue_is_made_only_on_demand(world: World) -> None:
    assert refused(world, b"x", queue="new").code == "queue-not-found"
    world.send(b"x", queue="new", create=True)
    assert world.bodies(queue="new") == [b"x"]
