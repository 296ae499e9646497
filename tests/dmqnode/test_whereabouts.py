"""What no home has, as the leader knows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dmqnode.following import Ranges, Stage
from dmqnode.homesets import HomeSet
from dmqnode.ids import LogId, NodeId
from dmqnode.ranges import RangeSet
from dmqnode.whereabouts import nowhere as nowhere_at_all
from dmqnode.whereabouts import nowhere_of, unshown

LOG = LogId(b"l" * 20)
ME, A, B = (NodeId(n * 8) for n in (b"m", b"a", b"b"))


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


def test_of_several_places_each_is_nowhere_or_not() -> None:
    """Each of two was on a home, and none of these had both."""
    logs = {LOG: SimpleNamespace(id=LOG, gaps=RangeSet([(0, 6)]))}
    asked: Ranges = ((LOG, 0, 2), (LOG, 2, 4), (LOG, 4, 6))

    def lost(*homes: Any) -> Ranges:
        return nowhere_at_all(SimpleNamespace(logs=logs, followers={h.node: h for h in homes}), asked)  # type: ignore[arg-type]

    one, other = home(A, follows=True, lacks=[(0, 2), (4, 6)]), home(B, follows=True, lacks=[(1, 6)])
    assert lost(one, other) == ((LOG, 4, 6),), "of the first B has one"
    assert lost(one, home(B, follows=False, lacks=[])) == ()
    logs[LOG].gaps = RangeSet([(0, 4)])
    assert lost(one, other) == (), "the leader has it"


def shown(least: int, *homes: Any) -> list[tuple[int, int]]:
    record = HomeSet.first((ME, A, B))
    stream: Any = SimpleNamespace(followers={h.node: h for h in homes}, record=lambda: record)
    return list(unshown(stream, {LOG: RangeSet([(2, 6)])}, least).get(LOG, RangeSet()))


def test_what_a_write_needs_so_many_homes_for_is_shown_by_one_of_the_others() -> None:
    silent = home(B, follows=False, lacks=[])
    assert shown(2, home(A, follows=True, lacks=[(2, 4)]), silent) == [(2, 4)]
    assert shown(2, home(A, follows=False, lacks=[]), silent) == [], "the two may have it"
    assert shown(3, home(A, follows=True, lacks=[(2, 4)]), silent) == [(2, 4)]
    assert shown(2, home(A, follows=True, lacks=[(2, 4)]), home(B, follows=True, lacks=[(2, 3)])) == [(2, 3)]
