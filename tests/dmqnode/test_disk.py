"""Reads get past whatever is damaged, and name it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.copying import align_rows, split_own
from dmqnode.disk import perform_read, read_ranges
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.reads import Get, Rows, Scan
from dmqnode.records import State, encode_log, encode_state
from dmqnode.smallrows import NO_STAMP, encode_stamp, own_ranges, stamp_key
from storage.errors import StoreFailed
from storage.faults import Faults
from storage.memory import MemoryStore
from storage.ops import WriteBatch


def filled(count: int, bad: set[int]) -> MemoryStore:
    """Rows k00, k01, …, some of them damaged."""
    store = MemoryStore()
    batch = WriteBatch()
    for number in range(count):
        batch.put(key(number), b"v%d" % number)
    store.write(batch, sync=True)
    for number in bad:
        store.damage(key(number), random.Random(number))
    return store


def key(number: int) -> bytes:
    return b"k%02d" % number


def numbers(rows: Rows) -> list[int]:
    return [int(name[1:]) for name, _ in rows.rows]


def test_rows_in_their_order() -> None:
    store = filled(5, set())
    assert perform_read(store, Scan(key(1), key(4), limit=2)) == Rows(
        [(key(1), b"v1"), (key(2), b"v2")], more=True
    )
    assert numbers(perform_read(store, Scan(key(1), key(4), limit=9, reverse=True))) == [3, 2, 1]
    assert perform_read(store, Scan(b"x", b"y", limit=2)) == Rows([])


def test_the_floor_is_the_last_row_at_or_before_the_start() -> None:
    store = filled(9, {2})
    assert numbers(perform_read(store, Scan(key(3) + b"x", b"l", limit=2, floor=b"k"))) == [3, 4]
    assert numbers(perform_read(store, Scan(key(3), b"l", limit=2, floor=b"k"))) == [3, 4]
    assert numbers(perform_read(store, Scan(key(3) + b"x", b"l", limit=2, floor=key(4)))) == [4, 5]
    found = perform_read(store, Scan(key(2) + b"x", b"l", limit=2, floor=b"k"))
    assert (numbers(found), found.damaged) == ([3, 4], [key(2)])


def test_keys_that_exist_are_returned_and_damaged_ones_named() -> None:
    store = filled(4, {1})
    found = perform_read(store, Get((key(0), key(1), b"absent", key(3))))
    assert (numbers(found), found.damaged, found.more) == ([0, 3], [key(1)], False)
    assert store.get(key(1)) is None
    assert store.statistics().set_aside == 1


def test_a_failed_disk_is_not_hidden() -> None:
    store = filled(1, set())
    store.close()
    for read in (Scan(b"a", b"z", limit=1), Get((b"a",))):
        with pytest.raises(StoreFailed):
            perform_read(store, read)


@given(st.sets(st.integers(0, 29)), st.integers(1, 7), st.integers(1, 20), st.booleans())
def test_pages_behind_each_other_are_everything_that_is_intact(
    bad: set[int], limit: int, max_bytes: int, reverse: bool
) -> None:
    store = filled(30, bad)
    start, stop = b"k", b"l"
    got: list[int] = []
    named: list[bytes] = []
    more = True
    while more:
        page = perform_read(store, Scan(start, stop, limit=limit, max_bytes=max_bytes, reverse=reverse))
        got += numbers(page)
        named += page.damaged
        more = page.more
        if more:
            last = page.rows[-1][0]
            start, stop = (start, last) if reverse else (last + b"\x00", stop)
    assert got == sorted(set(range(30)) - bad, reverse=reverse)
    assert sorted(named) == sorted(key(number) for number in bad)
    assert store.statistics().set_aside == len(bad)


def test_a_copy_that_lost_a_small_record_notes_it_until_it_is_aligned() -> None:
    keys, log = PartitionKeys.of(PartitionId(bytes(10))), LogId(bytes(20))
    store, batch = MemoryStore(), WriteBatch()
    rows = {b"l" + log: encode_log(1, delayed=False), b"s": encode_state(State())}
    for key_, record in rows.items():
        batch.put(keys.prefix + key_, record)
    batch.put(stamp_key(keys), encode_stamp((LeaseNumber(3, NodeId(bytes(8))), 9)))
    store.write(batch, sync=True)
    assert split_own(keys, read_ranges(store, own_ranges(keys))).stamp != NO_STAMP
    store.damage(keys.log(log), random.Random(1))
    for _ in range(2):  # as it is set aside, and behind that
        own = split_own(keys, read_ranges(store, own_ranges(keys)))
        assert own.stamp == NO_STAMP
        assert list(own.rows) == [b"s"]
    store.write(align_rows(keys, own, rows).ops, sync=True)
    own = split_own(keys, read_ranges(store, own_ranges(keys)))
    assert own.stamp != NO_STAMP
    assert own.rows == rows


def test_what_cannot_be_noted_stays_where_it_is() -> None:
    store = MemoryStore(Faults(rng=random.Random(1)))
    key_ = PartitionKeys.of(PartitionId(bytes(10))).state()
    batch = WriteBatch()
    batch.put(key_, b"state")
    store.write(batch, sync=True)
    store.damage(key_, random.Random(1))
    assert store._faults is not None
    store._faults.capacity = 0
    assert perform_read(store, Scan(b"p", b"q", limit=9)).damaged == [key_]
    assert store.statistics().set_aside == 0
