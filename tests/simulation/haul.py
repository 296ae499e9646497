"""Hours in which one node is dead, or starts again and again, while clients come and go (P8).

Each visitor is a new client with a new producer id.  It sends, receives, mostly acks, and goes, now and then
in the middle of a long poll; some make a queue and delete it.  Hour by hour it is weighed what is in memory.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from dmqnode.batch import encode
from dmqnode.messages import (
    Ack,
    CreateQueue,
    DeleteQueue,
    Delivered,
    Done,
    Failed,
    Message,
    Receive,
    Send,
    Settled,
    Stored,
)
from tests.simulation.bounds import KEPT, Around, excess
from tests.simulation.clients import Client
from tests.simulation.host import Host
from tests.simulation.memory import Walk
from tests.simulation.plan import GROUPS, PLAIN, WIDE, Plan, QueuePlan
from tests.simulation.world import World

HOURS = 3
PIECES = 4
VISITS = 0.5
"""Visitors per second."""
QUIET = 12.0
"""Seconds without visitors before it is weighed: their messages are visible again, and acked."""
RESTARTS = 6.0
"""Seconds between two starts."""
STAYS = frozenset(
    (
        "Catalog._known",
        "Catalog._named",
        "Catalog.deletions",
        "Rosters._placed",
        "Partition.closed",
        "DueTimes._near",
    )
)
"""What may grow, as dmq-internals(7) says under BOUNDS: without a bound, or up to a high one."""
SLACK = 16


class Haul(World):
    """One long run.

    Arguments:
        peer: what is wrong with one node: "dead", "restarted".
        hour: seconds.
    """

    def __init__(self, seed: int, *, peer: str, hour: float) -> None:
        super().__init__(seed, Plan(queues=(PLAIN, WIDE, GROUPS), producers=0, consumers=1))
        self.visits = 0
        self._peer = peer
        self._hour = hour
        self._open = True
        self._made = 0
        self._hours: list[list[Walk]] = []
        self._wrong: list[str] = []

    def _run(self) -> None:
        for host in self.hosts.values():
            host.start()
        for node in self.hosts:
            self.net.born(node)
        self.after(0.8, self.clients.start)
        self._until(3.0)
        self._disturb(list(self.hosts.values())[-1])
        self.after(0.1, self._visit)
        for hour in range(1, HOURS + 1):
            self._open = True
            for piece in range(1, PIECES + 1):
                self.events = 0  # in each piece no more may happen than in a world of its length
                self._until(3.0 + (hour - 1 + piece / PIECES) * self._hour)
            self._open = False
            self._until(self.now + QUIET)
            self._look()

    def _disturb(self, host: Host) -> None:
        if self._peer == "dead":
            host.die("kill", back=1e9)
            return
        if self._open and host.up:
            host.die("kill", back=0.5)
        self.after(RESTARTS, lambda: self._disturb(host))

    def _look(self) -> None:
        """Weigh what is in memory."""
        up = [host for host in self.hosts.values() if host.up]
        queues, made = len(self.plan.queues), self._made
        around = Around(len(self.hosts), queues + made, 6 + made, busy=self.clients.count)
        for host in up:
            self._wrong += [f"{host.name}: {w}" for w in excess(host.broker, around, rest=False)]
        self._hours.append([Walk().look(host.broker) for host in up])

    def grown(self) -> list[str]:
        """Return what was too much after an hour, or more after the last than after the first."""
        first, last = (self._most(n) for n in (0, -1))
        grown = [
            f"{name} holds {entries}, {first.get(name, 0)} after the first hour"
            for name, entries in last.items()
            if name not in STAYS and entries > 1.5 * first.get(name, 0) + SLACK
        ]
        return self._wrong + grown

    def _most(self, hour: int) -> dict[str, int]:
        walks = self._hours[hour]
        return {name: max(w.entries[name] for w in walks) for walk in walks for name in walk.entries}

    # --- visitors ------------------------------------------------------------------------------------

    def _visit(self) -> None:
        if self._open:
            self.visits += 1
            name = f"v{self.visits}"
            client = Client(self, name, iter(()))  # type: ignore[arg-type]
            client._script = self._visitor(self.visits, client)
            self.clients.add(client)
        self.after(self.rng.expovariate(VISITS), self._visit)

    def _visitor(self, number: int, client: Client) -> Generator[Any, Any, None]:
        if self.rng.random() < 0.1:
            yield from self._make(f"made{number}")
            return
        queue = self.plan.queues[number % len(self.plan.queues)]
        producer = self.rng.randbytes(16)
        for sequence in range(1, self.rng.choice((2, 4))):
            yield from self._send(queue, producer, sequence)
        answer = yield Receive(queue.name, 10, 1 << 20, self.rng.choice((0.0, 1.0)), 2.0)
        if isinstance(answer, Delivered) and answer.parts and self.rng.random() < 0.8:
            yield from self._ack(answer)
        if self.rng.random() < 0.3:
            self.after(0.3, lambda: self._vanish(client))
            yield Receive(queue.name, 10, 1 << 20, 30.0, 2.0)

    def _vanish(self, client: Client) -> None:
        client.over = True
        client._hang_up()

    def _make(self, name: str) -> Generator[Message, Any, None]:
        self._made += 1
        yield CreateQueue(name, {"partitions": 1}, True)
        gone = False
        while not gone:
            answer = yield DeleteQueue(name)
            # It may be that the answer to the first attempt was lost, or that the queue was never created.
            gone = isinstance(answer, Done) or (
                isinstance(answer, Failed) and answer.code == "queue-not-found"
            )

    def _send(self, queue: QueuePlan, producer: bytes, sequence: int) -> Generator[Message, Any, None]:
        sent = [self.ledger.new(queue, producer.hex(), None, None) for _ in range(2)]
        self.ledger.attempted(sent)
        batch = encode([m.body for m in sent], {}).blob
        answer = yield Send(queue.name, producer, sequence, sequence, None, False, batch, spread=0)
        if isinstance(answer, Stored):
            self.ledger.stored(sent, answer.runs)
        else:
            self.ledger.unknown(sent)

    def _ack(self, answer: Delivered) -> Generator[Message, Any, None]:
        parts = answer.parts
        self.ledger.acking(parts)
        settled = yield Ack([(p.partition, p.delivery, p.log, p.first, p.count) for p in parts], False)
        if isinstance(settled, Settled):
            failed = {n for n, _, _ in settled.failed}
            self.ledger.acked([p for n, p in enumerate(parts) if n not in failed])


assert KEPT.keys() >= STAYS
