"""When a new leader has seen enough of what the homes hold."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.clock import Now
from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Message
from dmqnode.peer_messages import Summary
from dmqnode.smallrows import encode_gaps, encode_rows
from dmqnode.takeover import PATIENCE, Takeovers

ME, B, C = (NodeId(b"node000%d" % n) for n in range(3))
PARTITION = PartitionId(b"p" * 10)
BEFORE = LeaseNumber(4, B)
NUMBER = LeaseNumber(7, ME)
FIRST = HomeSet.first((ME, B, C))
ANEW = HomeSet(3, NO_LEASE, (ME, B, C), (ME, B, C), True)


class Quiet:
    """A port on which nothing is on the disk of this node, and that notes when something is written."""

    def __init__(self) -> None:
        self.merged = False
        self.reads: list[Any] = []

    def boundary(self, ranges: Any, then: Any) -> None:
        self.reads.append(then)

    def send(self, node: NodeId, message: Message) -> None:
        pass

    def write(self, ops: Any, then: Any) -> None:
        self.merged = True


class Nothing:
    """What a takeover asks before it merges."""

    def sealed(self, partition: PartitionId) -> bool:
        return False

    def find(self, partition: PartitionId, n: int) -> None:
        return None

    def deleted(self, partition: PartitionId) -> bool:
        return False


@pytest.fixture
def port() -> Quiet:
    return Quiet()


def begin(port: Quiet, record: HomeSet) -> Takeovers:
    anything: Any = Nothing()
    quiet: Any = port
    takeovers = Takeovers(
        ME, quiet, anything, anything, anything, counted=lambda _: None, merged=lambda *_: None
    )
    takeovers.begin(now(0.0), PARTITION, NUMBER, record)
    port.reads.pop()(now(0.0), {})
    return takeovers


def now(run: float) -> Now:
    return Now(run, 1_700_000_000_000)


def summary(last: LeaseNumber) -> Summary:
    """Return what a home shows that followed a leader last, or nobody."""
    seq = 5 if last != NO_LEASE else 0
    return Summary(PARTITION, NUMBER.n, last.n, last.node, seq, encode_gaps({}), encode_rows({}))


def test_of_homes_as_they_were_a_majority_is_enough(port: Quiet) -> None:
    takeovers = begin(port, FIRST)
    assert not port.merged
    takeovers.on_summary(now(0.1), B, summary(NO_LEASE))
    assert port.merged


def test_of_homes_formed_anew_all_are_waited_for(port: Quiet) -> None:
    takeovers = begin(port, ANEW)
    takeovers.on_summary(now(0.1), C, summary(NO_LEASE))
    assert not port.merged, "both may have nothing of what was left"
    takeovers.on_summary(now(0.2), B, summary(BEFORE))
    assert port.merged


def test_of_homes_formed_anew_one_that_does_not_show_is_not_waited_for_for_ever(port: Quiet) -> None:
    takeovers = begin(port, ANEW)
    takeovers.on_summary(now(0.1), C, summary(NO_LEASE))
    takeovers.tick(now(PATIENCE - 0.1))
    assert not port.merged
    takeovers.tick(now(PATIENCE + 2.0))
    assert port.merged


def test_homes_formed_anew_that_somebody_has_led_are_homes_as_any_others(port: Quiet) -> None:
    five = (ME, B, C, NodeId(b"node0004"), NodeId(b"node0005"))
    takeovers = begin(port, HomeSet(3, NO_LEASE, five, five, True))
    for node in five[1:3]:
        takeovers.on_summary(now(0.1), node, summary(BEFORE))
    assert not port.merged
    takeovers.on_summary(now(0.2), five[3], summary(BEFORE))
    assert port.merged
