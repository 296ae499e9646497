"""Bodies become batches: all of them, in order, within bounds, with their options."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.batch import MAX_ATTRIBUTES
from dmqnode.errors import LimitExceeded, PartlyFailed, Unknown, UsageError
from dmqnode.outgoing import BATCH_MESSAGES, Outgoing, body_bytes, columns, cut, outcome_of_many

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
    batches = list(cut(items, columns(None, group, None, None), lambda: room))
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
    counts = [b.count for b in cut([b"x"] * 20_000, {}, lambda: 1 << 20)]
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
    with pytest.raises(UsageError, match="body is bytes"):
        list(cut(["text"], {}, lambda: 10))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1.0}, "ttl"),
        ({"group": ""}, "group"),
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
