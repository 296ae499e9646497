"""Logs and what is settled of them, against naive models of sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.log import REWRITE_BELOW, DeadSet, Log, Segment, SegmentMap, StoredBatch
from storage.memory import MemoryStore
from storage.ops import WriteBatch

LOGS = [LogId(bytes([n]) * 20) for n in range(2)]
KEYS = PartitionKeys.of(PartitionId(b"P" * 10))
RANGES = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda r: (r[0], r[0] + r[1]))


def segments(log: LogId, cuts: list[int]) -> list[Segment]:
    """Return segments between neighbouring cuts, every other one."""
    stored = StoredBatch(Log(log, 0, delayed=False), 0, 100, size=1, sent_at=0, due=0, batch=None)
    pairs = list(pairwise(cuts))[::2]
    return [Segment(stored, low, high, attempt=low) for low, high in pairs]


@given(
    cuts=st.lists(st.lists(st.integers(0, 70), unique=True, max_size=12).map(sorted), min_size=2, max_size=2),
    takes=st.lists(st.tuples(st.sampled_from([0, 1]), RANGES), max_size=12),
)
def test_a_segment_map_gives_what_was_put_in_once(
    cuts: list[list[int]], takes: list[tuple[int, tuple[int, int]]]
) -> None:
    made = [segments(log, c) for log, c in zip(LOGS, cuts, strict=True)]
    there = SegmentMap([s for some in made for s in some])
    left = [{seq: s.attempt for s in some for seq in range(s.low, s.high)} for some in made]
    for n, (low, high) in takes:
        wanted = {seq: left[n].pop(seq) for seq in range(low, high) if seq in left[n]}
        assert there.count(LOGS[n], low, high) == len(wanted)
        taken = there.take(LOGS[n], low, high)
        assert {seq: s.attempt for s in taken for seq in range(s.low, s.high)} == wanted
        assert sum(map(len, taken)) == len(wanted)
        assert there.count(LOGS[n], low, high) == 0
        assert there.size == sum(map(len, left)) == sum(map(len, there))


@given(steps=st.lists(st.lists(RANGES, max_size=4), max_size=40))
def test_a_dead_set_is_on_disk_what_it_is_in_memory(steps: list[list[tuple[int, int]]]) -> None:
    store, dead, naive = MemoryStore(), DeadSet(), set()
    for n, step in enumerate(steps):
        # Far apart, so that there come to be more ranges than are written whole.
        for low, high in ((a + 200 * n, b + 200 * n) for a, b in step):
            new = set(range(low, high)) - naive
            assert dead.add(low, high) == len(new)
            naive |= new
        ops = WriteBatch()
        dead.save(KEYS, LOGS[0], ops)
        store.write(ops, sync=True)
        loaded = DeadSet()
        for row in store.scan(KEYS.dead(LOGS[0], 0), KEYS.dead(LOGS[0], 1 << 31), limit=1000).rows:
            loaded.load(int.from_bytes(row.key[-4:], "big"), row.value)
        assert {seq for low, high in loaded.ranges for seq in range(low, high)} == naive
    ops = WriteBatch()
    dead.forget(KEYS, LOGS[0], ops)
    store.write(ops, sync=True)
    assert not store.scan(b"p", b"q", limit=10).rows


def test_a_large_dead_set_is_written_as_what_came_since() -> None:
    dead = DeadSet()
    for n in range(10 * REWRITE_BELOW):
        dead.add(2 * n, 2 * n + 1)
    dead.save(KEYS, LOGS[0], WriteBatch())
    dead.add(10**6 - 2, 10**6 - 1)
    dead.save(KEYS, LOGS[0], WriteBatch())  # folds the first delta, which held more than the base
    dead.add(10**6, 10**6 + 1)
    ops = WriteBatch()
    dead.save(KEYS, LOGS[0], ops)
    ((key, record),) = list(ops)
    assert key == KEYS.dead(LOGS[0], 1)
    assert record is not None
    assert len(record) < 20


@given(dead=st.lists(RANGES, max_size=5), taken=st.lists(RANGES, max_size=5), within=RANGES)
def test_open_is_what_is_neither_dead_nor_taken(
    dead: list[tuple[int, int]], taken: list[tuple[int, int]], within: tuple[int, int]
) -> None:
    log = Log(LOGS[0], 0, delayed=False, end=100)
    for low, high in dead:
        log.dead.add(low, high)
    for low, high in taken:
        log.taken.add(low, high)
    closed = {seq for low, high in (*dead, *taken) for seq in range(low, high)}
    found = [seq for low, high in log.open_pieces(*within) for seq in range(low, high)]
    assert found == [seq for seq in range(*within) if seq not in closed]
    assert log.live == 100 - len({seq for low, high in dead for seq in range(low, high)})
