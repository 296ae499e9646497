"""A write batch is a dict of last operations that knows its size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.ops import WriteBatch

OPERATIONS = st.lists(st.tuples(st.binary(max_size=2), st.none() | st.binary(max_size=5)))


def made_of(operations: list[tuple[bytes, bytes | None]]) -> WriteBatch:
    batch = WriteBatch()
    for key, value in operations:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


@given(OPERATIONS)
def test_the_last_operation_on_a_key_wins(operations: list[tuple[bytes, bytes | None]]) -> None:
    batch, wanted = made_of(operations), dict(operations)
    assert dict(batch) == wanted
    assert len(batch) == len(wanted)
    assert batch.size == sum(len(key) + len(value or b"") for key, value in wanted.items())


@given(OPERATIONS, OPERATIONS)
def test_extending_is_doing_one_after_the_other(
    first: list[tuple[bytes, bytes | None]], second: list[tuple[bytes, bytes | None]]
) -> None:
    batch, both = made_of(first), made_of(first + second)
    batch.extend(made_of(second))
    assert dict(batch) == dict(both)
    assert batch.size == both.size
