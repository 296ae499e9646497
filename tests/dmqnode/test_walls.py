"""Which node's clock is wrong, as each of them sees it."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest

from dmqnode.clock import Now
from dmqnode.ids import NodeId
from dmqnode.walls import Walls

A, B, C = (NodeId(b"node000%d" % n) for n in range(3))


class Sent:
    """A port that only keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[NodeId, Any]] = []

    def send(self, node: NodeId, message: Any) -> None:
        self.sent.append((node, message))


class Clocks:
    """Nodes whose clocks differ, and which talk without delay but for half a second at each look."""

    def __init__(self, **offsets: int) -> None:
        self.offsets = {NodeId(b"node000%d" % n): ms for n, ms in enumerate(offsets.values())}
        self.run = 100.0
        self.linked = {n: {m: 100.0 for m in self.offsets if m != n} for n in self.offsets}
        self.ports = {n: Sent() for n in self.offsets}
        self.walls = {
            n: Walls(cast("Any", self.ports[n]), partial(self.linked.get, n, {})) for n in self.ports
        }

    def now(self, node: NodeId) -> Now:
        return Now(self.run, 1_700_000_000_000 + round(self.run * 1000) + self.offsets[node])

    def turn(self, seconds: float = 6.0) -> None:
        for _ in range(round(seconds * 2)):
            self.run += 0.5
            for node, walls in self.walls.items():
                walls.look(self.now(node))
            for _ in range(2):
                for node, port in self.ports.items():
                    sent, port.sent = port.sent, []
                    for to, message in sent:
                        if to in self.linked[node]:
                            self.walls[to].receive(self.now(to), node, message)
            for node, walls in self.walls.items():
                walls.judge(self.now(node))

    @property
    def off(self) -> list[NodeId]:
        return [n for n, walls in self.walls.items() if walls.off]


@pytest.mark.parametrize("step", [12_000, -12_000, 86_400_000, -86_400_000])
def test_of_three_the_one_that_differs_is_off_at_once_and_comes_back_by_itself(step: int) -> None:
    clocks = Clocks(a=0, b=30, c=-20)
    clocks.turn()
    assert clocks.off == []
    clocks.offsets[B] += step
    assert clocks.walls[B].judge(clocks.now(B))
    assert clocks.off == [B]
    clocks.turn()
    assert clocks.off == [B]
    assert "set it right" in clocks.walls[B].notices()[0]
    assert clocks.walls[A].far(clocks.now(A), B)
    clocks.offsets[B] -= step
    clocks.turn(1.0)
    assert clocks.off == []
    assert not any(w.notices() for w in clocks.walls.values())


def test_nine_seconds_are_borne() -> None:
    clocks = Clocks(a=0, b=0, c=9000)
    clocks.turn()
    assert clocks.off == []


def test_of_two_nobody_knows_which_is_wrong() -> None:
    clocks = Clocks(a=0, b=60_000)
    clocks.turn()
    assert clocks.off == []
    assert all(w.notices() for w in clocks.walls.values())


def test_who_was_outvoted_stays_aside_when_one_of_the_others_is_gone() -> None:
    clocks = Clocks(a=0, b=60_000, c=0)
    clocks.turn()
    assert clocks.off == [B]
    for linked in clocks.linked.values():
        linked.pop(C, None)
    clocks.turn()
    assert clocks.off == [B]


def test_a_clock_that_was_heard_a_moment_ago_tells_while_its_node_is_away_but_not_for_long() -> None:
    for away, off in ((5.0, [B]), (40.0, [])):
        clocks = Clocks(a=0, b=30, c=-20)
        clocks.turn()
        for linked in clocks.linked.values():
            linked.pop(C, None)
        clocks.turn(away)
        clocks.offsets[B] += 86_400_000
        clocks.turn(0.5)
        assert clocks.off == off


def test_until_the_third_has_answered_there_is_doubt_but_not_for_long() -> None:
    clocks = Clocks(a=0, b=60_000, c=0)
    clocks.ports[C].send = lambda node, message: None  # type: ignore[method-assign]
    for node in (A, B):
        clocks.linked[node] = dict.fromkeys(clocks.linked[node], clocks.run)
    clocks.turn(1.0)
    assert clocks.walls[A].silent
    assert clocks.walls[B].silent
    clocks.turn(2.0)
    assert not clocks.walls[A].silent


def test_a_slow_answer_says_little_and_is_not_used() -> None:
    clocks = Clocks(a=0, b=60_000)
    walls = clocks.walls[A]
    walls.look(clocks.now(A))
    (_, asked) = clocks.ports[A].sent.pop()
    clocks.run += 7.0
    clocks.walls[B].receive(clocks.now(B), A, asked)
    walls.receive(clocks.now(A), B, clocks.ports[B].sent.pop()[1])
    assert not walls.far(clocks.now(A), B)
