"""Deadlines is a map from keys to times that gives the due ones in order, and its heap stays small."""

from __future__ import annotations

import math
from gc import collect
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from dmqnode.deadlines import Deadlines

EDITS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1.0, 2.0, 3.0, -math.inf, math.inf, None])))


@given(EDITS, st.floats(0, 4))
def test_it_is_a_map_of_times(edits: list[tuple[int, float | None]], now: float) -> None:
    made, plain = Deadlines[int](), dict[int, float]()
    for key, due in edits:
        if due is None or due == math.inf:
            plain.pop(key, None)
        else:
            plain[key] = due
        made.cancel(key) if due is None else made.set(key, due)
        assert made.next() == min(plain.values(), default=math.inf)
    assert len(made) == len(plain)
    popped = list(made.pop_due(now))
    assert set(popped) == {k for k, due in plain.items() if due <= now}
    assert [plain[k] for k in popped] == sorted(plain[k] for k in popped)
    assert made.next() == min((d for d in plain.values() if d > now), default=math.inf)


def test_moving_one_key_for_ever_takes_no_memory() -> None:
    made = Deadlines[str]()
    for n in range(10_000):
        made.set("key", float(n))
    assert len(made._heap) < 100


def test_what_is_cancelled_is_not_kept_until_its_time() -> None:
    class Key:
        pass

    made, keys = Deadlines[Key](), [Key(), Key()]
    gone = [ref(key) for key in keys]
    for key in keys:
        made.set(key, 1e9)
    made.cancel(keys[0])
    made.set(keys[1], 2e9)
    made.cancel(keys[1])
    del keys, key
    collect()
    assert [found() for found in gone] == [None, None]
    assert not made._keys
