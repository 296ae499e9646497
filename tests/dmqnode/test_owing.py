"""What a debt stands for: where what it repeats is lost, and it is dead for that, it is sent anew."""

from __future__ import annotations

import pytest

from dmqnode.batch import encode, parse
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.ids import LogId, PartitionId
from dmqnode.log import Log
from dmqnode.messages import Blob
from dmqnode.owing import give_up_for, repeated
from dmqnode.partition import Partition
from dmqnode.peer_messages import Debt
from dmqnode.queues import Settings
from dmqnode.records import State, decode_batch, encode_batch
from storage.ops import WriteBatch

OWN, OWED, OTHER = (LogId(letter * 20) for letter in (b"L", b"D", b"R"))
PRODUCER, MINUTE = b"x" * 16, 1000
SENT = MINUTE * 60_000
HOUR_LATER = Now(5000.0, SENT + 3_600_000)
LOST = ((OTHER, 0, 1),)


def debt(*names: str | None, producer: bytes = PRODUCER, due: int = 0) -> Debt:
    special = {i: name for i, name in enumerate(names) if name is not None}
    blob = encode([b"m%d" % i for i in range(len(names))], {"d": (None, special)} if special else {}).blob
    return Debt(OWED, 0, producer, 1, 1, Blob(encode_batch(SENT, due, parse(blob))))


@pytest.fixture
def partition() -> Partition:
    """One that lacks a message of the log OTHER, and has five of the debt's log, all of them dead."""
    found = Partition(PartitionId(b"p" * 10), Settings(), lambda: OWN, Counters())
    lacking = Log(OTHER, 1, delayed=False, end=1)
    lacking.gaps.add(0, 1)
    dead = Log(OWED, 2, delayed=False, end=5)
    dead.dead.add(0, 5)
    found.add_log(lacking)
    found.add_log(dead)
    return found


def anew(partition: Partition) -> list[tuple[int, int, list[bytes]]]:
    """Return what waits to be written: (sent, due, bodies)."""
    found = []
    for stored in partition.appends.collect(State(), ops := WriteBatch()):
        record = dict(ops)[partition.keys.batch(stored.log.id, stored.first)]
        assert record is not None
        sent_at, due, batch = decode_batch(record)
        found.append((sent_at, due, [bytes(batch.body(i)) for i in range(batch.count)]))
    return found


def test_what_died_for_what_is_lost_is_sent_anew_as_of_when_it_was_sent(partition: Partition) -> None:
    partition.dedup.remember_name("n", OTHER, 0, MINUTE)
    due = SENT + 7_200_000
    assert give_up_for(HOUR_LATER, partition, debt("n", due=due), LOST)
    assert anew(partition) == [(SENT, due, [b"m0"])]
    placed = partition.dedup.find_name("n", MINUTE)
    assert placed is not None
    assert (placed.log, placed.minute) == (OWN, MINUTE)
    assert repeated(partition, debt("n")) == [(OWN, 0, 1)], "it is offered once more, and dies for this"


def test_where_the_debt_itself_was_taken_in_does_not_answer_for_it(partition: Partition) -> None:
    partition.dedup.remember_name("n", OTHER, 0, MINUTE)
    partition.dedup.remember(MINUTE, PRODUCER, 1, 1, [(OWED, 0, 1)], kept=True)
    assert give_up_for(HOUR_LATER, partition, debt("n"), LOST)
    assert anew(partition) == [(SENT, 0, [b"m0"])]


def test_what_died_for_another_reason_stays_dead(partition: Partition) -> None:
    """It was acked, say, or repeats what is not lost."""
    partition.dedup.remember_name("n", OTHER, 0, MINUTE)
    partition.dedup.remember_name("whole", OWN, 7, MINUTE)
    assert give_up_for(HOUR_LATER, partition, debt(None, "n", "whole", "acked"), LOST)
    assert anew(partition) == [(SENT, 0, [b"m1"])]


def test_a_later_message_under_the_same_dedup_id_is_another_one(partition: Partition) -> None:
    partition.dedup.remember_name("n", OTHER, 0, MINUTE)
    partition.dedup.remember_name("n", OWN, 7, MINUTE + 58)
    assert give_up_for(HOUR_LATER, partition, debt("n"), LOST)
    assert len(anew(partition)) == 1
    later = partition.dedup.find_name("n", MINUTE + 58)
    assert later is not None
    assert later.seq == 7


def test_a_send_without_dedup_ids_is_sent_anew_under_its_producer(partition: Partition) -> None:
    partition.dedup.remember(MINUTE, PRODUCER, 1, 1, [(OTHER, 0, 1)])
    assert give_up_for(HOUR_LATER, partition, debt(None), LOST)
    assert anew(partition) == [(SENT, 0, [b"m0"])]
    assert partition.dedup.find(PRODUCER, 1) == [(OWN, 0, 1)]


def test_what_was_purged_is_not_sent_anew(partition: Partition) -> None:
    partition.dedup.remember(MINUTE, PRODUCER, 1, 1, [(OTHER, 0, 1)])
    partition.state.purged_at = SENT
    assert not give_up_for(HOUR_LATER, partition, debt(None), LOST)
    assert not anew(partition)


def test_what_lives_is_taken_in_under_its_ids(partition: Partition) -> None:
    partition.dedup.remember(MINUTE, PRODUCER, 1, 1, [(OTHER, 0, 1)])
    del partition.logs[OWED]
    assert not give_up_for(HOUR_LATER, partition, debt(None), LOST)
    assert not anew(partition)
    assert repeated(partition, debt(None)) == []
