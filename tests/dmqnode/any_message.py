"""Hypothesis strategies for protocol messages, made from the annotations of their fields."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from dmqnode.ids import LogId, PartitionId
from dmqnode.messages import BY_TAG, Blob, Message, Record

INTEGERS = st.integers(0, 2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | NUMBERS | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: INTEGERS,
    float: NUMBERS,
    str: st.text(max_size=20),
    bytes: st.binary(max_size=40),
    bool: st.booleans(),
    dict: st.dictionaries(st.text(max_size=8), VALUES, max_size=4),
    Blob: st.binary(max_size=200),
    LogId: st.binary(min_size=20, max_size=20),
    PartitionId: st.binary(min_size=10, max_size=10),
}


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field with this annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return st.none() | of_type(next(a for a in args if a is not NoneType))
    if origin is list:
        return st.lists(of_type(args[0]), max_size=4)
    if origin is tuple:
        return st.tuples(*map(of_type, args))
    if isinstance(hint, type) and issubclass(hint, Record):
        return records(hint)
    return PLAIN[hint if origin is None else origin]


def records(cls: type[Record]) -> st.SearchStrategy[Any]:
    """Records of a class."""
    hints = get_type_hints(cls)
    return st.tuples(*(of_type(hints[f]) for f in cls.FIELDS)).map(lambda values: cls(*values))


def messages() -> st.SearchStrategy[Message]:
    """Messages of every kind."""
    return st.sampled_from(list(BY_TAG.values())).flatmap(records)
