"""Bodies become batches: all of them, in order, within bounds, with their options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.batch import MAX_ATTRIBUTES, Batch
from dmqnode.errors import LimitExceeded, PartlyFailed, Unknown, UsageError
from dmqnode.outgoing import (
    BATCH_MESSAGES,
    Outgoing,
    body_bytes,
    columns,
    cut,
    outcome_of_many,
    outcome_of_stream,
)

ITEMS = st.lists(
    st.binary(max_size=40)
    | st.builds(
        Outgoing,
        st.binary(max_size=40),
        st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        st.none() | st.text(min_size=1, max_size=3),
        st.none() | st.floats(0.001, 1000),
        st.none() | st.text(min_size=1, max_size=3),
    ),
    max_size=60,
)


@given(items=ITEMS, room=st.integers(1, 200), group=st.none() | st.just("g"))
def test_every_message_arrives_with_its_options(
    items: list[bytes | Outgoing], room: int, group: str | None
) -> None:
    batches = [
        b for b in cut(items, columns(None, group, None, None), lambda: room) if not isinstance(b, UsageError)
    ]
    found = [
        (batch.body(i), batch.attributes(i), batch.value("g", i), batch.value("t", i), batch.value("d", i))
        for batch in batches
        for i in range(batch.count)
    ]
    wanted = []
    for item in items:
        item = item if isinstance(item, Outgoing) else Outgoing(item)
        ttl = None if item.ttl is None else max(1, round(item.ttl * 1000))
        wanted.append((item.body, dict(item.attributes or {}), item.group or group, ttl, item.dedup_id))
    assert found == wanted
    assert all(batch.count == 1 or batch.span(0, batch.count) <= room for batch in batches)


def test_many_small_bodies_are_few_batches() -> None:
    counts = [b.count for b in batches_of([b"x"] * 20_000, 1 << 20)]
    assert counts == [BATCH_MESSAGES, BATCH_MESSAGES, 20_000 - 2 * BATCH_MESSAGES]


def test_an_endless_stream_is_taken_as_batches_are_asked_for() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100

    batches = cut(endless(), {}, lambda: 100_000)
    next(batches)
    next(batches)
    assert taken <= 4096


def test_bodies_are_bytes() -> None:
    assert body_bytes(bytearray(b"a")) == b"a"
    assert body_bytes(memoryview(b"ab")[1:]) == b"b"
    with pytest.raises(UsageError, match=r"\.encode"):
        body_bytes("text")
    (wrong,) = cut(["text"], {}, lambda: 10)  # type: ignore[list-item]
    assert isinstance(wrong, UsageError)
    assert "body is bytes" in str(wrong)


def batches_of(items: Iterable[object], room: int) -> list[Batch]:
    """Cut what has no mistake."""
    found = list(cut(items, {}, lambda: room))  # type: ignore[arg-type]
    assert all(isinstance(batch, Batch) for batch in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(
    "wrong",
    ["text", Outgoing(b"x", ttl=-1), Outgoing(b"x", group=""), Outgoing(b"x", {"k": "\udcff"}), Outgoing(5)],  # type: ignore[arg-type]
)
def test_what_cannot_be_sent_ends_a_stream_behind_all_that_can(wrong: bytes) -> None:
    good = [b"x" * 100] * 5000
    *batches, last = cut([*good, wrong, b"behind it"], {}, lambda: 20_000)
    assert isinstance(last, UsageError)
    assert [body for b in batches for body in b.bodies()] == good  # type: ignore[union-attr]


def test_of_a_few_with_a_mistake_none_is_sent() -> None:
    (wrong,) = cut([b"a", Outgoing(b"b"), Outgoing(b"c", ttl=0), b"d"], {}, lambda: 20_000)
    assert isinstance(wrong, UsageError)


def test_subclasses_of_bytes_are_bodies_too() -> None:
    class Body(bytes):
        pass

    (batch,) = batches_of([Body(b"a"), b"b", bytearray(b"c")], 100)
    assert batch.bodies() == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1.0}, "ttl"),
        ({"ttl": "5"}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"group": ""}, "group"),
        ({"group": "\udcff"}, "group"),
        ({"dedup_id": "\ud800"}, "dedup_id"),
        ({"attributes": {"k": "\ud800"}}, "attribute is"),
        ({"attributes": {"\ud800": "v"}}, "attribute is"),
        ({"attributes": ["k", "v"]}, "attributes"),
        ({"group": "g" * 257}, "group"),
        ({"dedup_id": ""}, "dedup_id"),
        ({"attributes": {"k": 1}}, "attributes"),
        ({"attributes": {str(n): "" for n in range(MAX_ATTRIBUTES + 1)}}, "attributes"),
        ({"attributes": {"k": "v" * 65_536}}, "attributes"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, object], word: str) -> None:
    whole = {"attributes": None, "group": None, "ttl": None, "dedup_id": None, **options}
    with pytest.raises(UsageError, match=word):
        columns(**whole)  # type: ignore[arg-type]


def test_the_error_of_many_says_what_is_known() -> None:
    refused, unknown = LimitExceeded("full"), Unknown("no answer")
    assert outcome_of_many(4, [(0, 2, refused), (2, 2, unknown)]) is unknown
    assert outcome_of_many(2, [(0, 2, refused)]) is refused
    partly = outcome_of_many(6, [(2, 2, refused)])
    assert isinstance(partly, PartlyFailed)
    assert [at for at, _ in partly.failures] == [2, 3]


def test_what_ended_the_sending_is_told_with_what_it_ended() -> None:
    wrong = UsageError("ttl is 0 s")
    assert outcome_of_many(1, [(0, 1, wrong)]) is wrong
    partly = outcome_of_many(7, [(6, 1, wrong)])
    assert isinstance(partly, PartlyFailed)
    assert partly.failures == ((6, wrong),)
    assert "none behind them was sent: ttl is 0 s" in str(partly)


def test_a_stream_ends_with_usage_only_if_nothing_was_sent() -> None:
    wrong, refused = UsageError("ttl is 0 s"), LimitExceeded("full")
    assert outcome_of_stream(0, 1, wrong) is wrong
    assert outcome_of_stream(5, 1, refused) is refused
    partly = outcome_of_stream(5, 1, wrong)
    assert isinstance(partly, PartlyFailed)
    assert partly.failures == ((5, wrong),)
