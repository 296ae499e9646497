"""What is copied for safety comes before what only moves."""

from __future__ import annotations

from dmqnode.filling import only_moves
from dmqnode.following import Follower, Stage, Stream
from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.log import Log
from dmqnode.ranges import RangeSet

ME, B, C, D = (NodeId(bytes([n] * 8)) for n in range(1, 5))
PARTITION = PartitionId(bytes(9) + b"\x07")
LOG = LogId(bytes(20))


def led(*, homes: tuple[NodeId, ...] = (ME, B, C)) -> Stream:
    """Return a partition that ME leads, whose homes follow and have all, and which D is to get."""
    stream = Stream(
        PARTITION, LeaseNumber(1, ME), lambda: HomeSet.first(homes), {LOG: Log(LOG, 0, delayed=False)}
    )
    for node in (*(n for n in homes if n != ME), D):
        stream.followers[node] = Follower(node)
        stream.followers[node].stage = Stage.FOLLOWING
    return stream


def test_a_copy_for_who_is_no_home_only_moves() -> None:
    stream = led()
    stream.followers[D].gaps = {LOG: RangeSet([(0, 9)])}
    assert only_moves(stream, D, 2)
    assert not only_moves(stream, C, 2), "a home has less than it should"


def test_a_copy_that_takes_the_place_of_one_that_is_away_is_for_safety() -> None:
    stream = led()
    stream.followers[C].stage = Stage.ASKED
    assert not only_moves(stream, D, 2)


def test_a_copy_is_for_safety_while_a_home_lacks_something() -> None:
    stream = led()
    stream.followers[C].gaps = {LOG: RangeSet([(3, 4)])}
    assert not only_moves(stream, D, 2)
    stream.followers[C].gaps = {}
    stream.logs[LOG].gaps.add(3, 4)
    assert not only_moves(stream, D, 2), "and so while the leader does"


def test_a_copy_is_for_safety_where_a_write_needs_every_home() -> None:
    assert not only_moves(led(homes=(ME, B)), D, 2)
    assert not only_moves(led(homes=(ME,)), D, 1)
