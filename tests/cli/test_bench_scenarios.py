"""What a benchmark does, where that can be told without a node."""

from __future__ import annotations

import pytest
import trio

import dmqnode
from cli.bench import NAMES
from cli.bench_scenarios import SCENARIOS, Plan, _Left, _Quota, together
from dmqnode.errors import Unavailable


def plan(messages: int | None, duration: float) -> Plan:
    return Plan(dmqnode.connect, "q", 100, 10, 1, 1, messages, duration)


def test_a_quota_by_number_gives_exactly_that() -> None:
    quota = _Quota(plan(25, 0.0))
    assert list(quota.pieces(10)) == [10, 10, 5]
    assert quota.taken == 25


def test_a_quota_by_time_ends() -> None:
    assert list(_Quota(plan(None, 0.0)).pieces(10)) == []
    quota = _Quota(plan(None, 0.01))
    assert set(quota.pieces(10)) == {10}
    assert quota.taken % 10 == 0


def test_consumers_are_released_once_all_is_taken() -> None:
    left = _Left(None)
    left.take(5)
    assert not left.none
    left.expect(7)
    assert not left.none
    left.take(2)
    assert left.none


async def test_an_error_of_one_task_ends_the_others_and_is_not_wrapped() -> None:
    async def fail() -> None:
        raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        await together([trio.sleep_forever, fail])


def test_all_are_named() -> None:
    assert tuple(SCENARIOS) == NAMES
