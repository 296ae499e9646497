"""Groups, against a model: in order within each, and one of each in flight."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from dmqnode.groups import Groups
from dmqnode.ids import LogId
from dmqnode.log import Log, Segment, StoredBatch

STORED = StoredBatch(Log(LogId(b"L" * 20), 0, delayed=False), 0, 9, size=1, sent_at=5, due=0, batch=None)
STEPS = st.lists(
    st.tuples(st.sampled_from(["park", "park", "pop", "free", "back"]), st.sampled_from("abc")), max_size=60
)


@given(STEPS)
def test_of_each_group_one_is_out_and_they_come_in_order(steps: list[tuple[str, str]]) -> None:
    groups = Groups()
    parked: dict[str, deque[int]] = {g: deque() for g in "abc"}
    out: dict[str, Segment] = {}
    for n, (step, group) in enumerate(steps):
        if step == "park":
            groups.park(Segment(STORED, n, n + 1, group=group))
            parked[group].append(n)
        elif step == "pop" and (head := groups.peek()) is not None:
            assert groups.pop() is head
            assert head.group is not None
            assert head.group not in out
            assert parked[head.group].popleft() == head.low
            out[head.group] = head
        elif step == "free" and group in out:
            del out[group]
            groups.free(group)
        elif step == "back" and group in out:
            parked[group].appendleft(out[group].low)
            groups.put_back(out.pop(group))
        runnable = {g for g in "abc" if parked[g] and g not in out}
        assert groups.runnable is bool(runnable)
        assert groups.count == sum(map(len, parked.values()))
        assert groups.blocked == len([g for g in out if parked[g]])
    assert sorted(s.low for s in groups.clear()) == sorted(n for p in parked.values() for n in p)
    assert not groups.runnable
    assert groups.count == 0
