"""What a node brings after it was away for longer than sends are remembered: it comes once all the same."""

from __future__ import annotations

import pytest

from dmqnode.batch import encode
from dmqnode.ids import LogId
from dmqnode.messages import Failed, Receive, Send, Stored
from dmqnode.missing import CLAIMED
from dmqnode.ranges import RangeSet
from tests.dmqnode.several import Several, Some

AWAY = 8 * 60.0
"""Seconds: longer than the window, shorter than a member is away before it is forgotten."""


def _send(producer: bytes, name: str | None) -> Send:
    batch = encode([b"once"], {} if name is None else {"d": (name, {})})
    return Send("q", producer, 1, 0, None, False, batch.blob)


def _begun(world: Several) -> tuple[Some, list[Some], list[Some]]:
    """Create the queue; return who leads it, the other homes, and those that are none."""
    world.create()
    world.stored("n1", b"first")
    nodes = list(world.nodes.values())
    (partition,) = {p for n in nodes for p in n.clustering.hosted.shards}
    leader = world.leader(partition)
    promise = leader.clustering.cluster.grants.find(partition)
    assert promise is not None
    homes = [n for n in nodes if n.me in promise.record.members and n is not leader]
    return leader, homes, [n for n in nodes if n is not leader and n not in homes]


def _alone(world: Several, node: Some, request: Send, *heard_of: Some) -> None:
    """Have a node take in a send whose outcome stays unknown, for all others are silent; then it is away.

    Arguments:
        heard_of: those of whom it has heard that they are silent.
    """
    others = [n for n in world.nodes.values() if n is not node]
    for other in others:
        other.up = False
    for other in heard_of:
        node.clustering.gone(world.now(), other.me)
    answer = world.ask(node.name, request)
    assert isinstance(answer, Failed)
    assert answer.stored == "unknown"
    for other in others:
        other.up = True
    world.kill(node.name)


def _back(world: Several, node: Some) -> None:
    for other in [n for n in world.nodes.values() if n is not node]:
        node.clustering.gone(world.now(), other.me)
    node.up = True
    _meet(world, node)
    world.run(10.0)
    world.until(lambda: not node.clustering.debts.count)
    assert all(n.clustering.rosters.current.find(node.me) for n in world.nodes.values())


def _meet(world: Several, node: Some) -> None:
    for other in [n for n in world.nodes.values() if n is not node and n.up]:
        world.link(other.name, node.name)
        world.link(node.name, other.name)


def _bodies(world: Several, name: str) -> list[bytes]:
    return sorted(message.body for _ in range(4) for message in world.receive(name))


@pytest.mark.parametrize("named", [False, True], ids=["producer", "dedup id"])
def test_a_debt_that_comes_after_the_window_repeats_what_was_sent_in_it(*, named: bool) -> None:
    world = Several("n1", "n2", "n3", "n4")
    name = "name" if named else None
    leader, (keeper, home), _ = _begun(world)
    # It has not heard of the fourth, whom it asks to keep the send, too.
    _alone(world, keeper, _send(b"r" * 16, name), leader, home)
    assert keeper.clustering.debts.count == 1
    # The same client does it again, or a script does, as another client.
    assert isinstance(world.ask(home.name, _send(b"q" * 16 if named else b"r" * 16, name)), Stored)
    world.run(AWAY)
    _back(world, keeper)
    assert _bodies(world, home.name) == [b"first", b"once"]


def test_what_only_the_late_node_has_led_with_repeats_it_as_well() -> None:
    world = Several("n1", "n2", "n3", "n4")
    leader, (home, _), _ = _begun(world)
    _alone(world, leader, _send(b"r" * 16, None))
    assert isinstance(world.ask(home.name, _send(b"r" * 16, None)), Stored)
    world.run(AWAY)
    _back(world, leader)
    assert _bodies(world, home.name) == [b"first", b"once"]


def test_who_leads_since_remembers_it_too() -> None:
    world = Several("n1", "n2", "n3", "n4", "n5")
    leader, (keeper, home), _ = _begun(world)
    _alone(world, keeper, _send(b"r" * 16, None), leader, home)
    assert isinstance(world.ask(home.name, _send(b"r" * 16, None)), Stored)
    world.run(AWAY)
    for node in (leader, home):
        world.kill(node.name)
        node.restart()
        _meet(world, node)
    world.run(60.0)
    _back(world, keeper)
    assert _bodies(world, home.name) == [b"first", b"once"]


def test_it_is_forgotten_once_all_are_back() -> None:
    world = Several("n1", "n2", "n3", "n4")
    leader, (keeper, home), _ = _begun(world)
    world.kill(keeper.name)
    assert isinstance(world.ask(home.name, _send(b"r" * 16, None)), Stored)

    def remembered() -> int:
        world.ask(home.name, Receive("q", 10, 1 << 20, 0.0, None))  # it stays in use
        return sum(len(p.dedup) for s in leader.clustering.hosted.shards.values() for p in s.partitions)

    for _ in range(4):
        world.run(AWAY / 4)
        assert remembered() == 2
    _back(world, keeper)
    world.run(75.0)
    assert remembered() == 0
    (partition,) = leader.clustering.hosted.shards
    absent = leader.clustering.hosted.absent
    assert not absent.expects_more(world.now(), partition)
    absent.claimed(world.now(), partition, keeper.me, {LogId(b"log"): RangeSet([(0, 1)])})
    assert absent.expects_more(world.now(), partition)
    assert not absent.expects_more(world.now()._replace(run=world.time + CLAIMED), partition)
