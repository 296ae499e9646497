"""What every store does, and what LevelDB and the store in memory therefore both do."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage import aside
from storage.errors import Corrupt, DiskFull, StoreFailed
from storage.keys import u16, u64
from storage.leveldb import LevelStore
from storage.memory import MemoryStore
from storage.store import Damaged, Row, Store
from tests.storage.conftest import reopen
from tests.storage.writing import batch, put


def keys_of(store: Store, start: bytes, stop: bytes, limit: int = 1000) -> list[bytes]:
    return [row.key for row in store.scan(start, stop, limit=limit).rows]


def test_what_was_written_is_read_and_what_was_not_is_none(store: Store) -> None:
    put(store, {b"a": b"1", b"b": b""})
    assert store.get(b"a") == b"1"
    assert store.get(b"b") == b""
    assert store.get(b"c") is None


def test_the_last_operation_on_a_key_wins(store: Store) -> None:
    put(store, {b"a": b"1"})
    first = batch({b"a": b"2"}, b"a")
    first.put(b"b", b"x")
    first.delete(b"b")
    first.put(b"b", b"y")
    store.write(first, sync=False)
    assert (store.get(b"a"), store.get(b"b")) == (None, b"y")


def test_a_scan_is_ordered_as_bytes_and_its_end_is_outside(store: Store) -> None:
    put(store, {bytes((i,)): u16(i) for i in (0x70, 0x41, 0x42, 0x80, 0xFE)})
    found = store.scan(b"A", b"\x80", limit=10)
    assert found.rows == [Row(b"A", u16(0x41)), Row(b"B", u16(0x42)), Row(b"p", u16(0x70))]
    assert not found.more
    assert not found.damaged
    down = store.scan(b"A", b"\x80", limit=10, reverse=True)
    assert down.rows == found.rows[::-1]
    assert not down.more


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_says_whether_a_limit_ended_it(store: Store, reverse: bool) -> None:
    put(store, {b"k" + u64(i): b"v" * 10 for i in range(10)})
    assert len(store.scan(b"k", b"l", limit=3, reverse=reverse).rows) == 3
    assert store.scan(b"k", b"l", limit=3, reverse=reverse).more
    assert not store.scan(b"k", b"l", limit=11, reverse=reverse).more
    cut = store.scan(b"k", b"l", limit=100, max_bytes=35, reverse=reverse)
    assert len(cut.rows) == 3
    assert cut.more
    one = store.scan(b"k", b"l", limit=100, max_bytes=1, reverse=reverse)
    assert len(one.rows) == 1
    assert one.more


def test_pages_make_up_the_whole(store: Store) -> None:
    wanted = {b"k" + u64(i): bytes(i) for i in range(50)}
    put(store, wanted)
    got: dict[bytes, bytes] = {}
    position, more = b"k", True
    while more:
        page = store.scan(position, b"l", limit=7, max_bytes=100)
        got.update(page.rows)
        position, more = page.rows[-1].key + b"\x00", page.more
    assert got == wanted
    assert list(got) == sorted(wanted)


def test_empty_and_backward_ranges_are_empty(store: Store) -> None:
    put(store, {b"a": b"1", b"b": b"2"})
    assert store.scan(b"c", b"d", limit=5).rows == []
    assert store.scan(b"b", b"a", limit=5).rows == []
    assert store.scan(b"b", b"b", limit=5).rows == []
    assert store.scan(b"0", b"a", limit=5, reverse=True).rows == []


def test_everything_is_there_after_opening_again(store: Store) -> None:
    put(store, {b"a": b"1"}, sync=True)
    put(store, {b"b": b"2"}, sync=False)
    again = reopen(store)
    assert keys_of(again, b"a", b"z") == [b"a", b"b"]
    with pytest.raises(StoreFailed):
        store.get(b"a")
    again.close()


def test_closed_is_closed(store: Store) -> None:
    store.close()
    store.close()
    for call in (
        lambda: store.get(b"a"),
        lambda: store.scan(b"a", b"b", limit=1),
        lambda: store.write(batch({b"a": b""}), sync=True),
        lambda: store.compact(b"a", b"b"),
        lambda: store.set_aside(Damaged(b"a", b"", "why")),
    ):
        with pytest.raises(StoreFailed, match="closed"):
            call()


def test_without_room_nothing_is_written_and_the_store_goes_on(store: Store) -> None:
    before = store.free_bytes()
    with pytest.raises(DiskFull) as refused:
        store.write(batch({b"a": b"1"}), sync=True, reserve=1 << 60)
    assert refused.value.needed == 2 + (1 << 60)
    assert refused.value.free <= before + (1 << 30)
    assert store.get(b"a") is None
    put(store, {b"a": b"2"})
    assert store.get(b"a") == b"2"


def test_a_damaged_record_is_refused_named_and_set_aside(store: Store) -> None:
    put(store, {b"a": b"1", b"b": b"2", b"c": b"3"})
    damage(store, b"b")
    with pytest.raises(Corrupt):
        store.get(b"b")
    found = store.scan(b"a", b"z", limit=10)
    assert [row.key for row in found.rows] == [b"a", b"c"]
    assert [damaged.key for damaged in found.damaged] == [b"b"]
    store.set_aside(found.damaged[0])
    store.set_aside(found.damaged[0])
    assert store.statistics().set_aside == 1
    assert store.get(b"b") is None
    assert not store.scan(b"a", b"z", limit=10).damaged
    again = reopen(store)
    assert again.statistics().set_aside == 1
    assert [aside.read(row) for row in again.scan(aside.FIRST, aside.END, limit=9).rows] == found.damaged
    again.close()


def test_a_record_replaced_meanwhile_is_not_removed(store: Store) -> None:
    put(store, {b"a": b"1"})
    damage(store, b"a")
    found = store.scan(b"a", b"b", limit=1)
    put(store, {b"a": b"2"})
    store.set_aside(found.damaged[0])
    assert store.get(b"a") == b"2"


def test_a_gap_is_noted_and_removes_nothing(store: Store) -> None:
    put(store, {b"a": b"1"})
    gap = Damaged(b"a", b"", "a block", upto=b"c")
    store.set_aside(gap)
    assert store.get(b"a") == b"1"
    assert aside.read(store.scan(aside.FIRST, aside.END, limit=9).rows[0]) == gap


def test_damaged_records_count_against_the_limit(store: Store) -> None:
    put(store, {b"a": b"1", b"b": b"2", b"c": b"3"})
    damage(store, b"a")
    found = store.scan(b"a", b"z", limit=2)
    assert (len(found.rows), len(found.damaged), found.more) == (1, 1, True)


def test_damage_behind_a_range_is_not_part_of_it(store: Store) -> None:
    put(store, {b"a": b"1", b"b": b"2" * 100})
    damage(store, b"b")
    found = store.scan(b"a", b"b", limit=5, max_bytes=50)
    assert (found.rows, found.damaged, found.more) == ([Row(b"a", b"1")], [], False)


def test_figures(store: Store) -> None:
    before = store.statistics()
    put(store, {b"a": b"x" * 100_000}, sync=True)
    put(store, {b"b": b""}, sync=False)
    after = store.statistics()
    assert after.writes - before.writes == 2
    assert after.synced_writes - before.synced_writes == 1
    assert after.bytes_on_disk >= before.bytes_on_disk + 100_000
    assert store.free_bytes() > 0


def test_room_comes_back_when_a_range_is_compacted(store: Store) -> None:
    for i in range(40):
        put(store, {b"k" + u64(i): bytes(100_000)}, sync=False)
    store.write(batch(None, *(b"k" + u64(i) for i in range(40))), sync=True)
    store.compact(b"k", b"l")
    assert store.statistics().bytes_on_disk < 1_000_000


def test_many_threads_read_and_write_at_once(store: Store) -> None:
    failures: list[BaseException] = []

    def work(name: bytes) -> None:
        try:
            for i in range(100):
                put(store, {name + u16(i): name * 20}, sync=False)
                rows = store.scan(name, name + b"\xff", limit=200).rows
                assert [row.key for row in rows] == [name + u16(n) for n in range(i + 1)]
                assert store.get(name + u16(i)) == name * 20
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(b"%d-" % n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(keys_of(store, b"0", b"9")) == 400


def test_closing_waits_for_readers(store: Store) -> None:
    put(store, {u16(i): bytes(1000) for i in range(256, 2000)})
    begun = threading.Event()
    ended: list[str] = []

    def read() -> None:
        try:
            while True:
                assert len(store.scan(u16(256), u16(2000), limit=2000, max_bytes=1 << 30).rows) == 1744
                begun.set()
        except StoreFailed as failed:
            ended.append(failed.why)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    store.close()
    for thread in threads:
        thread.join(10)
    assert ended == ["it is closed"] * 3


def damage(store: Store, key: bytes) -> None:
    """Change what lies under `key`, behind the store's back."""
    if isinstance(store, MemoryStore):
        store._records[key] = b"?" + store._records[key][1:]
    else:
        assert isinstance(store, LevelStore)
        raw = store._db.get(key)
        assert raw is not None
        store._db.put(key, b"?" + raw[1:])


KEYS = st.binary(min_size=1, max_size=3).map(lambda key: b"k" + key)
VALUES = st.binary(max_size=40) | st.integers(0, 3000).map(bytes)


class Model(RuleBasedStateMachine):
    """Either store against a dict."""

    kind: str

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.store: Store = (
            MemoryStore() if self.kind == "memory" else LevelStore.open(Path(self.directory.name))
        )
        self.wanted: dict[bytes, bytes] = {}

    @rule(
        puts=st.dictionaries(KEYS, VALUES, max_size=5), deletes=st.lists(KEYS, max_size=3), sync=st.booleans()
    )
    def write(self, puts: dict[bytes, bytes], deletes: list[bytes], sync: bool) -> None:
        self.store.write(batch(puts, *deletes), sync=sync)
        self.wanted.update(puts)
        for key in deletes:
            self.wanted.pop(key, None)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.wanted.get(key)

    @rule(
        start=KEYS,
        stop=KEYS,
        limit=st.integers(1, 6),
        max_bytes=st.integers(1, 4000),
        reverse=st.booleans(),
    )
    def scan(self, start: bytes, stop: bytes, limit: int, max_bytes: int, reverse: bool) -> None:
        found = self.store.scan(start, stop, limit=limit, max_bytes=max_bytes, reverse=reverse)
        inside = sorted((key for key in self.wanted if start <= key < stop), reverse=reverse)
        assert found.rows == [Row(key, self.wanted[key]) for key in inside[: len(found.rows)]]
        assert len(found.rows) <= limit
        assert found.rows or not inside
        assert len(found.rows) <= 1 or sum(len(row.value) for row in found.rows) <= max_bytes
        if len(found.rows) < len(inside):
            assert found.more

    @rule()
    def open_again(self) -> None:
        self.store = reopen(self.store)

    @rule(start=KEYS, stop=KEYS)
    def compact(self, start: bytes, stop: bytes) -> None:
        self.store.compact(start, stop)

    @invariant()
    def nothing_is_set_aside(self) -> None:
        assert self.store.statistics().set_aside == 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.directory.cleanup()


class LevelModel(Model):
    kind = "level"


class MemoryModel(Model):
    kind = "memory"


TestLevelModel = LevelModel.TestCase
TestMemoryModel = MemoryModel.TestCase
TestLevelModel.settings = settings(max_examples=settings().max_examples // 6, stateful_step_count=25)
TestMemoryModel.settings = settings(stateful_step_count=30)
