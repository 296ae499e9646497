"""Queues that get more partitions in the middle of everything that can go wrong keep their promises."""

from __future__ import annotations

import random
from collections import Counter

from tests.simulation.plan import FAULTS, GROUPS, LATE, PLAIN, WIDE, Plan, draw_plan
from tests.simulation.world import World

GROWING = tuple(queue._replace(grows=(4, 3, 7)) for queue in (PLAIN, WIDE, GROUPS, LATE))


def run(seed: int, faults: tuple[str, ...] = FAULTS) -> Counter[str]:
    rng = random.Random(seed * 11 + 3)
    plan = draw_plan(rng, faults)._replace(queues=(rng.choice(GROWING),))
    return World(seed, plan).run().ledger.counts


def test_nothing_is_repeated_while_a_queue_grows_in_quiet_times() -> None:
    for seed, queue in enumerate(GROWING):
        counts = World(seed, Plan(queues=(queue,))).run().ledger.counts
        assert counts["duplicated"] == counts["unknown"] == counts["not stored"] == 0
        assert counts["grown"] == 2


def test_promises_hold_while_a_queue_grows() -> None:
    counts: Counter[str] = Counter()
    for seed in range(24):
        counts += run(seed)
    assert counts["grown"] > 24
    assert counts["acked"] > 500
    assert counts["faults"] > 24, "nothing went wrong"
