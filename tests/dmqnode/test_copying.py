"""What is deleted of a copy when messages died while it did not follow, also where records are damaged."""

from __future__ import annotations

import random
from typing import Any, cast

from dmqnode.batch import encode
from dmqnode.copying import align_rows, delete_stale, put_batch, split_own
from dmqnode.disk import perform_read
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys, harm_key
from dmqnode.messages import Blob
from dmqnode.peer_messages import BatchRecord
from dmqnode.port import Port, Then
from dmqnode.ranges import RangeSet
from dmqnode.reads import Rows, Scan
from dmqnode.records import State, encode_batch, encode_log, encode_state
from storage.memory import MemoryStore
from storage.ops import WriteBatch

WALL = 1_700_000_000_000
KEYS = PartitionKeys.of(PartitionId(b"P" * 10))
LOG = LogId(b"L" * 20)


class Disk:
    """A port of which only the disk is there: delayed batches of two messages, at 0, 2, 4, …"""

    def __init__(self, batches: int) -> None:
        self.store = MemoryStore()
        self.write(self._batches(batches), lambda now: None)

    def _batches(self, batches: int) -> WriteBatch:
        ops = WriteBatch()
        for first in range(0, 2 * batches, 2):
            record = Blob(encode_batch(WALL, WALL + first, encode([b"x", b"y"])))
            put_batch(KEYS, LOG, BatchRecord(first, record), ops)
        return ops

    def write(self, ops: WriteBatch, then: Then) -> None:
        self.store.write(ops, sync=True)

    def rows(self) -> dict[bytes, bytes]:
        return dict(perform_read(self.store, scan_all()).rows)

    def delete(self, low: int, high: int) -> None:
        """Delete what is stale of the log, all of which is dead."""
        dead = {LOG: RangeSet([(low, high)])}
        procedure = delete_stale(KEYS, dead, dead, cast(Port, self))
        rows: Rows | None = None
        try:
            while True:
                rows = perform_read(self.store, procedure.send(cast(Any, rows)))
        except StopIteration:
            return


def scan_all() -> Scan:
    return Scan(KEYS.prefix, KEYS.prefix + b"\xff", 4096)


def damage(disk: Disk, key: bytes) -> None:
    disk.store.damage(key, random.Random(1))


def test_the_index_entry_of_a_dead_batch_goes_though_the_batch_is_damaged() -> None:
    disk = Disk(3)
    kept = {k: v for k, v in disk.rows().items() if KEYS.first_seq(k) != 2}
    damage(disk, KEYS.batch(LOG, 2))
    disk.delete(2, 4)
    assert disk.rows() == kept


def test_the_index_entry_of_a_damaged_batch_stays_while_some_of_it_lives() -> None:
    disk = Disk(3)
    damage(disk, KEYS.batch(LOG, 2))
    disk.delete(2, 3)
    assert KEYS.due(WALL + 2, LOG, 2) in disk.rows()


def test_another_index_entry_that_is_damaged_is_made_anew_from_its_batch() -> None:
    disk = Disk(3)
    kept = {k: v for k, v in disk.rows().items() if KEYS.first_seq(k) != 2}
    damage(disk, KEYS.batch(LOG, 2))
    damage(disk, KEYS.due(WALL + 4, LOG, 4))
    disk.delete(2, 4)
    assert disk.rows() == kept


def test_of_a_log_that_was_closed_everything_goes() -> None:
    """Also what this copy knows to be dead: a batch of it may be there all the same."""
    dead = RangeSet([(2, 6)])
    own = {
        b"l" + LOG: encode_log(WALL, delayed=False),
        b"d" + LOG + bytes(4): dead.encode(),
        b"s": encode_state(State(ends={LOG: 8})),
    }
    closed = {b"l" + LOG: encode_log(WALL, delayed=False, end=8), b"s": encode_state(State())}
    found = split_own(KEYS, {KEYS.prefix + key: record for key, record in own.items()})
    change = align_rows(KEYS, found, closed)
    assert list(change.stale[LOG]) == list(change.dead[LOG]) == [(0, 8)]
    still_open = align_rows(KEYS, found, own | {b"d" + LOG + bytes(4): RangeSet([(0, 6)]).encode()})
    assert list(still_open.stale[LOG]) == [(0, 2)]


def test_what_is_dead_of_a_log_whose_record_is_lost_is_deleted_too() -> None:
    lost = {b"s": encode_state(State(ends={LOG: 8}))}
    found = split_own(KEYS, {KEYS.prefix + key: record for key, record in lost.items()})
    dead = {b"d" + LOG + bytes(4): RangeSet([(5, 8)]).encode()}
    change = align_rows(KEYS, found, lost | {b"l" + LOG: encode_log(WALL, delayed=False)} | dead)
    assert list(change.stale[LOG]) == [(5, 8)]


def test_what_is_dead_is_deleted_where_it_is_not_known_how_far_logs_went() -> None:
    """Damage took the record that says so: the batches are here all the same."""
    rows = {b"l" + LOG: encode_log(WALL, delayed=False), b"s": encode_state(State(ends={LOG: 8}))}
    dead = {b"d" + LOG + bytes(4): RangeSet([(2, 6)]).encode()}
    mark = harm_key(KEYS.prefix + b"s")
    assert mark is not None
    for left in (b"l" + LOG, b""):
        own = {KEYS.prefix + key: record for key, record in rows.items() if key == left}
        change = align_rows(KEYS, split_own(KEYS, own | {mark: b""}), rows | dead)
        assert list(change.stale[LOG]) == [(2, 6)]
