"""Whole brokers under everything that can go wrong keep their promises, seed by seed.

A seed that fails is run again by `run(seed)`; what it raises tells the promise, the plan and the trace of the
message concerned.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.plan import (
    FAULTS,
    FIFO,
    MORE_FAULTS,
    PLAIN,
    WIDE,
    Plan,
    draw_full_plan,
    draw_harsh,
    draw_wider_plan,
)
from tests.simulation.summary import WRONG
from tests.simulation.world import World


def run(seed: int, plan: Plan | None = None) -> World:
    """Run one seed to its end: of eight one is harsh, two have operators.  Errors: Broken."""
    if plan is None and seed % 8 == 7:
        plan = draw_harsh(seed)
    elif plan is None and seed % 4 == 2:
        plan = draw_full_plan(random.Random(seed))
    return World(seed, plan).run()


HAPPENS = ("kill", "power", "cut", "reset", "slow", "pause", "slowdisk", "eio", "clock", "leap", "stop")
"""Faults by the names under which they are counted; damage is silent."""


@pytest.mark.share(1)
def test_promises_hold(seeds: range) -> None:
    counts: Counter[str] = Counter()
    summary: Counter[str] = Counter()
    for seed in seeds:
        ledger = run(seed).ledger
        counts += ledger.counts
        summary.update(ledger.summary())
    assert summary["acked"] > 7 * len(seeds), summary
    assert counts["faults"] > len(seeds) // 8, "nothing went wrong"
    if len(seeds) >= 300:
        done = ("purge done", "delete done", "paused", "moved", "redriven")
        missing = [word for word in ("unknown", "not stored", "duplicated") if not summary[word]]
        missing += [kind for kind in HAPPENS if not counts[f"fault {kind}"]]
        assert not missing + [kind for kind in done if not counts[kind]], f"{summary}, {counts}"
    assert not any(summary[word] for word in WRONG), summary


@pytest.mark.share(1 / 12, few=15)
def test_promises_hold_with_disks_that_are_full_torn_or_rot(seeds: range) -> None:
    counts: Counter[str] = Counter()
    summary: Counter[str] = Counter()
    for seed in seeds:
        ledger = World(seed, draw_wider_plan(random.Random(seed))).run().ledger
        counts += ledger.counts
        summary.update(ledger.summary())
    missing = [kind for kind in ("full", "torn", "rust", "pause") if not counts[f"fault {kind}"]]
    assert len(seeds) < 25 or not missing, counts
    assert summary["acked"] > 7 * len(seeds), summary
    assert not any(summary[word] for word in WRONG), summary


def test_what_is_damaged_on_every_disk_is_lost_and_nothing_else() -> None:
    destroyed = 0
    for seed in range(6):
        plan = Plan(replicas=2, queues=(FIFO, WIDE), faults=("rot", "kill"), rate=0.4, seconds=8.0)
        destroyed += len(run(seed, plan).ledger.damage.destroyed)
    assert destroyed


def test_nothing_is_delivered_twice_in_quiet_times() -> None:
    for seed in range(4):
        counts = run(seed, Plan(queues=(PLAIN, WIDE))).ledger.counts
        assert counts["duplicated"] == 0
        assert counts["unknown"] == 0
        assert counts["not stored"] == 0


@pytest.mark.parametrize("fault", [*FAULTS, *MORE_FAULTS, "full", "torn", "rust"])
def test_each_fault_happens(fault: str) -> None:
    counts = run(5, Plan(queues=(PLAIN,), faults=(fault,), rate=1.0, seconds=8.0)).ledger.counts
    assert counts["stored"] > 10
    assert fault in ("boundary", "flip", "eio") or counts["faults"] + counts["fault stop"] > 0


def test_a_seed_runs_alike_in_every_process() -> None:
    code = "from tests.simulation.test_swarm import run\nprint([run(s).digest for s in (1, 2, 5)])"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
