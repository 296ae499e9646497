"""Which way calls go: by the node asked, or to the leader, and back when it is lost, slow or another."""

from __future__ import annotations

import pytest

from dmqnode.errors import Unknown
from dmqnode.ids import PartitionId
from dmqnode.messages import (
    Ack,
    DeleteQueue,
    Leads,
    Nack,
    Receive,
    Send,
    Settled,
)
from dmqnode.route import AWAY, IDLE, PATIENT, PROMPT, SLOWEST, Route
from dmqnode.routes import HOLD, MOST_DIRECT, SPARE
from tests.dmqnode.answering import LED, LOG, Cluster, FakeNode, bodies, delivered


def sent(node: FakeNode) -> list[bytes]:
    return [body for _, m in node.requests if isinstance(m, Send) for body in bodies(m)]


def test_calls_go_home_until_the_leader_has_welcomed_and_then_to_it() -> None:
    world = Cluster()
    world.tell()
    assert world.routes.open_routes(world.now) == []  # nothing is asked: nobody need be dialled
    world.send(b"a")
    world.carry()
    (route,) = world.routes.open_routes(world.now)
    assert route.link.dialling.address == ("n2", 1)
    assert world.routes.open_routes(world.now) == []
    world.home.store()
    world.carry()
    world.send(b"b")
    world.carry()
    assert sent(world.home) == [b"b"]
    leader = world.connect(route, "n2")
    world.home.store()
    world.carry()
    world.send(b"c")
    world.core.ask(world.now, Receive("q", 1, 1, 0.0, None), "r")
    world.core.ask(world.now, Nack([(LED, 7, LOG, 0, 1)], 0.0, False, ""), "n")
    world.core.ack(world.now, (LED, 7, LOG, 0, 1), "k")
    world.core.ask(world.now, DeleteQueue("q"), "d")
    world.carry()
    assert {type(m) for _, m in leader.requests} == {Send, Receive, Nack, Ack}
    assert {type(m) for _, m in world.home.requests} == {DeleteQueue}


def test_what_the_node_asked_leads_needs_no_other_way() -> None:
    world = Cluster()
    world.tell(node="n1")
    world.send(b"a")
    world.carry()
    assert sent(world.home) == [b"a"]
    assert world.routes.open_routes(world.now) == []


def test_a_lost_leader_gives_its_calls_back_in_order_and_is_left_alone() -> None:
    world = Cluster()
    route, leader = world.directly()
    for n in range(3):
        world.batch(b"%d" % n)
    world.core.ask(world.now, Ack([(LED, 7, LOG, 0, 1)]), "k")
    world.carry()
    assert sent(leader) == [b"0", b"1", b"2"]
    numbers = [m.sequence for _, m in leader.requests if isinstance(m, Send)]
    world.lose(route)
    world.batch(b"3")
    world.carry()
    assert sent(world.home) == [b"0", b"1", b"2", b"3"]
    assert [m.sequence for _, m in world.home.requests if isinstance(m, Send)][:3] == numbers
    assert [m.again for _, m in world.home.requests if isinstance(m, Ack)] == [True]
    world.tell()
    world.batch(b"4")
    assert world.routes.open_routes(world.now) == []  # not so soon after it was lost
    world.tell()
    world.now += 60
    world.batch(b"5")
    assert len(world.routes.open_routes(world.now)) == 1


def test_sends_never_travel_by_two_ways_at_once() -> None:
    world = Cluster()
    world.tell()
    for n in range(3):
        world.batch(b"%d" % n)
    world.carry()
    _, leader = world.go()
    world.batch(b"3")
    world.batch(b"other", "r")
    world.batch(b"4")
    world.carry()
    assert sent(leader) == []
    assert sent(world.home) == [b"0", b"1", b"2", b"other"]
    for _ in range(3):
        world.home.store()
    world.carry()
    assert sent(leader) == [b"3", b"4"]


def test_sends_are_not_held_for_long() -> None:
    world = Cluster()
    world.tell()
    world.batch(b"0")
    world.carry()
    _, leader = world.go()
    world.batch(b"1")
    world.carry()
    world.wait(HOLD - 0.01)
    assert sent(world.home) == [b"0"]
    world.wait(0.02)
    assert sent(world.home) == [b"0", b"1"]
    world.batch(b"2")
    world.carry()
    assert sent(world.home) == [b"0", b"1", b"2"]
    assert sent(leader) == []


def test_sends_held_when_the_leader_is_lost_come_behind_those_of_before() -> None:
    world = Cluster()
    route, leader = world.directly()
    world.batch(b"0")
    world.batch(b"1")
    world.carry()
    world.tell(node="n3")
    world.batch(b"2")
    world.carry()
    assert sent(leader) == [b"0", b"1"]
    world.lose(route)
    world.carry()
    assert sent(world.home) == [b"0", b"1", b"2"]


@pytest.mark.parametrize(("name", "cluster"), [("n3", "dmq"), ("n2", "other")])
def test_who_is_not_the_leader_that_was_told_is_asked_nothing(name: str, cluster: str) -> None:
    world = Cluster()
    world.tell()
    world.send(b"a")
    world.carry()
    (route,) = world.routes.open_routes(world.now)
    other = world.connect(route, name, cluster)
    assert route not in world.nodes  # hung up
    world.home.store()
    world.carry()
    world.send(b"b")
    world.carry()
    assert sent(world.home) == [b"b"]
    assert other.requests == []


def test_a_dial_that_fails_changes_nothing() -> None:
    world = Cluster()
    world.tell()
    world.send(b"a")
    world.carry()
    (route,) = world.routes.open_routes(world.now)
    world.core.dial_failed(world.now, "no answer", route)
    world.home.store()
    world.carry()
    assert world.outcome(b"a")[1] is None
    world.tell()
    world.send(b"b")
    assert world.routes.open_routes(world.now) == []


@pytest.mark.parametrize(("prompt", "patience"), [(True, PROMPT), (False, PATIENT)])
def test_a_silent_leader_is_asked_and_then_given_up(prompt: bool, patience: float) -> None:
    world = Cluster()
    route, leader = world.directly()
    if prompt:
        world.send(b"a")
    else:
        world.core.ask(world.now, Receive("q", 1, 1, 20.0, None), "r")
    world.carry()
    asked = len(leader.requests)
    del world.nodes[route]  # it is cut off: nothing comes any more
    world.wait(patience + 0.01)
    assert not route.ended
    world.wait(2 * patience)
    assert asked == 1
    assert route.ended
    world.core.disconnected(world.now, "", route)
    world.carry()
    assert len(world.home.requests) == 1


def test_a_leader_that_answers_pings_is_waited_for() -> None:
    world = Cluster()
    route, leader = world.directly()
    world.send(b"a")
    world.carry()
    world.wait(10 * PROMPT)
    assert not route.ended
    leader.store()
    world.carry()
    assert world.outcome(b"a")[1] is None


@pytest.mark.parametrize("others", [True, False])
def test_a_silent_node_is_given_up_where_there_are_others(others: bool) -> None:
    world = Cluster("n1:1", "n2:1") if others else Cluster("n1:1")
    home = world.core.home
    world.send(b"a")
    world.carry()
    del world.nodes[home]  # its machine is gone without a word
    world.wait(PATIENT + 0.01)
    assert not home.ended
    world.wait(2 * PATIENT)
    assert home.ended == others


def test_what_is_long_may_be_under_way_for_long() -> None:
    world = Cluster("n1:1", "n2:1")
    home = world.core.home
    world.send(bytes(4 * SLOWEST))
    world.carry()
    del world.nodes[home]
    world.wait(3 * PATIENT + 1)
    assert not home.ended
    world.wait(4 + 2 * 4)
    assert home.ended


def test_a_client_that_was_away_itself_does_not_complain_of_silence() -> None:
    world = Cluster()
    route, _ = world.directly()
    world.send(b"a")
    world.carry()
    world.now += 5
    world.core.tick(world.now)
    world.now += 2 * PROMPT + AWAY + 1  # late again: the answer may lie in the socket
    world.core.tick(world.now)
    assert not route.ended
    world.now = world.core.next_deadline()
    world.core.tick(world.now)
    assert route.ended


def test_a_leader_that_leaves_answers_what_it_was_asked_and_gets_no_more() -> None:
    world = Cluster()
    route, leader = world.directly()
    world.batch(b"0")
    world.carry()
    leader.leave()
    world.carry()
    world.batch(b"1")
    world.carry()
    assert (sent(leader), sent(world.home)) == ([b"0"], [])
    leader.store()
    world.carry()
    assert route not in world.nodes
    assert sent(world.home) == [b"1"]


def test_an_idle_way_is_closed_and_found_again() -> None:
    world = Cluster()
    route, _ = world.directly()
    world.wait(IDLE + 1)
    assert route.ended or route not in world.nodes
    world.tell()
    world.send(b"a")
    assert len(world.routes.open_routes(world.now)) == 1


def test_the_number_of_ways_is_bounded() -> None:
    world = Cluster()

    def want(n: int) -> list[Route]:
        world.home.connection.send(
            0, Leads(f"q{n}", PartitionId(b"%08d" % n + bytes(2)), 1, f"m{n}", f"m{n}:1")
        )
        world.carry()
        world.send(b"%d" % n, queue=f"q{n}")
        world.carry()
        while world.home.requests:
            world.home.store()
        world.carry()
        return world.routes.open_routes(world.now)

    for n in range(MOST_DIRECT):
        (route,) = want(n)
        world.connect(route, f"m{n}")
    assert want(MOST_DIRECT) == []
    world.now += SPARE
    assert want(MOST_DIRECT) == []
    world.carry()  # the one used longest ago is closed
    assert len(want(MOST_DIRECT)) == 1


def test_a_token_is_not_taken_from_this_machine_to_another() -> None:
    world = Cluster("127.0.0.1:1", guarded=True)
    world.tell()
    world.send(b"a")
    assert world.routes.open_routes(world.now) == []
    world = Cluster("n1:1", guarded=True)
    world.tell()
    world.send(b"a")
    assert len(world.routes.open_routes(world.now)) == 1


def test_what_the_leader_cannot_read_goes_home() -> None:
    world = Cluster()
    world.tell()
    world.send(b"a")
    world.carry()
    (route,) = world.routes.open_routes(world.now)
    leader = world.connect(route, "n2", max_frame=1000)
    world.home.store()
    world.carry()
    world.batch(b"x" * 2000)
    world.carry()
    assert (len(sent(leader)), len(sent(world.home))) == (0, 1)
    world.home.store()
    world.carry()
    assert world.outcome(b"x" * 2000)[1] is None


def test_a_receive_under_way_at_the_leader_is_cancelled_there() -> None:
    world = Cluster()
    _, leader = world.directly()
    call = world.core.ask(world.now, Receive("q", 1, 1, 20.0, None), "r")
    world.carry()
    world.core.withdraw(call, "r")
    world.carry()
    number, _ = leader.take()
    assert leader.cancelled == [number]
    leader.answer(number, delivered(b"x"))
    world.carry()
    assert world.routes.parting
    number, message = world.home.take()  # of what was delivered nobody has said who leads it
    assert isinstance(message, Nack)
    world.home.answer(number, Settled([]))
    world.carry()
    assert not world.routes.parting


def test_what_is_not_repeated_is_unknown_when_its_way_is_lost() -> None:
    world = Cluster()
    world.core.ask(world.now, DeleteQueue("q"), "d")
    world.carry()
    world.lose(world.core.home)
    assert isinstance(world.outcome("d")[1], Unknown)


def test_calls_of_a_lost_home_go_to_the_leader() -> None:
    world = Cluster()
    world.tell()
    world.batch(b"0")
    world.carry()
    _, leader = world.go()
    world.batch(b"1")  # held
    world.lose(world.core.home)
    world.carry()
    assert sent(leader) == [b"0", b"1"]


def test_nothing_is_left_when_all_is_answered() -> None:
    world = Cluster()
    route, leader = world.directly()
    world.send(b"a", b"b")
    world.carry()
    leader.store()
    world.carry()
    routes = world.routes
    assert (routes._courses, routes._holding, routes.pending(), routes.wanted) == ({}, {}, [], {})
    assert route._urgent == 0
