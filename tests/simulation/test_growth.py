"""Queues that get more partitions in the middle of everything that can go wrong keep their promises."""

from __future__ import annotations

import random
from collections import Counter

from dmqnode.batch import encode
from dmqnode.ids import choose_partition
from dmqnode.messages import CreateQueue, Delivered, QueueInfo, Receive, Send, SetQueue
from tests.simulation.clients import Script
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
    for seed in range(8):
        counts += run(seed)
    assert counts["grown"] > 8
    assert counts["acked"] > 150
    assert counts["faults"] > 8, "nothing went wrong"


def test_who_waits_already_gets_from_a_new_partition() -> None:
    world = World(1, Plan(queues=()))
    times: dict[str, float] = {}

    def waiter() -> Script:
        while not isinstance((yield CreateQueue("plain", {}, True)), QueueInfo):
            yield 0.2
        world.clients._add("other", other())
        answer = yield Receive("plain", 1, 1 << 20, 30.0, None)
        assert isinstance(answer, Delivered)
        assert answer.parts
        times["received"] = world.now

    def other() -> Script:
        yield 2.0
        assert isinstance((yield SetQueue("plain", {"partitions": 4})), QueueInfo)
        yield 1.0
        body = world.ledger.new(PLAIN, "p", None, None).body
        producer = next(b"%d" % n for n in range(99) if choose_partition(4, b"%d" % n) == 3)
        times["sent"] = world.now
        yield Send("plain", producer, 1, 0, None, False, encode([body]).blob, spread=4)

    for host in world.hosts.values():
        host.start()
    for node in world.hosts:
        world.net.born(node)
    world.after(1.0, lambda: world.clients._add("waiter", waiter()))
    world._until(40.0, enough=lambda: "received" in times)
    assert times["received"] < times["sent"] + 1.0
