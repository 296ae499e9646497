"""A broker in a world without sockets, disks or time: everything happens when the test says so.

The disk is `MemoryStore`; reads and writes are performed at once, or one by one for tests that crash
between them.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmqnode.batch import encode, parse
from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.config import NodeConfig
from dmqnode.disk import look, perform_read
from dmqnode.ids import NodeId
from dmqnode.keys import IDENTITY
from dmqnode.messages import (
    Ack,
    Browse,
    Browsed,
    CreateQueue,
    Delivered,
    Extend,
    GetQueue,
    Hello,
    Message,
    Nack,
    QueueInfo,
    Receive,
    Send,
    Stored,
)
from dmqnode.partition import Partition
from dmqnode.pending import Pending
from dmqnode.records import Identity, decode_identity, encode_identity
from storage.memory import MemoryStore
from storage.ops import WriteBatch

WALL = 1_700_000_000_000
"""The wall clock at running time 0."""


@dataclass(frozen=True)
class Got:
    """One message as a consumer has it."""

    id: tuple[bytes, int]
    body: bytes
    attempt: int
    attributes: dict[str, str]
    held: tuple[Any, ...]


class PowerCutError(Exception):
    """The power goes at the write that a test chose."""


class World:
    """One node: its broker, its disk, its clock, and one client."""

    def __init__(self, store: MemoryStore | None = None, *, time: float = 1000.0, **config: Any) -> None:
        self.store = store or MemoryStore()
        self.time = time
        self.config = NodeConfig(data=Path("/nowhere"), name="n", **config)
        self.replies: dict[int, Message] = {}
        self._numbers = 0
        self.sequence = 0
        self.hold_writes = False
        self.pending: Pending | None = None
        self.writes = 0
        """Write groups so far."""
        self.cut: tuple[int, bool] | None = None
        """At which write group the power goes, and whether that group is on disk then."""
        self._start()

    def _start(self) -> None:
        # Two runs of one test must be equal: what is random about an identity is not random here.
        record = self.store.get(IDENTITY)
        boot = 0 if record is None else decode_identity(record)[0].boot
        identity = Identity(NodeId(b"testnode"), boot + 1, 7)
        ops = WriteBatch()
        ops.put(IDENTITY, encode_identity(identity, b"cluster"))
        self.store.write(ops, sync=True)
        self.broker = Broker(self.config, identity, self.now())
        self.broker.registry.load(self.now())
        self.run()
        self.session = self.broker.open_session(Hello(1, 1, "client", "user", [], 1 << 24))

    def now(self) -> Now:
        """Return the world's time."""
        return Now(self.time, WALL + round(self.time * 1000))

    # --- turning the crank -----------------------------------------------------------------------------

    def run(self) -> None:
        """Perform everything that the broker wants, until it wants nothing."""
        while self.step():
            pass

    def step(self) -> bool:
        """Perform one thing; tell whether there was one."""
        broker = self.broker
        for reply in broker.take_replies():
            self.replies[reply.number] = reply.message
        wanted = broker.reads.take_wanted()
        if wanted:
            for number, read in wanted:
                broker.read_done(self.now(), number, perform_read(self.store, read))
            return True
        due = broker.deadlines.next() if self.hold_writes else broker.next_deadline()
        if due <= self.time:
            broker.tick(self.now())
            return True
        if not self.hold_writes and self.pending is None:
            self.pending = broker.collect(self.now())
            if self.pending is not None:
                self.write()
                return True
        return False

    def write(self) -> None:
        """Write the group that was collected, and say that it is on disk."""
        pending, self.pending = self.pending, None
        assert pending is not None
        self.writes += 1
        if self.cut == (self.writes, False):
            raise self._cut_power()
        self.store.write(pending.batch, sync=pending.sync)
        look(self.store, pending)
        if self.cut == (self.writes, True):
            raise self._cut_power()
        self.broker.written(self.now(), pending)

    def _cut_power(self) -> PowerCutError:
        self.cut = None
        return PowerCutError()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and everything that is due happen when it is due."""
        end = self.time + seconds
        while self.time < end:
            self.time = min(end, max(self.time + 1e-6, self.broker.next_deadline()))
            self.run()

    def crash(self, rng: random.Random | None = None) -> None:
        """Lose everything that was not synced (all of it, or as `rng` has it) and start again."""
        self.store = self.store.crash(rng)
        self.pending = None
        self.replies.clear()
        self._start()

    def restart(self) -> None:
        """Stop as the node stops, and start again."""
        self.broker.stop(self.now())
        self.run()
        self.crash()

    # --- a client --------------------------------------------------------------------------------------

    def request(self, message: Message, number: int | None = None) -> int:
        """Send a request (under a number of its own by default); return its number."""
        if number is None:
            self._numbers += 1
            number = self._numbers
        self.broker.receive(self.now(), self.session, number, message)
        return number

    def ask(self, message: Message, number: int | None = None) -> Message | None:
        """Send a request and let everything happen that it sets off; return its answer, if it came."""
        number = self.request(message, number)
        self.run()
        return self.replies.pop(number, None)

    def create(self, queue: str = "q", **settings: Any) -> Message | None:
        return self.ask(CreateQueue(queue, settings, False))

    def send_request(
        self,
        bodies: list[bytes],
        queue: str = "q",
        *,
        delay: float | None = None,
        create: bool = False,
        sequence: int | None = None,
        floor: int = 0,
        producer: bytes = b"producer-0123456",
        **columns: Any,
    ) -> Send:
        """Make a Send; columns (a, g, t, d) are (common, {index: special}) or a common value."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        metadata = {k: v if isinstance(v, tuple) else (v, {}) for k, v in columns.items()}
        blob = encode(bodies, metadata).blob
        return Send(queue, producer, sequence, floor, delay, create, blob)

    def send(self, *bodies: bytes, queue: str = "q", **options: Any) -> list[tuple[bytes, int]]:
        """Send and return the ids; the send must succeed."""
        answer = self.ask(self.send_request(list(bodies), queue, **options))
        assert isinstance(answer, Stored), answer
        return [(log, first + n) for log, first, count in answer.runs for n in range(count)]

    def receive(
        self, limit: int = 10, queue: str = "q", *, wait: float = 0.0, visibility: float | None = None
    ) -> list[Got]:
        """Receive; the answer must come without time passing."""
        answer = self.ask(Receive(queue, limit, 1 << 20, wait, visibility))
        assert isinstance(answer, Delivered), answer
        return got(answer)

    def bodies(self, limit: int = 10, queue: str = "q", **options: Any) -> list[bytes]:
        return [g.body for g in self.receive(limit, queue, **options)]

    def ack(self, messages: list[Got], *, again: bool = False) -> Message | None:
        return self.ask(Ack([g.held for g in messages], again))  # type: ignore[misc]

    def nack(self, messages: list[Got], delay: float = 0.0, *, dead_letter: bool = False) -> Message | None:
        return self.ask(Nack([g.held for g in messages], delay, dead_letter, "why"))  # type: ignore[misc]

    def extend(self, messages: list[Got], visibility: float) -> Message | None:
        return self.ask(Extend([g.held for g in messages], visibility))  # type: ignore[misc]

    def living(self, queue: str = "q", *states: str) -> list[tuple[tuple[bytes, int], bytes]]:
        """Return (id, body) of every message of a queue, in the order of browsing."""
        found = []
        for state in states or ("ready", "in-flight", "delayed"):
            cursor = None
            while True:
                answer = self.ask(Browse(queue, state, 3, 1 << 20, cursor))
                assert isinstance(answer, Browsed), answer
                found += [(m.id, m.body) for m in got(answer)]
                cursor = answer.cursor
                if cursor is None:
                    break
        return found

    def info(self, queue: str = "q") -> dict[str, Any]:
        answer = self.ask(GetQueue(queue))
        assert isinstance(answer, QueueInfo), answer
        return answer.info

    def figures(self, queue: str = "q") -> tuple[int, int, int]:
        """Return how many messages are ready, delayed, in flight."""
        info = self.info(queue)
        return info["ready"], info["delayed"], info["in_flight"]

    def partition(self, queue: str = "q", index: int = 0) -> Partition:
        return self.broker.registry.queues[queue].partitions[index]

    def on_disk(self, queue: str = "q") -> list[bytes]:
        """Return the keys of a queue's batches, and of its index of what is due."""
        return [
            row.key
            for partition in self.broker.registry.queues[queue].partitions
            for low, high in (partition.keys.batches(), partition.keys.due_range(0))
            for row in self.store.scan(low, high, limit=100_000).rows
            if not row.key.endswith(b"\xff" * 8)
        ]

    @property
    def next_deadline(self) -> float:
        due = self.broker.next_deadline()
        return due if due < math.inf else self.time


def got(delivered: Delivered | Browsed) -> list[Got]:
    """Return the messages of an answer one by one."""
    out = []
    for part in delivered.parts:
        batch = parse(part.batch)
        assert batch.count == part.count
        for i, body in enumerate(batch.bodies()):
            held = (part.partition, part.delivery, part.log, part.first + i, 1)
            out.append(Got((part.log, part.first + i), body, part.attempt, batch.attributes(i), held))
    return out
