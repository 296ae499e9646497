"""Recognising what was sent before: as long as is promised, over a restart too, and within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.counters import Counters
from dmqnode.dedup import (
    MAX_EARLIER,
    NAME_BYTES,
    PRODUCER_BYTES,
    SEND_BYTES,
    WINDOW_MINUTES,
    Dedup,
    Placed,
    join_runs,
)
from dmqnode.ids import LogId, PartitionId, choose_partition
from dmqnode.keys import PartitionKeys
from dmqnode.ranges import RangeSet
from dmqnode.sequences import Sequences
from storage.memory import MemoryStore
from storage.ops import WriteBatch

LOG, OTHER = (LogId(letter * 20) for letter in (b"L", b"O"))
KEYS = PartitionKeys.of(PartitionId(b"P" * 10))


def reloaded(dedup: Dedup, store: MemoryStore) -> Dedup:
    """Save, and load what is on disk as a start does."""
    ops = WriteBatch()
    dedup.save(KEYS, ops)
    store.write(ops, sync=True)
    found = Dedup(Counters())
    found.low = dedup.low
    for row in store.scan(*KEYS.sent_range(dedup.low), limit=100_000).rows:
        found.load(*KEYS.read_sent(row.key), row.value)
    return found


@given(
    sends=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([b"p", b"q"]), st.sampled_from("abc")), max_size=30
    )
)
def test_what_came_within_the_window_is_known_over_restarts(sends: list[tuple[int, bytes, str]]) -> None:
    dedup, store, minute = Dedup(Counters()), MemoryStore(), 100
    sequences: dict[tuple[bytes, int], tuple[int, int]] = {}
    names: dict[str, tuple[int, int]] = {}
    for n, (passed, producer, name) in enumerate(sends):
        minute += passed
        dedup.sweep(minute)
        dedup.remember(minute, producer, n, 0, [(LOG, n, 1)])
        sequences[producer, n] = (n, minute)
        known = dedup.find_name(name, minute)
        if name in names and names[name][1] >= minute - WINDOW_MINUTES:
            assert known is not None
            assert known.seq == names[name][0]
        elif known is None:
            dedup.remember_name(name, LOG, n, minute)
            names[name] = (n, minute)
        saved = reloaded(dedup, store)
        dedup = saved if n % 3 == 0 else dedup
    for (producer, sequence), (seq, sent) in sequences.items():
        if sent >= minute - WINDOW_MINUTES:
            assert dedup.find(producer, sequence) == [(LOG, seq, 1)]
    dedup.sweep(minute + WINDOW_MINUTES + 1)
    assert len(dedup) == 0
    reloaded(dedup, store)
    assert not store.scan(*KEYS.sent_range(0), limit=10).rows


def test_what_the_producer_knows_is_forgotten_and_its_repetition_refused() -> None:
    dedup = Dedup(Counters())
    for n in range(1, 6):
        dedup.remember(1, b"p", n, max(0, n - 2), [(LOG, n, 1)])
    assert dedup.find(b"p", 2) is None
    assert dedup.settled(b"p", 2)
    assert dedup.find(b"p", 3) == [(LOG, 3, 1)]
    assert not dedup.settled(b"p", 3)


def test_of_too_many_producers_the_one_silent_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmqnode.dedup.MAX_PRODUCERS", 2)
    counters = Counters()
    dedup = Dedup(counters)
    for producer in (b"a", b"b", b"a", b"c"):
        dedup.remember(1, producer, 1, 0, [(LOG, 0, 1)])
    assert [dedup.find(p, 1) is not None for p in (b"a", b"b", b"c")] == [True, False, True]
    assert counters.forgotten == 1


def test_a_key_always_chooses_the_same_partition() -> None:
    assert [choose_partition(16, key) for key in ("", "a", b"a", "ä")] == [0, 3, 3, 3]
    assert {choose_partition(4, str(n)) for n in range(100)} == {0, 1, 2, 3}


@given(st.lists(st.tuples(st.sampled_from([LOG, LogId(b"M" * 20)]), st.integers(0, 5)), max_size=20))
def test_runs_say_the_same_in_the_same_order(places: list[tuple[LogId, int]]) -> None:
    runs = join_runs(places)
    assert [(log, first + n) for log, first, count in runs for n in range(count)] == places


def test_while_somebody_is_awaited_nothing_is_forgotten_but_what_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dmqnode.dedup.MAX_PRODUCERS", 8)
    monkeypatch.setattr("dmqnode.dedup.MAX_NAMES", 8)
    dedup, store = Dedup(Counters()), MemoryStore()
    for n in range(4):
        dedup.remember(n, b"%d" % n, 1, 0, [(LOG, n, 1)])
        dedup.remember_name(str(n), LOG, n, n)
    dedup.sweep(1000, awaited=True)
    dedup = reloaded(dedup, store)
    assert [dedup.find(b"%d" % n, 1) for n in range(4)] == [[(LOG, n, 1)] for n in range(4)]
    dedup.remember_name("more", LOG, 9, 1000)
    dedup.sweep(1000, awaited=True)
    assert [dedup.find_name(str(n), n) is not None for n in range(4)] == [False, True, True, True]
    dedup.remember(1000, b"more", 1, 0, [(LOG, 9, 1)])
    dedup = reloaded(dedup, store)
    dedup.sweep(1000 + WINDOW_MINUTES)
    assert len(dedup) == 2
    dedup.sweep(1001 + WINDOW_MINUTES)
    reloaded(dedup, store)
    assert len(dedup) == 0
    assert not store.scan(*KEYS.sent_range(0), limit=10).rows


def test_of_what_is_remembered_for_who_is_away_only_a_share_may_stay_the_latest_of_it() -> None:
    dedup = Dedup(Counters())
    for n in range(20):
        dedup.remember(n, b"%d" % n, 1, 0, [(LOG, n, 1)])
        dedup.remember_name(str(n), LOG, n, n)
    dedup.sweep(20, awaited=True)
    assert (len(dedup), dedup.size) == (40, 20 * (PRODUCER_BYTES + SEND_BYTES + NAME_BYTES))
    dedup.sweep(20, awaited=True, share=0.5)
    assert [dedup.find_name(str(n), n) is not None for n in range(20)] == [False] * 10 + [True] * 10
    assert [dedup.find(b"%d" % n, 1) is not None for n in range(20)] == [False] * 10 + [True] * 10
    assert dedup.size == 10 * (PRODUCER_BYTES + SEND_BYTES + NAME_BYTES)
    dedup.sweep(20, awaited=True, share=0.0)
    assert dedup.find(b"14", 1) is None
    assert dedup.find(b"15", 1) is not None, "nothing is forgotten before its five minutes are over"


def test_a_dedup_id_of_long_ago_stands_for_another_message_though_it_is_remembered() -> None:
    dedup, store, later = Dedup(Counters()), MemoryStore(), 100 + WINDOW_MINUTES + 1
    dedup.remember_name("name", LOG, 1, 100)
    assert dedup.find_name("name", later) is None
    dedup.remember_name("name", LOG, 2, later)
    dedup.remember_name("name", LOG, 3, 101, late=True)  # a debt brings it
    for known in (dedup, reloaded(dedup, store)):
        placed = known.find_name("name", later)
        assert placed is not None
        assert placed.seq == 2


def test_a_dedup_id_that_is_used_again_leaves_what_it_stood_for_as_long_as_that_is_remembered() -> None:
    dedup, store = Dedup(Counters()), MemoryStore()
    uses = [100 + n * (WINDOW_MINUTES + 1) for n in range(MAX_EARLIER + 2)]

    def places(known: Dedup) -> list[int | None]:
        return [None if (p := known.find_name("name", minute)) is None else p.seq for minute in uses]

    for n, minute in enumerate(uses):
        dedup.remember_name("name", LOG, n, minute)
    assert places(dedup) == [None, *range(1, len(uses))]
    assert places(reloaded(dedup, store)) == places(dedup)
    dedup.forget_places({LOG: RangeSet([(3, 5)])})
    assert places(dedup)[2:] == [2, None, None, 5]
    for _ in range(2 * MAX_EARLIER):  # a debt is offered again and again
        dedup.remember_name("name", OTHER, 77, uses[0], late=True)
    dedup.remember_name("name", OTHER, 78, uses[0] - WINDOW_MINUTES - 1, late=True)
    assert places(dedup) == [77, 1, 2, None, None, 5]
    oldest = dedup.find_name("name", uses[0] - WINDOW_MINUTES - 1)
    assert oldest is not None, "nothing is held twice"
    dedup.forget_places({LOG: RangeSet([(5, 6)])})
    assert places(dedup) == [77, 1, 2, None, None, None], "though the last use is lost"
    dedup.sweep(uses[-1] + 1)
    assert len(dedup) == 0


def test_where_a_send_went_that_few_have_is_remembered_though_its_outcome_was_told() -> None:
    certain = [(LOG, 0, 1)]
    dedup = Dedup(Counters(), lambda runs: runs == certain)
    dedup.remember(1, b"p", 1, 1, certain)
    dedup.remember(1, b"p", 2, 2, [(LOG, 1, 1)])
    dedup.remember(1, b"p", 3, 3, [(LOG, 2, 1)])
    assert (dedup.find(b"p", 1), dedup.told(b"p", 1)) == (None, True)
    assert (dedup.find(b"p", 2), dedup.told(b"p", 2)) == ([(LOG, 1, 1)], False)
    assert dedup.kept_at(b"p", 2) == [(LOG, 1, 1)]


def test_names_of_two_groups_that_begin_with_one_place_stay_both() -> None:
    """A debt that both its keepers offer is the first name of two groups, with others' names behind it."""
    dedup, store = Dedup(Counters()), MemoryStore()
    for seq, other in enumerate(("mine", "and mine")):
        dedup.remember_name("owed", LOG, 7, 100)
        dedup.remember_name(other, OTHER, seq, 100)
        reloaded(dedup, store)
        dedup._names.pop("owed")  # as if another message of the name had come in between
    again = reloaded(dedup, store)
    assert [again.find_name(name, 100) for name in ("owed", "mine", "and mine")] == [
        Placed(LOG, 7, 100),
        Placed(OTHER, 0, 100),
        Placed(OTHER, 1, 100),
    ]


def test_a_name_that_is_remembered_already_is_not_written_again() -> None:
    dedup, store = Dedup(Counters()), MemoryStore()
    dedup.remember_name("owed", LOG, 7, 100)
    reloaded(dedup, store)
    dedup.remember_name("owed", LOG, 7, 100)
    assert not dedup.unsaved


def test_of_a_producer_of_several_queues_every_send_is_remembered_that_was_told() -> None:
    dedup, numbers = Dedup(Counters()), Sequences()
    for at in range(2000):
        number = numbers.give("q")
        dedup.remember(0, b"p", number, numbers.floor("q"), [(LOG, at, 1)])
        other = numbers.give("other")
        numbers.settle("q", number)
        numbers.settle("other", other)
    assert all(dedup.told(b"p", number) for number in range(1, 2000))
