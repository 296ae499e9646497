"""Who counts as cut off from most members."""

from __future__ import annotations

from dmqnode.clock import Now
from dmqnode.hearing import NOTICED, Hearing
from dmqnode.ids import NODE_ID_SIZE, NodeId

NODES = [NodeId(bytes([n]) * NODE_ID_SIZE) for n in range(5)]
LIMIT = 60.0


class Listener:
    """A node that hears some."""

    def __init__(self, members: int) -> None:
        self.hearing = Hearing(NODES[:members], LIMIT)
        self.hears = NODES[:members]

    def look(self, run: float) -> bool:
        """Look, and tell whether it counts as cut off then."""
        self.hearing.look(Now(run, 0), lambda node: node in self.hears)
        return self.hearing.isolated(Now(run, 0))


def test_who_has_heard_no_majority_for_so_long_is_cut_off() -> None:
    node = Listener(3)
    assert not node.look(100.0)
    node.hears = NODES[:1]
    assert not node.look(101.0)
    assert not node.look(160.9)
    assert node.look(161.0)
    node.hears = NODES[:2]
    assert not node.look(162.0)


def test_who_has_just_started_is_cut_off_until_it_hears_a_majority() -> None:
    node = Listener(5)
    node.hears = NODES[:2]
    assert node.look(100.0)
    assert node.look(100.5)
    node.hears = NODES[:3]
    assert not node.look(101.0)
    node.hears = NODES[:1]
    assert not node.look(102.0), "it was not away"


def test_who_did_not_run_for_so_long_is_cut_off_until_its_links_are_seen_to_stand() -> None:
    node = Listener(3)
    assert not node.look(100.0)
    assert not node.hearing.overslept(Now(159.9, 0))
    assert node.hearing.overslept(Now(160.0, 0))
    assert node.look(160.0), "all seem to answer, as they did before"
    assert node.look(160.0 + NOTICED - 0.1)
    assert not node.look(160.0 + NOTICED)


def test_of_two_members_none_is_forgotten_while_it_does_not_run() -> None:
    for members in (1, 2):
        node = Listener(members)
        node.hears = NODES[:1]
        assert node.hearing.few
        assert not node.look(100.0)
        assert not node.look(150.0)
    assert not Listener(3).hearing.few


def test_members_that_are_none_any_more_are_not_waited_for() -> None:
    node = Listener(5)
    node.hears = NODES[:2]
    assert node.look(100.0)
    node.hearing.learn(NODES[:3])
    assert set(node.hearing.absent) == {NODES[2]}
    assert not node.look(101.0)
