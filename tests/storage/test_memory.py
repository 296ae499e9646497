"""The store in memory fails as disks do: at a crash, by a flipped bit, with an error, or full."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import Corrupt, DiskFull, StoreFailed
from storage.faults import Faults
from storage.keys import u16
from storage.memory import MemoryStore
from tests.storage.writing import batch, put


def failing(**kinds: float) -> MemoryStore:
    return MemoryStore(Faults(rng=random.Random(3), **kinds))  # type: ignore[arg-type]


def test_a_crash_without_faults_loses_exactly_what_was_not_synced() -> None:
    store = MemoryStore()
    put(store, {b"a": b"1"}, sync=False)
    put(store, {b"b": b"2"}, sync=True)
    put(store, {b"a": b"3", b"c": b"4"}, sync=False)
    store.write(batch(None, b"b"), sync=False)
    after = store.crash()
    assert after.scan(b"a", b"z", limit=9).rows == [(b"a", b"1"), (b"b", b"2")]
    with pytest.raises(StoreFailed):
        store.get(b"a")


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 10_000))
def test_after_a_crash_there_is_a_prefix_of_whole_batches(syncs: list[bool], seed: int) -> None:
    store = MemoryStore()
    for number, sync in enumerate(syncs):
        put(store, {b"x": u16(number), b"y": u16(number), b"k" + u16(number): b""}, sync=sync)
    after = store.crash(random.Random(seed))
    kept = len(after.scan(b"k", b"l", limit=99).rows)
    synced = max((number + 1 for number, sync in enumerate(syncs) if sync), default=0)
    assert synced <= kept <= len(syncs)
    last = u16(kept - 1) if kept else None
    assert (after.get(b"x"), after.get(b"y")) == (last, last)
    assert after.crash(random.Random(seed)).get(b"x") == last or synced < kept


def test_which_unsynced_writes_survive_is_drawn() -> None:
    kept = set()
    for seed in range(200):
        store = MemoryStore()
        for number in range(4):
            put(store, {u16(0x1000 + number): b""}, sync=False)
        kept.add(len(store.crash(random.Random(seed)).scan(b"\x10", b"\x11", limit=9).rows))
    assert kept == {0, 1, 2, 3, 4}


def test_the_end_of_the_process_loses_nothing() -> None:
    store = MemoryStore()
    put(store, {b"a": b"1"}, sync=False)
    again = store.reopen()
    assert again.get(b"a") == b"1"
    assert again.crash().get(b"a") is None


@pytest.mark.parametrize(
    ("kind", "action"), [("read_error", "read"), ("write_error", "write"), ("sync_error", "sync")]
)
def test_the_first_error_is_the_last_answer(kind: str, action: str) -> None:
    store = failing(**{kind: 1.0})
    with pytest.raises(StoreFailed, match=f"failed to {action}: Input/output error"):
        store.get(b"a") if kind == "read_error" else put(store, {b"a": b"1"})
    store._faults = None
    for call in (
        lambda: store.get(b"a"),
        lambda: put(store, {b"a": b"1"}),
        lambda: store.compact(b"a", b"b"),
    ):
        with pytest.raises(StoreFailed, match=f"failed to {action}"):
            call()


def test_a_refused_write_took_place_whole_or_not_at_all() -> None:
    seen = set()
    for seed in range(40):
        store = MemoryStore(Faults(rng=random.Random(seed), write_error=1.0))
        with pytest.raises(StoreFailed):
            put(store, {b"a": b"1", b"b": b"2"})
        store._faults = None
        after = store.reopen()
        seen.add((after.get(b"a"), after.get(b"b")))
    assert seen == {(None, None), (b"1", b"2")}


def test_a_write_whose_sync_failed_may_be_lost() -> None:
    store = failing(sync_error=1.0)
    with pytest.raises(StoreFailed):
        put(store, {b"a": b"1"}, sync=True)
    store._faults = None
    assert store.crash().get(b"a") is None


def test_a_flipped_bit_is_noticed() -> None:
    store = failing(flip=1.0)
    put(store, {b"a": b"1"})
    with pytest.raises(Corrupt):
        store.get(b"a")
    found = store.scan(b"a", b"b", limit=9)
    assert (found.rows, [damaged.key for damaged in found.damaged]) == ([], [b"a"])


def test_damage_on_request() -> None:
    store = MemoryStore()
    put(store, {b"a": b"1", b"b": b"2"})
    store.damage(b"a", random.Random(1))
    with pytest.raises(Corrupt):
        store.get(b"a")
    assert store.get(b"b") == b"2"
    with pytest.raises(KeyError):
        store.damage(b"c", random.Random(1))


def test_a_full_disk_refuses_whole_batches_and_has_room_after_deletes() -> None:
    store = failing(capacity=100)
    put(store, {b"a": b"x" * 70})
    with pytest.raises(DiskFull) as refused:
        store.write(batch({b"b": b"x" * 20, b"c": b"x" * 20}), sync=True)
    assert refused.value.free == 100 - 75
    assert store.get(b"b") is None
    with pytest.raises(DiskFull):
        store.write(batch({b"b": b"x"}), sync=True, reserve=24)
    store.write(batch(None, b"a"), sync=True)
    assert store.free_bytes() == 100
    store.write(batch({b"b": b"x" * 20}), sync=True)


def test_how_long_a_call_takes_is_drawn_and_nobody_sleeps() -> None:
    assert MemoryStore().delay(sync=True) == 0.0
    store = failing()
    assert store._faults is not None
    store._faults.delay, store._faults.sync_delay = (0.1, 0.2), (1.0, 1.1)
    assert 0.1 <= store.delay() <= 0.2
    assert 1.1 <= store.delay(sync=True) <= 1.3
