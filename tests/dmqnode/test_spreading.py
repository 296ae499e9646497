"""Where messages go, and that more partitions do not change it for what must find its like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.batch import encode, parse
from dmqnode.errors import Refused
from dmqnode.ids import QueueId
from dmqnode.messages import Send
from dmqnode.queues import Definition, Settings
from dmqnode.spreading import NO_PARTITION, newest, split


def queue(partitions: int, first: int = 0, ordering: str = "standard") -> Definition:
    settings = Settings(partitions=partitions, ordering=ordering)
    return Definition(
        id=QueueId(b"q" * 8), name="q", owner="", created_at=0, settings=settings, first_partitions=first
    )


def places(definition: Definition, *, spread: int = 0, **columns: str) -> dict[int, list[int]]:
    blob = encode([b"x"], {name: (value, {}) for name, value in columns.items()}).blob
    return split(definition, Send("q", b"producer", 1, 0, None, False, blob, spread=spread), parse(blob))


def test_a_queue_of_one_partition_has_one_place() -> None:
    assert places(queue(1)) == places(queue(1), g="a") == places(queue(8, 1)) == {0: []}


@given(st.integers(1, 9), st.integers(0, 20), st.text(min_size=1, max_size=5), st.sampled_from("gd"))
def test_what_has_a_key_stays_when_a_queue_grows(first: int, more: int, key: str, column: str) -> None:
    grown = queue(first + more, first)
    for spread in (0, first, first + more):
        assert places(grown, spread=spread, **{column: key}) == places(queue(first), **{column: key})


@given(st.integers(1, 9), st.integers(0, 20), st.binary(max_size=4))
def test_a_repetition_finds_its_place_whatever_the_number_is_by_then(
    first: int, more: int, producer: bytes
) -> None:
    blob = encode([b"x"]).blob
    for spread in (0, first):
        request = Send("q", producer, 1, 0, None, False, blob, spread=spread)
        assert split(queue(first), request, parse(blob)) == split(
            queue(first + more, first), request, parse(blob)
        )


def test_messages_of_one_batch_are_parted() -> None:
    blob = encode([b"a", b"b", b"c"], {"g": (None, {0: "x", 1: "y"})}).blob
    pieces = split(queue(4), Send("q", b"p", 1, 0, None, False, blob), parse(blob))
    assert sorted(i for chosen in pieces.values() for i in chosen) == [0, 1, 2]
    assert len(pieces) > 1


def test_new_partitions_are_used_by_those_who_know_of_them() -> None:
    used = set()
    for n in range(100):
        blob = encode([b"x"]).blob
        request = Send("q", b"%d" % n, 1, 0, None, False, blob, spread=8)
        used |= split(queue(8, 1), request, parse(blob)).keys()
    assert used == set(range(8))


@pytest.mark.parametrize("spread", [3, -1])
def test_more_than_there_are_is_refused(spread: int) -> None:
    with pytest.raises(Refused) as refused:
        places(queue(2), spread=spread)
    assert (refused.value.code, refused.value.retryable) == (NO_PARTITION, True)


def test_what_a_client_is_told() -> None:
    assert newest(queue(4)) == 0
    assert newest(queue(4, 2)) == 4
