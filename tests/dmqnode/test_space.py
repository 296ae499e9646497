"""Room that deleted records take on the disk is found and given back, on whichever node."""

from __future__ import annotations

import os
import random
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from dmqnode import space
from dmqnode.disk import measure
from dmqnode.effects import Compact
from dmqnode.ids import PartitionId
from dmqnode.keys import COPIES, COPIES_END, DEBTS, PartitionKeys
from dmqnode.messages import Ack, Settled
from dmqnode.records import State, encode_state
from dmqnode.space import COMPACT_BYTES, COMPACT_WHEN_SHORT, Measured, Space, Span
from storage.leveldb import LevelStore
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from tests.dmqnode import several
from tests.dmqnode.several import Several

MIB = 1 << 20


def measured(size: int, live: int, start: bytes = b"p1") -> Measured:
    return Measured(start, start + b"\xff", size, live)


def looked(space: Space, *found: Measured, short: bool = False) -> list[bytes]:
    """Return where what is to be compacted starts."""
    return [compact.start for compact in space.measured(found, short=short)]


def test_as_much_as_lives_may_be_taken_in_vain_and_a_little_always() -> None:
    assert looked(Space(), measured(COMPACT_BYTES, 0)) == []
    assert looked(Space(), measured(COMPACT_BYTES + 1, 0)) == [b"p1"]
    assert looked(Space(), measured(400 * MIB, 200 * MIB)) == []
    assert looked(Space(), measured(401 * MIB, 200 * MIB)) == [b"p1"]


def test_while_the_disk_is_short_a_little_is_too_much_and_the_worst_goes_first() -> None:
    assert looked(Space(), measured(COMPACT_WHEN_SHORT, 0), short=True) == []
    assert looked(Space(), measured(202 * MIB, 200 * MIB), short=True) == [b"p1"]
    some = measured(202 * MIB, 200 * MIB), measured(30 * MIB, 0, b"p2"), measured(300 * MIB, 297 * MIB, b"p3")
    assert looked(Space(), *some, short=True) == [b"p2"], "one at a time"
    some = measured(300 * MIB, 100 * MIB), measured(100 * MIB, 0, b"p2"), measured(500 * MIB, 9 * MIB, b"p3")
    assert looked(Space(), *some) == [b"p3", b"p1", b"p2"]
    assert not Space().worth(COMPACT_BYTES - 1, short=False)
    assert Space().worth(COMPACT_BYTES - 1, short=True)


def compacted(space: Space, size: int) -> None:
    space.compacted(Compact(b"p1", b"p1\xff"), size)


@pytest.mark.parametrize("short", [False, True])
def test_what_a_compaction_leaves_is_not_compacted_again_before_it_has_grown(*, short: bool) -> None:
    space, size = Space(), 2 * COMPACT_BYTES
    more = COMPACT_WHEN_SHORT if short else size
    assert looked(space, measured(size, 0), short=short) == [b"p1"], "its state says that nothing lives"
    compacted(space, size)
    for _ in range(3):
        assert looked(space, measured(size, 0), short=short) == []
    assert looked(space, measured(size + more, 0), short=short) == []
    assert looked(space, measured(size + more + 1, 0), short=short) == [b"p1"]
    compacted(space, 0)
    assert looked(space, measured(size, 0), short=short) == [b"p1"], "all had been given back"


@pytest.mark.parametrize("short", [False, True])
def test_what_lived_when_it_was_compacted_is_given_back_once_it_is_gone(*, short: bool) -> None:
    space, gib = Space(), 1 << 30
    assert looked(space, measured(27 * gib, 10 * gib)) == [b"p1"]
    compacted(space, 12 * gib)
    assert looked(space, measured(12 * gib, 10 * gib), short=short) == []
    assert looked(space, measured(12 * gib, 0), short=short) == [b"p1"]


def of(n: int) -> PartitionId:
    return PartitionId(b"queue%03d" % n + bytes(2))


def test_ranges_that_are_gone_are_not_remembered() -> None:
    space: Any = Space()
    for n in range(100):
        space.begin([of(n)], owes=False)
        (compact,) = space.measured(
            [measured(2 * COMPACT_BYTES, 0, PartitionKeys.of(of(n)).prefix)], short=False
        )
        space.compacted(compact, COMPACT_BYTES)
    assert len(space._left) == 1


def test_all_partitions_and_what_is_between_them_are_measured_in_turn() -> None:
    store, ops, space = MemoryStore(), WriteBatch(), Space()
    for n in range(40):
        keys = PartitionKeys.of(of(n))
        ops.put(keys.state(), encode_state(State(bytes=1000 + n)))
        ops.put(keys.prefix + b"b", bytes(500))
    store.write(ops, sync=True)
    assert space.over
    space.begin([of(n) for n in range(39, 0, -1)], owes=False)
    found, pages = list[Measured](), 0
    while not space.over:
        found += measure(store, space.take(short=False))
        pages += 1
    assert pages == 3
    assert [each.start for each in found][:2] == [DEBTS, COPIES]
    assert found[-1].stop == COPIES_END
    assert all(one.stop == other.start for one, other in pairwise(found[1:]))
    assert [each.live for each in found if each.live] == [1000 + n for n in range(1, 40)]
    assert found[1].size > 500, "of a queue that nobody knows"


def test_on_a_short_disk_one_busy_range_does_not_hide_the_others() -> None:
    ids, worst, space = [of(n) for n in range(3000)], PartitionKeys.of(of(2999)).prefix, Space()
    busy, found = PartitionKeys.of(of(0)).prefix, set()
    for _ in range(4):
        if space.over:
            space.begin(ids, owes=False)
        sizes = {busy: 2 * MIB, worst: 5000 * MIB}
        some = [Measured(start, stop, sizes.get(start, 0), 0) for start, stop, _ in space.take(short=True)]
        for compact in space.measured(some, short=True):
            found.add(compact.start)
            space.compacted(compact, 0)
    assert found == {busy, worst}


def test_the_room_of_debts_is_measured_once_there_are_none() -> None:
    space = Space()
    space.begin([], owes=True)
    assert space.take(short=False) == [Span(COPIES, COPIES_END, copy=False)]


def test_a_copy_whose_state_is_damaged_is_let_alone() -> None:
    """A compaction reads everything, and a store that cannot be read is lost."""
    store, ops, keys = MemoryStore(), WriteBatch(), PartitionKeys.of(of(1))
    ops.put(keys.state(), encode_state(State(bytes=7)))
    ops.put(keys.prefix + b"b", bytes(500))
    store.write(ops, sync=True)
    store.damage(keys.state(), random.Random(1))
    (found,) = measure(store, [Span(keys.prefix, keys.prefix + b"\xff", copy=True)])
    assert found.size == found.live > 500


def test_homes_that_only_follow_give_back_what_was_deleted_also_after_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = count()
    monkeypatch.setattr(space, "COMPACT_BYTES", MIB)

    def disk() -> LevelStore:
        path = tmp_path / str(next(number))
        path.mkdir()
        return LevelStore.open(path)

    monkeypatch.setattr(several, "MemoryStore", disk)
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    for _ in range(24):
        cluster.stored("n1", *[os.urandom(64 << 10) for _ in range(16)])
    while held := cluster.receive("n1", limit=100, wait=0.5):
        assert isinstance(cluster.ask("n1", Ack([got.held for got in held], False)), Settled)
    cluster.run(2.0)
    for node in cluster.nodes.values():
        store: Any = node.store
        assert store.statistics().bytes_on_disk > 16 * MIB
        kept = Space()
        kept.begin(node.broker.registry.queues["q"].definition.partition_ids, owes=False)
        for wanted in kept.measured(measure(store, kept.take(short=False)), short=False):
            store.compact(wanted.start, wanted.stop)
        assert store.statistics().bytes_on_disk < 4 * MIB, node.name
        store.close()
