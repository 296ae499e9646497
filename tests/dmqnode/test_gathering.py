"""Who joins a node that is alone waits a moment for another; nobody else waits (M5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from dmqnode.clock import Now
from dmqnode.errors import DMQError, ProtocolError, Refused
from dmqnode.gathering import HOLD, Gathering
from dmqnode.ids import NodeId
from dmqnode.messages import Step
from dmqnode.roster import Member, Roster, Rosters
from storage.ops import WriteBatch

MEMBERS = [Member(NodeId(b"node%04d" % n), f"n{n}", f"h:{n}") for n in range(5)]


class Port:
    def send(self, node: NodeId, message: Any) -> None:
        """Nobody hears it."""

    def write(self, ops: WriteBatch, then: Callable[[Now], None], *, sync: bool = True) -> None:
        then(Now(0.0, 0))


class Lone:
    """A node that leads the list of members, of which there are so many."""

    def __init__(self, count: int = 1) -> None:
        self.now = Now(100.0, 1_700_000_000_000)
        self.sizes: list[int] = []
        self.outcomes: dict[str, DMQError | None] = {}
        self.leads = True
        self.gone: set[str] = set()
        self._timers: list[tuple[float, Callable[[Now], None]]] = []
        port: Any = Port()
        self.rosters = Rosters(
            Roster(1, tuple(MEMBERS[:count])),
            port,
            self._replicate,
            self._changed,
            replicas=3,
            dead_after=60.0,
        )
        self.gathering = Gathering(self.rosters, self._later)

    def _replicate(self, now: Now, partition: bytes, ops: WriteBatch, then: Callable[[Now], None]) -> bool:
        if self.leads:
            then(now)
        return self.leads

    def _changed(self, now: Now, roster: Roster) -> None:
        self.sizes.append(len(roster.members))

    def _later(self, now: Now, seconds: float, then: Callable[[Now], None]) -> None:
        self._timers.append((now.run + seconds, then))

    def join(self, n: int, **changes: Any) -> None:
        member = MEMBERS[n]._replace(**changes)
        self.step(f"n{n}", Step("join", cbor2.dumps(list(member)), False))

    def step(self, name: str, step: Step) -> None:
        done = lambda now, error: self.outcomes.update({name: error})
        self.gathering.step(self.now, step, done, lambda: name not in self.gone)

    def wait(self, seconds: float) -> None:
        self.now = Now(self.now.run + seconds, self.now.wall)
        due = [then for at, then in self._timers if at <= self.now.run]
        self._timers = [(at, then) for at, then in self._timers if at > self.now.run]
        for then in due:
            then(self.now)


def test_two_that_come_together_are_let_in_by_one_step() -> None:
    lone = Lone()
    lone.join(1)
    lone.wait(HOLD / 2)
    assert not lone.outcomes
    lone.join(2)
    assert lone.sizes == [3]
    assert lone.outcomes == {"n1": None, "n2": None}
    assert lone.rosters.current.version == 2
    lone.join(3)
    assert lone.sizes == [3, 4], "with three nobody waits"


def test_who_comes_by_himself_waits_a_fraction_of_a_second() -> None:
    assert HOLD <= 0.5
    lone = Lone()
    lone.join(1)
    lone.wait(HOLD)
    assert lone.sizes == [2]
    assert lone.outcomes == {"n1": None}


def test_one_that_asks_twice_is_not_two() -> None:
    lone = Lone()
    lone.join(1)
    lone.join(1)
    assert not lone.sizes
    lone.wait(HOLD)
    assert lone.sizes == [2]


def test_who_has_gone_meanwhile_is_not_let_in() -> None:
    lone = Lone()
    lone.join(1)
    lone.gone.add("n1")
    lone.wait(HOLD)
    assert not lone.sizes
    lone.join(1)
    lone.join(2)
    assert not lone.sizes, "n2 waits as the first"
    lone.wait(HOLD)
    assert lone.rosters.current.nodes == (MEMBERS[0].node, MEMBERS[2].node)


@pytest.mark.parametrize("count", [2, 3])
def test_with_several_members_nobody_waits(count: int) -> None:
    several = Lone(count)
    several.join(4)
    assert several.sizes == [count + 1]


def test_a_member_that_is_elsewhere_now_does_not_wait() -> None:
    lone = Lone()
    lone.join(0, address="h:99")
    assert lone.sizes == [1]
    lone.step("last", Step("leave", MEMBERS[0].node, False))
    assert isinstance(lone.outcomes["last"], Refused)


def test_both_are_told_why_not() -> None:
    lone = Lone()
    lone.leads = False
    lone.join(1)
    lone.join(2)
    assert all(isinstance(error, Refused) for error in lone.outcomes.values())
    assert len(lone.outcomes) == 2
    lone.leads = True
    lone.wait(HOLD)  # what was held then is answered
    lone.join(1)
    lone.wait(HOLD)
    assert lone.sizes == [2]


def test_what_is_no_member_is_refused_at_once() -> None:
    node, *rest = MEMBERS[1]
    for fields in (["?"], [8, *rest], [node, *rest[:3], "x"], [node, *rest[:3], math.nan]):
        for record in (cbor2.dumps(fields), cbor2.dumps(fields)[:-1], b""):
            with pytest.raises(ProtocolError):
                Lone().step("?", Step("join", record, False))
