"""Sends that may be stored already: how long they are made again, and what waits behind them."""

from __future__ import annotations

import pytest

from dmqnode.errors import Unknown
from dmqnode.messages import PurgeQueue, Send
from dmqnode.outcomes import RECOGNISED
from tests.dmqnode.answering import TIMEOUT, Cluster, bodies, connected


def test_what_the_node_has_failed_to_do_is_unknown() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.node.refuse("failed", stored="unknown")
    world.carry()
    assert isinstance(world.outcome(b"a")[1], Unknown)


@pytest.mark.parametrize("code", ["unknown", "unavailable"])
def test_a_send_of_which_the_node_does_not_know_is_made_again_under_its_number(code: str) -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    (first,) = (request for _, request in world.node.requests)
    world.node.refuse(code, stored="unknown")
    world.carry()
    world.wait(1.0)
    (again,) = (request for _, request in world.node.requests)
    assert isinstance(first, Send)
    assert isinstance(again, Send)
    assert again.sequence == first.sequence
    world.node.store()
    world.carry()
    assert world.outcome(b"a")[1] is None


def test_if_it_stays_like_that_it_is_unknown_in_the_end_whatever_is_refused_meanwhile() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.node.refuse("unknown", stored="unknown")
    world.carry()
    world.wait(1.0)
    world.node.refuse("unavailable", retryable=True)
    world.carry()
    world.wait(TIMEOUT)
    assert isinstance(world.outcome(b"a")[1], Unknown)


@pytest.mark.parametrize("lost", [True, False], ids=["the connection is lost", "the node does not know"])
def test_a_send_is_not_made_again_once_that_might_not_be_recognised(*, lost: bool) -> None:
    """The caller of a blocking client did something else for so long."""
    world = connected()
    world.send(b"a")
    world.carry()
    began, world.now = world.now, world.now + RECOGNISED + 1.0
    world.core.postpone(began, world.now)
    world.core.tick(world.now)
    world.carry()
    assert not world.outcomes, "its answer may be there"
    if lost:
        world.lose()
    else:
        world.node.refuse("unknown", stored="unknown")
        world.carry()
    assert isinstance(world.outcome(b"a")[1], Unknown)


def test_what_waits_behind_a_send_that_is_not_made_again_goes_another_way() -> None:
    world = Cluster()
    route, leader = world.directly()
    for body in (b"1", b"2", b"3", b"4", b"5"):
        world.send(body)
        world.carry()
    assert [bodies(request) for _, request in leader.requests] == [[b"1"], [b"2"], [b"3"], [b"4"]]
    began, world.now = world.now, world.now + RECOGNISED + 1.0
    world.core.postpone(began, world.now)
    world.lose(route)
    world.carry()
    assert [bodies(request) for _, request in world.home.requests] == [[b"5"]]
    assert not route.waiting


def test_a_send_in_doubt_is_made_again_for_so_long_only_wherever_it_waits() -> None:
    world = connected()
    world.core.timeout = 1000.0
    world.send(b"a")
    world.carry()
    world.node.refuse("unavailable", retryable=True, stored="unknown")
    world.carry()
    while world.now < 2 * RECOGNISED:
        world.wait(1.0)
        while world.node.requests:
            assert world.now < RECOGNISED + 30.0
            world.node.refuse("unavailable", retryable=True)
    world.outcomes += world.core.take_outcomes()
    assert isinstance(world.outcome(b"a")[1], Unknown)


def test_how_long_a_send_waited_before_it_was_written_does_not_count() -> None:
    world = connected()
    world.core.timeout = 1000.0
    world.lose()
    world.send(b"a")
    world.now += 2 * RECOGNISED
    world.connect()
    world.carry()
    world.lose()
    world.connect()
    world.carry()
    world.node.store()
    world.carry()
    assert world.outcome(b"a")[1] is None


def test_a_send_in_doubt_gets_no_more_time() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.lose()
    began, world.now = world.now, world.now + RECOGNISED + 1.0
    world.core.postpone(began, world.now)
    world.core.tick(world.now)
    world.outcomes += world.core.take_outcomes()
    assert isinstance(world.outcome(b"a")[1], Unknown)


def test_other_calls_of_which_the_node_does_not_know_are_not_made_again() -> None:
    world = connected()
    world.core.ask(world.now, PurgeQueue("q"), "who waits")
    world.carry()
    world.node.refuse("unknown", stored="unknown")
    world.carry()
    ((_, _, error),) = world.outcomes
    assert isinstance(error, Unknown)


# --- leaders that are lost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"g": "g"}, {}], ids=["of a group", "beyond what a lane has under way"])
def test_what_waited_for_a_send_that_nobody_waits_for_goes_another_way_when_its_leader_is_lost(
    options: dict[str, str],
) -> None:
    world = Cluster()
    route, leader = world.directly()
    lane, calls = ("q", None, False), []
    for n in range(5):
        calls.append(world.core.send(world.now, lane, b"%d" % n, options, n))
        world.carry()
    here = [body for _, request in leader.requests for body in bodies(request)]
    assert b"4" not in here
    world.core.withdraw(calls[0], 0)
    world.lose(route)
    world.carry()
    there = [body for _, request in world.home.requests for body in bodies(request)]
    assert there == [b"1", b"2", b"3", b"4"]
