"""Who is cut off and may still serve is not struck off, unless those are too few to serve anything."""

from __future__ import annotations

from dmqnode.clock import Now
from dmqnode.ids import NodeId
from dmqnode.striking import StruckOff

A, B, C = (NodeId(bytes([n]) * 8) for n in (1, 2, 3))


def test_one_of_three_homes_serves_nothing_alone() -> None:
    struck = StruckOff(15.0)
    assert struck.too_few(Now(0.0, 0), [A], 3)
    assert not struck.too_few(Now(0.0, 0), [A, B], 3)
    assert struck.too_few(Now(0.0, 0), [A, B], 5)


def test_half_is_too_many() -> None:
    assert not StruckOff(15.0).too_few(Now(0.0, 0), [A], 2)
    assert StruckOff(15.0).too_few(Now(0.0, 0), [A], 4)


def test_who_was_struck_off_a_while_ago_may_still_serve() -> None:
    struck = StruckOff(15.0)
    struck.note(Now(0.0, 0), [C])
    struck.note(Now(10.0, 0), [C, B])
    assert not struck.too_few(Now(12.0, 0), [A], 5)
    assert struck.too_few(Now(15.0, 0), [A], 5)
    assert not struck.too_few(Now(15.0, 0), [A], 3)
    assert struck.too_few(Now(25.0, 0), [A], 3)


def test_nobody_counts_twice() -> None:
    struck = StruckOff(15.0)
    struck.note(Now(0.0, 0), [A])
    assert struck.too_few(Now(1.0, 0), [A], 3)


def test_nobody_is_too_few_who_is_a_majority_of_some_homes_that_are_known() -> None:
    struck = StruckOff(15.0)
    asked: list[set[NodeId]] = []
    struck.spared = lambda away: asked.append(set(away)) or False  # type: ignore[func-returns-value]
    struck.note(Now(0.0, 0), [B])
    assert not struck.too_few(Now(1.0, 0), [A], 5)
    assert asked == [{A, B}]
