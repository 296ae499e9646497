"""Delayed batches come out by when they are due, whatever of them is in memory."""

from __future__ import annotations

import math

from dmqnode import duetimes
from dmqnode.duetimes import CameDue, DueBatch, DueTimes
from dmqnode.ids import LogId
from dmqnode.log import Log, StoredBatch

LOG = LogId(b"l" * 20)


def batch(due: int) -> DueBatch:
    return DueBatch(due, LOG, due, 1, 0, 10)


def test_what_does_not_fit_is_read_again_from_the_horizon() -> None:
    times = DueTimes()
    for due in range(5000, 0, -1):
        times.add(batch(due))
    assert len(times.near()) <= duetimes.MAX_CACHED
    assert not times.whole
    popped = [b.due for b in times.pop_due(10_000)]
    assert popped == list(range(1, len(popped) + 1))
    assert times.hungry
    times.reading = True
    times.add(batch(1))  # while the disk is read
    assert times.low() == 1, "a start must not skip it"
    times.loaded([batch(d) for d in range(len(popped) + 1, 5001)], more=False, stored=lambda b: True)
    assert [b.due for b in times.pop_due(10_000)] == [1, *range(len(popped) + 1, 5001)]
    assert times.low() == math.inf


def test_a_batch_that_lives_for_ever_does_not_keep_the_dead_in_memory() -> None:
    log = Log(LOG, 0, delayed=True)
    came = CameDue()
    for n in range(20_000):
        came.add(StoredBatch(log, n, 1, size=1, sent_at=0, due=n + 1, batch=None))
        if n:
            log.dead.add(n, n + 1)
    assert came.low() == 1
    assert len(came) < 3000


def test_a_batch_that_is_lacking_holds_nothing_back_and_a_fetched_one_does() -> None:
    log = Log(LOG, 0, delayed=True)
    came = CameDue()
    for n in range(20):
        came.add(StoredBatch(log, n, 1, size=1, sent_at=0, due=n + 1, batch=None))
    log.dead.add(1, 20)
    log.gaps.add(0, 1)  # the record turned out to be damaged
    assert came.low() == math.inf
    assert not came
    log.gaps.remove(0, 1)
    came.add(StoredBatch(log, 0, 1, size=1, sent_at=0, due=1, batch=None))
    assert came.low() == 1
