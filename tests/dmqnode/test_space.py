"""Room that deleted records take on the disk is found and given back, on whichever node."""

from __future__ import annotations

import os
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from dmqnode import space
from dmqnode.disk import survey
from dmqnode.effects import Compact
from dmqnode.ids import PartitionId
from dmqnode.keys import COPIES, DEBTS, PartitionKeys
from dmqnode.messages import Ack, Settled
from dmqnode.records import State, encode_state
from dmqnode.space import COMPACT_BYTES, COMPACT_WHEN_SHORT, Space, Stretch
from storage.leveldb import LevelStore
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from tests.dmqnode import several
from tests.dmqnode.several import Several

MIB = 1 << 20


def stretch(size: int, live: int, start: bytes = b"p1") -> Stretch:
    return Stretch(start, start + b"\xff", size, live)


def looked(space: Space, *found: Stretch, short: bool = False) -> list[bytes]:
    """Let all that there is be looked at; return where what is to be compacted starts."""
    return [compact.start for compact in space.looked(list(found), b"", short=short)]


def test_as_much_as_lives_may_be_taken_in_vain_and_a_little_always() -> None:
    assert looked(Space(), stretch(COMPACT_BYTES, 0)) == []
    assert looked(Space(), stretch(COMPACT_BYTES + 1, 0)) == [b"p1"]
    assert looked(Space(), stretch(400 * MIB, 200 * MIB)) == []
    assert looked(Space(), stretch(401 * MIB, 200 * MIB)) == [b"p1"]


def test_while_the_disk_is_short_a_little_is_too_much() -> None:
    assert looked(Space(), stretch(COMPACT_WHEN_SHORT, 0), short=True) == []
    assert looked(Space(), stretch(202 * MIB, 200 * MIB), short=True) == [b"p1"]
    assert not Space().worth(COMPACT_BYTES - 1, short=False)
    assert Space().worth(COMPACT_BYTES - 1, short=True)


@pytest.mark.parametrize("short", [False, True])
def test_what_a_compaction_leaves_is_not_compacted_again_before_it_has_grown(*, short: bool) -> None:
    space, size = Space(), 2 * COMPACT_BYTES
    more = COMPACT_WHEN_SHORT if short else size
    assert looked(space, stretch(size, 0), short=short) == [b"p1"], "its state says that nothing lives"
    space.compacted(Compact(b"p1", b"p1\xff"), size)
    for _ in range(3):
        assert looked(space, stretch(size, 0), short=short) == []
    assert looked(space, stretch(size + more, 0), short=short) == []
    assert looked(space, stretch(size + more + 1, 0), short=short) == [b"p1"]
    space.compacted(Compact(b"p1", b"p1\xff"), 0)
    assert looked(space, stretch(size, 0), short=short) == [b"p1"], "all had been given back"


def test_ranges_that_are_gone_are_not_remembered() -> None:
    space: Any = Space()
    for n in range(100):
        looked(space, stretch(2 * COMPACT_BYTES, 0, b"p%d" % n))
    assert len(space._left) == 1


def test_all_copies_and_what_is_between_them_are_looked_at_in_turn() -> None:
    store, ops = MemoryStore(), WriteBatch()
    prefixes = []
    for n in range(3):
        keys = PartitionKeys.of(PartitionId(b"queue%03d" % n + bytes(2)))
        ops.put(keys.state(), encode_state(State(bytes=1000 + n)))
        ops.put(keys.prefix + b"b", bytes(500))
        prefixes.append(keys.prefix)
    store.write(ops, sync=True)
    found: list[Stretch] = []
    position, pages = b"", 0
    while pages == 0 or position:
        page, position = survey(store, position, 2)
        found += page
        pages += 1
    assert pages == 2
    expected = [DEBTS, COPIES]
    for prefix in prefixes:
        expected += [prefix, prefix + b"\xff"]
    assert [each.start for each in found] == expected
    assert [each.live for each in found] == [0, 0, 1000, 0, 1001, 0, 1002, 0]
    assert all(one.stop == other.start for one, other in pairwise(found[1:]))


def test_the_room_of_debts_is_looked_at_once_there_are_none() -> None:
    store, ops = MemoryStore(), WriteBatch()
    ops.put(DEBTS + bytes(38), bytes(100))
    store.write(ops, sync=True)
    found, position = survey(store, b"", 9)
    assert ([each.start for each in found], position) == ([COPIES], b"")


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
        for wanted in kept.looked(*survey(store, b"", 8), short=False):
            store.compact(wanted.start, wanted.stop)
        assert not kept.position
        assert store.statistics().bytes_on_disk < 4 * MIB, node.name
        store.close()
