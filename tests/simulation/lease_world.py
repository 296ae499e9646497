"""A world of five nodes that hold leases: the real cores, a heap of events, and one seed for everything.

Each node has `Grants` and `Leases` over a disk that loses what was not written yet, three clocks that can be
wrong, and a stand-in for the rest of a node: per partition a set of acks, which the leader replicates, and
merges when it takes over.  The world knows everything, and says at every event whether a promise is broken:

    two leases     two nodes hold a lease of one partition at one instant
    lost ack       a leader serves, or answers, without an ack that was answered before
    same number    two leases of one partition have one number
    forgotten      a node's promise on disk goes back, or is gone
    stale write    a home takes a write in the name of a lease that is over, after it was merged under a later
    stuck          faults have stopped, and nobody serves

It stops at the first.  The one thing that it does not do is to set a node's wall clock back in the very
moment in which its other two stand still: then all three would be wrong, which no node can find out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, NamedTuple

from dmqnode.grants import LEASE, Promise
from dmqnode.homesets import HomeSet
from dmqnode.ids import NodeId, PartitionId
from dmqnode.peer_messages import Message
from tests.simulation.lease_node import PARTITIONS, Host

NODES = 5
HEAL_WITHIN = 12.0
"""Seconds after the last fault within which every partition is served and has answered an ack."""


class Broken(Exception):
    """A promise was broken; the first word of the text says which."""


class Plan(NamedTuple):
    """How often what happens.  Rates are per second and node, the others chances."""

    crash: float = 0.0
    boundary: float = 0.0
    """Chance of a crash between two effects."""
    cut: float = 0.0
    one_way: float = 0.0
    pause: float = 0.0
    step: float = 0.0
    loss: float = 0.0
    twice: float = 0.0
    slow: float = 0.0
    """Chance that a message takes seconds."""
    drift: float = 0.0
    move: float = 0.3
    """Chance per tick that a leader changes the home set."""
    claim: float = 0.1
    """Chance per tick that a node wants a partition, whoever leads."""
    release: float = 0.01
    homes: int = 3
    seconds: float = 14.0


FAULTS: tuple[dict[str, float], ...] = (
    {"crash": 0.25},
    {"boundary": 0.01},
    {"cut": 0.4},
    {"one_way": 0.5},
    {"pause": 0.15, "drift": 0.009},
    {"step": 0.3, "drift": 0.009},
    {"loss": 0.08, "twice": 0.05},
    {"slow": 0.05, "twice": 0.05},
)


def draw_plan(rng: random.Random) -> Plan:
    """Few kinds of faults at a time, so that they meet."""
    values: dict[str, Any] = {"move": rng.choice((0.0, 0.05, 0.3)), "claim": rng.choice((0.02, 0.1, 0.4))}
    for fault in rng.sample(FAULTS, rng.choice((1, 2, 2, 3))):
        values.update(fault)
    values["homes"] = rng.choice((1, 2, 3, 3, 3, 4, 5))
    return Plan(**values)


class World:
    """One run.

    Arguments:
        seed: of everything.
        plan: what happens; None draws it from the seed.
    """

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.rng = random.Random(seed)
        self.plan = draw_plan(self.rng) if plan is None else plan
        self.now = 0.0
        self.faults = True
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.answered: dict[PartitionId, set[int]] = {p: set() for p in PARTITIONS}
        self.numbers: set[tuple[PartitionId, int, bytes]] = set()
        self.log: list[tuple[Any, ...]] = []
        self.counts = {"served": 0, "commits": 0, "answered": 0, "crashes": 0}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._next_ack = 0
        ids = [NodeId(bytes([n]) * 8) for n in range(1, NODES + 1)]
        self.first = {p: HomeSet.first(self.rng.sample(ids, self.plan.homes)) for p in PARTITIONS}
        self.hosts = {n: Host(self, n, self.rng.uniform(-1, 1) * self.plan.drift) for n in ids}

    # --- events --------------------------------------------------------------------------------------

    def after(self, delay: float, act: Callable[[], None]) -> None:
        """Call `act` in `delay` seconds."""
        self._order += 1
        heappush(self._heap, (self.now + delay, self._order, act))

    def note(self, *what: Any) -> None:
        """Write a line of the trace."""
        self.log.append((round(self.now, 4), *what))

    def run(self) -> None:
        """Run to the end.  Errors: Broken."""
        for host in self.hosts.values():
            host.start()
        for host in self.hosts.values():
            self._fault(host, self.plan.crash, self._crash)
            self._fault(host, self.plan.cut, self._cut)
            self._fault(host, self.plan.one_way, self._cut_one_way)
            self._fault(host, self.plan.pause, self._pause)
            self._fault(host, self.plan.step, Host.step_wall)
        self.after(self.plan.seconds, self._heal)
        self._until(self.plan.seconds)
        self._until(self.plan.seconds + HEAL_WITHIN, enough=self._healthy)
        if not self._healthy():
            raise Broken("stuck: faults have stopped, and a partition is not served")

    def _until(self, end: float, enough: Callable[[], bool] = lambda: False) -> None:
        while self._heap and self._heap[0][0] <= end and not enough():
            self.now, _, act = heappop(self._heap)
            act()
            self._look()

    def _fault(self, host: Host, rate: float, act: Callable[[Host], None]) -> None:
        if rate:

            def happen() -> None:
                if self.faults:
                    act(host)
                    self._fault(host, rate, act)

            self.after(self.rng.expovariate(rate), happen)

    def _crash(self, host: Host) -> None:
        if host.up:
            host.crash()
            # Now and then two fall at once, and now and then one is back at once.
            if self.rng.random() < 0.2:
                self.after(0.0, lambda: self._crash(self.rng.choice(list(self.hosts.values()))))

    def _cut(self, host: Host) -> None:
        others = [n for n in self.hosts if n != host.me]
        side = {host.me, *self.rng.sample(others, self.rng.choice((0, 0, 1, 1, 2)))}
        self._cut_links({(a, b) for a in self.hosts for b in self.hosts if (a in side) != (b in side)})

    def _cut_one_way(self, host: Host) -> None:
        peers = self.rng.sample([n for n in self.hosts if n != host.me], self.rng.choice((1, 2, 4)))
        out = self.rng.random() < 0.5
        self._cut_links({(host.me, n) if out else (n, host.me) for n in peers})

    def _cut_links(self, links: set[tuple[NodeId, NodeId]]) -> None:
        self.cuts |= links
        self.note("cut", *sorted((a[0], b[0]) for a, b in links))
        self.after(self.rng.choice((0.3, 1.0, 3.0, 6.0)), lambda: self.cuts.difference_update(links))

    def _pause(self, host: Host) -> None:
        if host.up and not host.paused:
            host.pause(self.rng.choice(("stop", "sleep", "virtual")))
            self.after(self.rng.choice((0.3, 1.0, 2.5, 5.0)), host.resume)

    def _heal(self) -> None:
        self.faults = False
        self.plan = Plan(claim=0.3, move=0.0, release=0.0)
        self.cuts.clear()
        self.note("healed")
        for host in self.hosts.values():
            host.resume()
            if not host.up:
                host.start()
        for partition in PARTITIONS:
            self.counts[f"before {partition[0]}"] = len(self.answered[partition])

    def _healthy(self) -> bool:
        return not self.faults and all(
            len(self.answered[p]) > self.counts[f"before {p[0]}"]
            and any(h.serves(p) for h in self.hosts.values())
            for p in PARTITIONS
        )

    # --- the network ---------------------------------------------------------------------------------

    def send(self, sender: NodeId, receiver: NodeId, message: Message | tuple[Any, ...]) -> None:
        """Carry a message: to oneself at once and surely, to others as the plan has it."""
        if sender == receiver:
            life = self.hosts[sender].life
            self.after(0.0, lambda: self._deliver(sender, receiver, message, life))
            return
        copies = 1
        if self.faults:
            if self.rng.random() < self.plan.loss:
                return
            copies += self.rng.random() < self.plan.twice
        for _ in range(copies):
            delay = self.rng.expovariate(200.0)
            if self.faults and self.rng.random() < self.plan.slow:
                delay = self.rng.uniform(0.1, 2 * LEASE)
            self.after(delay, lambda: self._deliver(sender, receiver, message, None))

    def _deliver(self, sender: NodeId, receiver: NodeId, message: Any, life: int | None) -> None:
        host = self.hosts[receiver]
        if (sender, receiver) in self.cuts or not host.up or life not in (None, host.life):
            return
        if host.paused:
            host.missed.append((sender, message))
        else:
            host.receive(sender, message)

    # --- the judge -----------------------------------------------------------------------------------

    def new_ack(self) -> int:
        """Name an ack."""
        self._next_ack += 1
        return self._next_ack

    def acquired(self, host: Host, partition: PartitionId, number: Any) -> None:
        """A node took a lease."""
        self.note("lease", host.me[0], partition[0], number.n)
        if (partition, *number) in self.numbers:
            raise Broken(f"same number: {number.n} of {number.node[0]} was used before")
        self.numbers.add((partition, *number))

    def served(self, host: Host, partition: PartitionId) -> None:
        """A node begins to serve."""
        self.counts["served"] += 1
        missing = self.answered[partition] - host.acks[partition]
        if missing:
            raise Broken(f"lost ack: {host.me[0]} serves {partition[0]} without {sorted(missing)[:3]}")

    def answer(self, host: Host, partition: PartitionId, ack: int) -> None:
        """A node answers an ack."""
        self.counts["answered"] += 1
        self.answered[partition].add(ack)
        for other in self.hosts.values():
            if other.serves(partition) and ack not in other.acks[partition]:
                raise Broken(f"lost ack: {other.me[0]} serves {partition[0]} without {ack}")

    def check_promise(self, host: Host, before: Promise, after: Promise | None) -> None:
        """A node wrote a promise over an earlier one."""
        if after is None or after.highest < before.highest or before.record.age > after.record.age:
            raise Broken(f"forgotten: {host.me[0]} has gone back on what it promised")

    def stale_write(self, host: Host, partition: PartitionId) -> None:
        """A node took a write of a lease that was over."""
        raise Broken(f"stale write: {host.me[0]} took one for {partition[0]}")

    def _look(self) -> None:
        for partition in PARTITIONS:
            holders = [h for h in self.hosts.values() if h.up and h.holds(partition)]
            if len(holders) > 1:
                raise Broken(f"two leases: {[h.me[0] for h in holders]} hold {partition[0]}")
