"""A queue created on both sides of a split is one queue after it, and each message comes once (T3)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dmqnode.batch import parse
from dmqnode.merging import Merging
from dmqnode.messages import CreateQueue, Delivered, Part, QueueInfo
from tests.simulation.clients import Client, Script
from tests.simulation.host import Host
from tests.simulation.ledger import Ledger, Sent
from tests.simulation.plan import Plan, QueuePlan
from tests.simulation.workload import consumer, producer
from tests.simulation.world import World

QUEUES = (
    (QueuePlan("plain", {"visibility": 4.0}), {}),
    (QueuePlan("wide", {"visibility": 4.0, "partitions": 3}), {"partitions": 1}),
    (QueuePlan("narrow", {"visibility": 4.0}), {"partitions": 4}),
    (QueuePlan("late", {"visibility": 4.0}, delays=True), {"partitions": 2}),
    (QueuePlan("fifo", {"visibility": 3.0, "ordering": "fifo"}, grouped=True), {}),
)
"""A queue as one side creates it, and what the other has otherwise."""


class Tally(Ledger):
    """Counts how often each message comes: moving gives it another id."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.times: Counter[int] = Counter()
        self.came: list[Sent] = []
        # What is moved is elsewhere, and what was acked there is not known here.
        self.disks.dropped = lambda host, partition, numbers: None  # type: ignore[method-assign]

    def watch(self, host: Host) -> None:
        """Moves look like deliveries here."""

    def received(self, delivered: Delivered) -> None:
        super().received(delivered)
        for part in delivered.parts:
            batch = parse(part.batch)
            for n in range(part.count):
                message = self._message(batch, n)
                assert batch.attributes(n) == message.attributes
                assert batch.value("g", n) == message.group
                self.times[message.number] += 1
                self.came.append(message)

    def acked(self, parts: list[Part]) -> None:
        self.counts["acked"] += sum(p.count for p in parts)

    def _left(self) -> list[Sent]:
        return [m for m in self.messages if m.outcome == "stored" and not self.times[m.number]]


class Split(World):
    """Two sides that do not hear of each other, a client of each, and then one cluster."""

    def __init__(self, seed: int, *, faults: tuple[str, ...] = (), early: bool = False) -> None:
        self.queue, self.other = QUEUES[seed % len(QUEUES)]
        super().__init__(seed, Plan(nodes=4 + seed % 2, queues=(self.queue,), faults=faults, seconds=12.0))
        self.ledger: Tally = Tally(self)
        nodes = list(self.hosts)
        self.sides = (set(nodes[:2]), set(nodes[2:]))
        self._early = early
        self.healed = 8.0 + self.rng.uniform(0.0, 2.0)

    def _run(self) -> None:
        links = [
            (a, b) for a in self.hosts for b in self.hosts if (a in self.sides[0]) != (b in self.sides[0])
        ]
        self.at(0.1, lambda: self.net.block(links, self.healed))
        # By then each side knows that it is alone.
        self.after(5.0, self._begin)
        self.clients.start = lambda: None  # type: ignore[method-assign]
        super()._run()

    def _begin(self) -> None:
        for n in (0, 1):
            self._add(n, f"opener{n}", self._opener(n))

    def _add(self, side: int, name: str, script: Script) -> None:
        client = Client(self, name, script)
        client.near = lambda host: host.me in self.sides[side]
        self.clients.add(client)

    def _opener(self, side: int) -> Script:
        settings = {**self.queue.settings, **(self.other if side else {})}
        while True:
            answer = yield CreateQueue(self.queue.name, settings, True)
            if isinstance(answer, QueueInfo):
                break
            yield 0.2
        for n in (0, 1):
            self._add(side, f"p{side}{n}", producer(self, self.queue, f"p{side}{n}"))
        if self._early:
            self._add(side, f"c{side}", consumer(self, self.queue, whole=True))


def run(seed: int, **options: Any) -> Split:
    world = Split(seed, **options)
    world.run()
    names = {h.broker.registry.queues[world.queue.name].definition.id for h in world.hosts.values()}
    assert len(names) == 1
    assert all(len(h.broker.registry.every()) == 2 for h in world.hosts.values()), "nobody else created it"
    counts = {
        h.broker.registry.queues[world.queue.name].definition.settings.partitions
        for h in world.hosts.values()
    }
    assert counts == {max(world.queue.settings.get("partitions", 1), world.other.get("partitions", 1))}
    return world


@pytest.mark.parametrize("seed", range(10))
def test_every_message_comes_once(seed: int) -> None:
    world = run(seed)
    unknown = {m.number for m in world.ledger.messages if m.outcome != "stored"}
    stored = {m.number for m in world.ledger.messages if m.outcome == "stored"}
    assert set(world.ledger.times) - unknown == stored
    assert max(world.ledger.times.values()) == 1
    assert {m.producer[:2] for m in world.ledger.messages if m.outcome == "stored"} == {"p0", "p1"}
    by_producer: dict[tuple[str, str | None], list[int]] = {}
    for message in world.ledger.came if world.queue.name == "fifo" else ():
        if message.at > world.healed:
            continue  # it went to the other queue, ahead of those that were to be moved there
        by_producer.setdefault((message.producer, message.group), []).append(message.number)
    assert all(numbers == sorted(numbers) for numbers in by_producer.values())


def test_nothing_is_lost_when_more_goes_wrong() -> None:
    faults = 0
    for seed in range(100, 106):
        faults += run(seed, faults=("kill", "reset", "power"), early=True).ledger.counts["faults"]
    assert faults > 5, "nothing went wrong"


def test_the_test_sees_it_when_the_queue_that_gives_way_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Merging, "move", lambda self, now, partition: None)
    with pytest.raises(Exception, match="never came out"):
        run(0)
