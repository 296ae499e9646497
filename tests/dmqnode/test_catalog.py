"""Definitions on every node: spread at once, compared later, the last writer wins."""

from __future__ import annotations

import random
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.catalog import SPREAD_TIMEOUT, Catalog
from dmqnode.clock import Now
from dmqnode.errors import ProtocolError
from dmqnode.ids import NodeId, QueueId
from dmqnode.messages import Message
from dmqnode.peer_messages import CatalogRecords, CatalogStored
from storage.ops import WriteBatch

NODES = [NodeId(b"node%04d" % n) for n in range(3)]
QUEUES = [QueueId(b"queue%03d" % n) for n in range(4)]


class Net:
    """Three catalogs, and the messages between them, which may be lost."""

    def __init__(self, least: int = 2) -> None:
        self.run = 100.0
        self.messages: list[tuple[NodeId, NodeId, Message]] = []
        self.learnt: dict[NodeId, dict[QueueId, bytes]] = {node: {} for node in NODES}
        self.catalogs = {
            node: Catalog(
                node,
                Port(self, node),  # type: ignore[arg-type]
                peers=lambda node=node: [n for n in NODES if n != node],  # type: ignore[misc]
                least=lambda: least,
                changed=lambda now, queue, record, node=node: self.learnt[node].update({queue: record}),  # type: ignore[misc]
                first_question=1 << 24,
            )
            for node in NODES
        }

    def now(self) -> Now:
        return Now(self.run, 1_700_000_000_000 + round(self.run * 1000))

    def define(self, node: NodeId, queue: QueueId, **fields: Any) -> list[bool]:
        catalog = self.catalogs[node]
        record = cbor2.dumps({"name": "q", **fields, "stamp": catalog.clock.stamp(self.now().wall)})
        told: list[bool] = []
        catalog.put(self.now(), queue, record, lambda now, safe: told.append(safe))
        return told

    def deliver(self, lost: random.Random | None = None) -> None:
        while self.messages:
            sender, node, message = self.messages.pop(0)
            if lost is None or lost.random() < 0.5:
                assert self.catalogs[node].receive(self.now(), sender, message)

    def pass_time(self, seconds: float) -> None:
        self.run += seconds
        for catalog in self.catalogs.values():
            catalog.tick(self.now())


class Port:
    def __init__(self, net: Net, node: NodeId) -> None:
        self._net = net
        self._node = node

    def send(self, node: NodeId, message: Message) -> None:
        self._net.messages.append((self._node, node, message))

    def write(self, ops: WriteBatch, then: Any, *, sync: bool = True) -> None:
        then(self._net.now())


def test_a_change_is_safe_once_enough_nodes_have_it() -> None:
    net = Net(least=3)
    told = net.define(NODES[0], QUEUES[0])
    assert told == []
    net.deliver()
    assert told == [True]
    assert all(QUEUES[0] in net.learnt[node] for node in NODES[1:])


def test_an_answer_to_an_earlier_run_makes_no_change_safe() -> None:
    net = Net(least=3)
    told = net.define(NODES[0], QUEUES[0])
    net.messages.clear()
    for node in NODES[1:]:
        net.catalogs[NODES[0]].receive(net.now(), node, CatalogStored(1))
    assert told == []


def test_a_change_that_too_few_confirm_is_unknown() -> None:
    net = Net()
    told = net.define(NODES[0], QUEUES[0])
    net.messages.clear()
    net.pass_time(SPREAD_TIMEOUT)
    assert told == [False]


@given(
    st.integers(0, 2**32), st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(QUEUES)), max_size=12)
)
def test_all_know_the_same_in_the_end(seed: int, changes: list[tuple[NodeId, QueueId]]) -> None:
    net, rng = Net(), random.Random(seed)
    for n, (node, queue) in enumerate(changes):
        net.define(node, queue, n=n)
        net.pass_time(0.5)
        net.deliver(rng)
    for _ in range(2):
        net.pass_time(60.0)
        net.deliver()
    assert len({catalog.digest for catalog in net.catalogs.values()}) == 1
    assert all(len(catalog) == len({q for _, q in changes}) for catalog in net.catalogs.values())


def test_a_deletion_is_not_undone_by_what_is_older() -> None:
    net = Net()
    net.define(NODES[0], QUEUES[0])
    old = [m for m in net.messages if isinstance(m[2], CatalogRecords)]
    net.deliver()
    net.pass_time(1)
    net.define(NODES[1], QUEUES[0], deleted_at=1)
    net.deliver()
    net.messages += old
    net.deliver()
    assert all(catalog.deleted(QUEUES[0]) for catalog in net.catalogs.values())


def test_a_deletion_holds_against_what_is_later() -> None:
    net = Net()
    net.define(NODES[0], QUEUES[0], deleted_at=1)
    net.messages.clear()
    net.pass_time(1)
    net.define(NODES[1], QUEUES[0], n=1)
    net.pass_time(60.0)
    net.deliver()
    assert all(catalog.deleted(QUEUES[0]) for catalog in net.catalogs.values())
    assert len({catalog.digest for catalog in net.catalogs.values()}) == 1


def read(catalog: Catalog, queue: QueueId) -> dict[str, Any]:
    found: dict[str, Any] = cbor2.loads(dict(catalog.records())[queue])
    return found


def test_of_two_changes_the_later_holds_with_the_most_partitions() -> None:
    net = Net()
    catalog = net.catalogs[NODES[0]]
    old = catalog.clock.stamp(net.now().wall)
    homes = [[bytes(NODES[n % 3])] for n in range(4)]
    made = {"name": "q", "settings": {"partitions": 2, "paused": False}, "homes": homes[:2], "stamp": old}
    grown = {**made, "settings": {"partitions": 4, "paused": False}, "homes": homes, "first": 2}
    net.pass_time(1)
    later = catalog.clock.stamp(net.now().wall)
    paused = {**made, "settings": {"partitions": 2, "paused": True}, "stamp": later}
    records = [cbor2.dumps(r) for r in (made, grown, paused)]
    for node, order in zip(NODES, ((0, 1, 2), (2, 1, 0), (1, 2, 0))):
        for n in order:
            message = CatalogRecords(0, [(QUEUES[0], records[n])])
            net.catalogs[node].receive(net.now(), NODES[0], message)
        found = read(net.catalogs[node], QUEUES[0])
        assert found["settings"] == {"partitions": 4, "paused": True}
        assert (found["homes"], found["first"]) == (homes, 2)
        assert net.learnt[node][QUEUES[0]] == dict(net.catalogs[node].records())[QUEUES[0]]
    assert len({c.digest for c in net.catalogs.values()}) == 1


@pytest.mark.parametrize("deleted", [False, True])
def test_a_change_that_loses_is_not_confirmed_and_who_made_it_learns_what_holds(deleted: bool) -> None:
    net = Net()
    net.define(NODES[0], QUEUES[0])
    net.deliver()
    net.run += 1.0
    net.define(NODES[0], QUEUES[0], **({"deleted_at": 1} if deleted else {"settings": {}}))
    net.messages = [m for m in net.messages if m[1] != NODES[2]]  # which is cut off
    net.deliver()
    net.run += 0.5 if deleted else -0.5
    told = net.define(NODES[2], QUEUES[0])
    net.deliver()
    net.pass_time(SPREAD_TIMEOUT + 1.0)
    assert told == [False]
    assert net.learnt[NODES[2]][QUEUES[0]] == net.catalogs[NODES[0]]._known[QUEUES[0]].record


def test_whoever_knows_a_name_says_so() -> None:
    net = Net()
    net.define(NODES[0], QUEUES[0])
    net.messages.clear()
    found: list[Now] = []
    net.catalogs[NODES[2]].find(net.now(), "q", found.append)
    net.deliver()
    assert len(found) == 1
    assert QUEUES[0] in net.learnt[NODES[2]]


def test_a_record_from_a_clock_far_ahead_is_refused_not_confirmed_and_told() -> None:
    net = Net()
    record = cbor2.dumps({"name": "q", "stamp": (net.now().wall + 10**9, 0, bytes(8))})
    net.catalogs[NODES[0]].receive(net.now(), NODES[1], CatalogRecords(7, [(QUEUES[0], record)]))
    assert net.messages == []
    assert "60 s ahead" in net.catalogs[NODES[0]].notices(net.now())[0]
    assert net.learnt[NODES[0]] == {}


def test_a_node_whose_clock_was_set_back_stamps_what_it_changed_again() -> None:
    net = Net()
    ahead = net.now().wall + 86_400_000
    ahead_now = net.now()._replace(wall=ahead)
    catalog = net.catalogs[NODES[0]]
    record = cbor2.dumps({"name": "q", "stamp": catalog.clock.stamp(ahead)})
    catalog.put(ahead_now, QUEUES[0], record, lambda now, safe: None)
    net.deliver()
    assert QUEUES[0] not in net.learnt[NODES[1]]
    net.pass_time(1.0)
    net.deliver()
    assert QUEUES[0] in net.learnt[NODES[1]]


def test_a_node_whose_clock_is_wrong_goes_on_from_the_latest_time_that_it_knows() -> None:
    net = Net()
    net.define(NODES[0], QUEUES[0], settings={"paused": True})
    net.deliver()
    catalog = net.catalogs[NODES[0]]
    catalog.trusted = lambda: False
    net.run -= 600.0
    catalog.tick(net.now())
    told = net.define(NODES[0], QUEUES[0], settings={"paused": False})
    net.run += 600.0
    net.deliver()
    assert told == [True]
    assert len({c.digest for c in net.catalogs.values()}) == 1


@given(st.binary(max_size=30))
def test_bytes_that_are_no_record_are_refused(data: bytes) -> None:
    net = Net()
    with pytest.raises(ProtocolError):
        net.catalogs[NODES[0]].receive(net.now(), NODES[1], CatalogRecords(0, [(QUEUES[0], data)]))
