"""What a leader learns from a home that did not show its copy before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dmqnode.ids import LogId
from dmqnode.log import Log
from dmqnode.mending import adopt
from dmqnode.ranges import RangeSet
from dmqnode.records import State
from dmqnode.smallrows import Described

LOG = LogId(b"L" * 20)


def test_what_died_elsewhere_before_it_was_due_is_not_delayed_any_more() -> None:
    log = Log(LOG, 1, delayed=True)
    log.end = log.durable = 5
    log.taken.add(1, 2)  # it is due
    log.gaps.add(2, 3)  # it is not here
    partition: Any = SimpleNamespace(
        closed={},
        logs={LOG: log},
        settings=SimpleNamespace(ordering="none"),
        dedup=None,
        undue=3,
        touch=lambda: None,
        ready=SimpleNamespace(clear=lambda *, again: {}),
    )
    shown = Described({}, {LOG: (1, True)}, {}, {LOG: RangeSet([(0, 4)])}, State(ends={LOG: 5}))
    assert list(adopt(partition, shown)[LOG]) == [(0, 4)]
    assert partition.undue == log.live == 1
