"""Which damaged records are still missed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from dmqnode.debts import SPOILED
from dmqnode.disk import perform_read, read_ranges
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId, QueueId
from dmqnode.keys import DEBTS, PartitionKeys, harm_key, queue_key
from dmqnode.ranges import RangeSet
from dmqnode.reads import Scan
from dmqnode.records import State, encode_log, encode_state
from dmqnode.smallrows import encode_stamp, stamp_key
from dmqnode.unmended import LOOKED_AT, Unmended
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from storage.store import PAGE, Damaged, Store
from storage.store import Scan as Found

KEYS = PartitionKeys.of(PartitionId(b"queue-id\x00\x00"))
LOG = LogId(b"node-id-" + bytes(12))
OTHER = LogId(b"another-" + bytes(12))
BATCH, DUE = KEYS.batch(LOG, 7), KEYS.due(5000, LOG, 7)
DEBT = DEBTS + KEYS.prefix[1:] + LOG + bytes(8)
DEFINITION = queue_key(QueueId(b"queue-id"))
ROWS = {
    KEYS.log(LOG): encode_log(1, delayed=False),
    KEYS.batch(LOG, 1): b"a batch",
    BATCH: b"another",
    DUE: b"due",
    KEYS.dead(LOG, 0): RangeSet([(0, 1)]).encode(),
    KEYS.state(): encode_state(State()),
    stamp_key(KEYS): encode_stamp((LeaseNumber(1, NodeId(b"leader--")), 4)),
    KEYS.fence(LOG): b"",
    DEBT: b"owed",
    DEFINITION: b"definition",
}


def write(store: Store, rows: Mapping[bytes, bytes | None]) -> None:
    batch = WriteBatch()
    for key, value in rows.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    store.write(batch, sync=True)


def holding(*damaged: bytes) -> MemoryStore:
    """A store in which some records were damaged and met."""
    store = MemoryStore()
    write(store, dict(ROWS))
    for number, key in enumerate(damaged):
        store.damage(key, random.Random(number))
        assert perform_read(store, Scan(key, key + b"\x00", 1)).damaged == [key]
    return store


def missed(store: Store) -> int:
    return Unmended(store).count(store.statistics().set_aside)


def test_nothing_is_missed_where_nothing_was_damaged() -> None:
    assert missed(holding()) == 0


@pytest.mark.parametrize(
    ("damaged", "mending"),
    [
        (BATCH, {BATCH: b"fetched"}),
        (BATCH, {KEYS.dead(LOG, 1): RangeSet([(7, 9)]).encode()}),
        (BATCH, {KEYS.log(LOG): encode_log(1, delayed=False, end=9)}),
        (BATCH, {KEYS.log(LOG): None}),
        (BATCH, dict.fromkeys(key for key in ROWS if key.startswith(KEYS.prefix))),
        (DUE, {KEYS.dead(LOG, 1): RangeSet([(7, 9)]).encode(), BATCH: None}),
        (KEYS.state(), {harm_key(KEYS.state()): None}),
        (KEYS.dead(LOG, 0), {harm_key(KEYS.dead(LOG, 0)): None}),
        (stamp_key(KEYS), {stamp_key(KEYS): ROWS[stamp_key(KEYS)]}),
        (DEBT, {DEBT: None}),
        (DEFINITION, {DEFINITION: b"told by others"}),
    ],
)
def test_a_record_is_missed_until_it_is_made_good(damaged: bytes, mending: dict[bytes, bytes | None]) -> None:
    store = holding(damaged)
    if damaged == DEBT:
        write(store, {DEBT: SPOILED})
    if damaged == DUE:
        write(store, {BATCH: None})
    assert missed(store) == 1
    write(store, mending)
    assert missed(store) == 0
    assert store.statistics().set_aside == 1, "it is kept"


def test_a_batch_whose_log_is_lost_too_is_missed_until_the_copy_is_aligned() -> None:
    store = holding(BATCH, KEYS.log(LOG))
    assert missed(store) == 2
    write(store, {harm_key(KEYS.log(LOG)): None})
    assert missed(store) == 0


def test_a_batch_of_which_one_message_is_dead_is_missed() -> None:
    store = holding(BATCH)
    later = KEYS.batch(LOG, 17)
    write(store, {later: b"the next", KEYS.dead(LOG, 1): RangeSet([(7, 8)]).encode()})
    assert missed(store) == 1
    write(store, {later: None, KEYS.state(): encode_state(State(ends={LOG: 9}))})
    assert missed(store) == 1, "the last of its log"
    write(store, {KEYS.dead(LOG, 1): RangeSet([(7, 17)]).encode()})
    assert missed(store) == 0


@pytest.mark.parametrize("start", [b"q", b"p", KEYS.prefix, DEBTS])
def test_of_a_stretch_that_begins_at_no_record_it_is_enough_that_it_can_be_read(start: bytes) -> None:
    store = holding()
    store.set_aside(Damaged(start, b"", "a damaged block", start + b"\xff"))
    assert missed(store) == 0


def test_what_is_dead_of_another_log_does_not_count() -> None:
    store = holding(BATCH)
    write(store, {KEYS.dead(OTHER, 0): RangeSet([(0, 99)]).encode(), KEYS.log(OTHER): ROWS[KEYS.log(LOG)]})
    assert missed(store) == 1


@pytest.mark.parametrize("harmless", [DUE, KEYS.fence(LOG)])
def test_what_others_tell_is_not_missed(harmless: bytes) -> None:
    """The batch says when it is due; a fence only keeps readers from deleted keys."""
    assert missed(holding(harmless)) == 0


def test_a_file_of_the_store_is_no_record() -> None:
    store = holding(BATCH)
    store.set_aside(Damaged(b"\x00000003.log", b"garbage", "the log is damaged"))
    assert (store.statistics().set_aside, missed(store)) == (2, 1)


class Torn(MemoryStore):
    """A store of which a stretch cannot be read while it is `torn`."""

    torn = True

    def scan(
        self, start: bytes, stop: bytes, *, limit: int, max_bytes: int = PAGE, reverse: bool = False
    ) -> Found:
        found = super().scan(start, stop, limit=limit, max_bytes=max_bytes, reverse=reverse)
        return replace(found, damaged=[STRETCH]) if self.torn and start <= BATCH < stop else found


STRETCH = Damaged(BATCH, b"", "a block", upto=KEYS.batch(LOG, 99))


def test_a_stretch_that_cannot_be_read_is_missed_until_it_can() -> None:
    store = Torn()
    write(store, dict(ROWS))
    store.set_aside(STRETCH)
    assert missed(store) == 1
    store.torn = False
    assert missed(store) == 0


def test_damage_that_is_met_later_counts_and_looks_take_turns() -> None:
    store = MemoryStore()
    keys = [KEYS.batch(LOG, number) for number in range(LOOKED_AT + 50)]
    write(store, {KEYS.log(LOG): ROWS[KEYS.log(LOG)], **dict.fromkeys(keys, b"a batch")})
    unmended = Unmended(store)
    assert unmended.count(0) == 0
    for key in keys:
        store.damage(key, random.Random(1))
    read_ranges(store, (KEYS.batches(),))
    kept = store.statistics().set_aside
    assert unmended.count(kept) == len(keys)
    write(store, dict.fromkeys(keys, b"fetched"))
    assert unmended.count(kept) == 50
    assert unmended.count(kept) == 0
    # What was mended once stays so.
    write(store, {keys[0]: None})
    assert unmended.count(kept) == 0


def test_no_more_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmqnode.unmended.MOST", 20)
    store = MemoryStore()
    keys = [KEYS.batch(LOG, number) for number in range(50)]
    write(store, {KEYS.log(LOG): ROWS[KEYS.log(LOG)], **dict.fromkeys(keys, b"a batch")})
    for key in keys:
        store.damage(key, random.Random(1))
    read_ranges(store, (KEYS.batches(),))
    unmended = Unmended(store)
    assert unmended.count(50) == 20
    write(store, dict.fromkeys(keys, b"fetched"))
    looks = 0
    while unmended.count(50):
        assert len(unmended._mended) <= 20
        assert len(unmended._missed) <= 20
        looks += 1
        assert looks <= 3
    assert unmended.count(50) == 0
