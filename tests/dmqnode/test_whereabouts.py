"""What no home has, as the leader knows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dmqnode.following import Stage
from dmqnode.ids import LogId, NodeId
from dmqnode.ranges import RangeSet
from dmqnode.whereabouts import nowhere_of

LOG = LogId(b"l" * 20)
A, B = NodeId(b"a" * 8), NodeId(b"b" * 8)


def home(node: NodeId, *, follows: bool, lacks: list[tuple[int, int]]) -> Any:
    stage = Stage.FOLLOWING if follows else Stage.ASKED
    return SimpleNamespace(node=node, stage=stage, gaps={LOG: RangeSet(lacks)})


def nowhere(*homes: Any, members: tuple[NodeId, ...] = (A, B)) -> list[tuple[int, int]]:
    stream: Any = SimpleNamespace(followers={h.node: h for h in homes})
    return list(nowhere_of(stream, {LOG: RangeSet([(2, 6)])}, members).get(LOG, RangeSet()))


def test_what_all_homes_lack_is_nowhere() -> None:
    assert nowhere(home(A, follows=True, lacks=[(2, 6)]), home(B, follows=True, lacks=[(2, 4)])) == [(2, 4)]


def test_a_home_that_says_nothing_yet_may_have_it() -> None:
    assert nowhere(home(A, follows=True, lacks=[(2, 6)]), home(B, follows=False, lacks=[])) == []


def test_who_is_no_member_any_more_is_not_waited_for() -> None:
    gone = home(B, follows=False, lacks=[])
    assert nowhere(home(A, follows=True, lacks=[(2, 6)]), gone, members=(A,)) == [(2, 6)]
