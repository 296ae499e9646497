"""A node that cannot read who it is among others begins anew; one without others keeps what it has (I2)."""

from __future__ import annotations

import random

import pytest

from dmqnode.amnesia import left_behind, lost_memory
from dmqnode.grants import GRANTS
from dmqnode.ids import LOG_ID_SIZE, LogId, NodeId, QueueId, partition_id
from dmqnode.keys import IDENTITY, PartitionKeys, queue_key
from dmqnode.membership import (
    ACQUAINTANCES,
    CLUSTER,
    encode_acquaintances,
    found,
    join,
    read_membership,
)
from dmqnode.queues import Definition, Settings, encode_definition, encode_deleted
from dmqnode.ranges import RangeSet
from dmqnode.records import State, encode_log, encode_state
from dmqnode.roster import RECORD, ROSTER, ROSTER_KEY, Member, Roster, encode
from dmqnode.smallrows import encode_gaps, gaps_key
from storage.memory import MemoryStore
from storage.ops import WriteBatch

OTHER = Member(NodeId(b"founder!"), "f", "h:1")


def one_of_two() -> MemoryStore:
    store = MemoryStore()
    fresh = read_membership(store)
    roster = Roster(4, (OTHER, Member(fresh.identity.node, "n", "h:2")))
    join(store, fresh, cluster=b"c" * 16, name="dmq", key=b"k" * 32, roster=roster)
    batch = WriteBatch()
    batch.put(ACQUAINTANCES, encode_acquaintances({OTHER.node: (1, 7)}))
    batch.put(GRANTS + bytes(10), b"promise")
    batch.put(GRANTS + b"\x01" * 10, b"another")
    store.write(batch, sync=True)
    return store


def test_what_is_whole_is_kept() -> None:
    assert lost_memory(MemoryStore(), incomplete=False) is None
    assert lost_memory(one_of_two(), incomplete=False) is None


@pytest.mark.parametrize(
    "key", [IDENTITY, CLUSTER, ROSTER_KEY, ACQUAINTANCES, *(GRANTS + p * 10 for p in (b"\x00", b"\x01"))]
)
def test_damage_to_any_of_these_is_loss_of_memory(key: bytes) -> None:
    store = one_of_two()
    store.damage(key, random.Random(1))
    before = dict(store._records)
    lost = lost_memory(store, incomplete=False)
    assert lost is not None
    assert lost.seeds == (() if key == ROSTER_KEY else ("h:1", "h:2"))
    assert store._records == before


@pytest.mark.parametrize("key", [IDENTITY, CLUSTER, ROSTER_KEY])
def test_what_is_missing_was_lost_too(key: bytes) -> None:
    store = one_of_two()
    batch = WriteBatch()
    batch.delete(key)
    store.write(batch, sync=True)
    assert lost_memory(store, incomplete=False) is not None


def test_a_home_of_the_list_of_members_knows_from_its_copy_where_they_are() -> None:
    store = one_of_two()
    copy = PartitionKeys.of(ROSTER).prefix + RECORD
    batch = WriteBatch()
    batch.put(copy, encode(Roster(3, (OTHER,))))
    store.write(batch, sync=True)
    store.damage(ROSTER_KEY, random.Random(1))
    lost = lost_memory(store, incomplete=False)
    assert lost is not None
    assert lost.seeds == ("h:1",)
    store.damage(copy, random.Random(1))
    lost = lost_memory(store, incomplete=False)
    assert lost is not None
    assert lost.seeds == ()


def test_a_part_of_a_store_is_not_the_memory_of_one_of_several() -> None:
    lost = lost_memory(one_of_two(), incomplete=True)
    assert lost is not None
    assert lost.what == "a part of its store"


def test_a_lone_node_keeps_what_it_has() -> None:
    store = MemoryStore()
    fresh = read_membership(store)
    found(store, fresh, "dmq", Member(fresh.identity.node, "n", "h:2"))
    assert lost_memory(store, incomplete=True) is None
    store.damage(IDENTITY, random.Random(1))
    assert lost_memory(store, incomplete=False) is None


def test_what_stays_behind_is_counted_without_reading_it() -> None:
    queue = QueueId(b"queue123")
    definition = Definition(
        id=queue, name="q", owner="", created_at=0, settings=Settings(partitions=2), homes=()
    )
    store, batch = MemoryStore(), WriteBatch()
    batch.put(queue_key(queue), encode_definition(definition))
    batch.put(queue_key(QueueId(b"deleted!")), encode_deleted("old", 7))
    for index, dead in enumerate(([(0, 3)], [(0, 10)])):
        keys, log = PartitionKeys.of(partition_id(queue, index)), LogId(b"l" * LOG_ID_SIZE)
        batch.put(keys.log(log), encode_log(7, delayed=False))
        batch.put(keys.dead(log, 0), RangeSet(dead).encode())
        batch.put(keys.state(), encode_state(State(ends={log: 10})))
        batch.put(gaps_key(keys), encode_gaps({log: RangeSet([(8, 10 - index)])}))
    store.write(batch, sync=True)
    assert left_behind(store) == 5
    assert left_behind(MemoryStore()) == 0
