"""What clients do: scripts of producers and consumers, well and badly behaved ones."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from dmqnode.batch import encode
from dmqnode.messages import (
    Ack,
    CreateQueue,
    Delivered,
    Extend,
    Failed,
    Message,
    Nack,
    Part,
    QueueInfo,
    Receive,
    Send,
    SetQueue,
    Settled,
    Stored,
)
from tests.simulation.plan import QueuePlan

if TYPE_CHECKING:
    from tests.simulation.ledger import Sent
    from tests.simulation.world import World

Script = Generator["Message | float", "Message | None", None]
TRIES = 8
"""How often a client acks before it gives up."""
GROUPS = ("red", "green", "blue")


def opener(world: World, then: Callable[[], None]) -> Script:
    """Create the queues, however often that takes."""
    for queue in world.plan.queues:
        while True:
            answer = yield CreateQueue(queue.name, queue.settings, True)
            if isinstance(answer, QueueInfo):
                break
            yield 0.2
    then()


def producer(world: World, queue: QueuePlan, name: str) -> Script:
    """Send batches one after the other, each again and again until its outcome is known or it gives up."""
    rng, ledger = world.rng, world.ledger
    id_ = name.encode().ljust(16, b".")
    sequence = floor = spread = 0
    while not world.calm:
        yield rng.expovariate(4.0)
        count = rng.choice((1, 1, 2, 5))
        delay = rng.choice((None, 0.5, 2.0)) if queue.delays else None
        group = rng.choice(GROUPS) if queue.grouped and rng.random() < 0.8 else None
        sequence += 1
        sent = [ledger.new(queue, name, group, delay) for _ in range(count)]
        metadata: dict[str, Any] = {} if group is None else {"g": (group, {})}
        if rng.random() < 0.3:
            metadata["a"] = ({"k": str(sequence)}, {})
            for message in sent:
                message.attributes = {"k": str(sequence)}
        if queue.expires and rng.random() < 0.5:
            ttl = rng.choice((0.3, 1.5, 6.0))
            metadata["t"] = (round(ttl * 1000), {})
            for message in sent:
                message.ttl = ttl
        if queue.named:
            metadata["d"] = (None, {n: f"message {message.number}" for n, message in enumerate(sent)})
        blob = encode([m.body for m in sent], metadata).blob
        request = Send(queue.name, id_, sequence, floor, delay, False, blob, spread=spread)
        spread = (yield from _send(world, request, sent)) or spread
        floor = sequence + 1
        if queue.named and sent[0].outcome == "stored" and rng.random() < 0.5:
            sequence += 1
            again = Send(queue.name, id_, sequence, floor, delay, False, blob, spread=spread)
            yield from _send_again(world, again, sent)
            floor = sequence + 1


def grower(world: World, queue: QueuePlan) -> Script:
    """Give a queue more partitions now and then, each time until it has them."""
    for count in queue.grows:
        yield world.rng.uniform(0.5, 4.0)
        while True:
            answer = yield SetQueue(queue.name, {"partitions": count})
            if isinstance(answer, QueueInfo):
                world.ledger.counts["grown"] += 1
                break
            if isinstance(answer, Failed) and not answer.retryable:
                break  # it has more already: a request whose answer was lost comes late
            yield 0.2


def _send(world: World, request: Send, sent: list[Sent]) -> Generator[Message | float, Message | None, int]:
    """Send until the outcome is known; return over what to spread further sends, 0 if that is not told."""
    ledger, unknown = world.ledger, False
    for attempt in range(world.plan.tries):
        ledger.attempted(sent)
        answer = yield request
        if isinstance(answer, Stored):
            ledger.stored(sent, answer.runs)
            return answer.spread
        if isinstance(answer, Failed) and answer.stored == "no":
            if not answer.retryable:
                break
        else:
            unknown = True
        yield world.rng.uniform(0.05, 0.3) * (attempt + 1)
        # Whoever gives up does not know more by trying on in a calm world.
    if unknown:
        ledger.unknown(sent)
    else:
        ledger.not_stored(sent)
    return 0


def _send_again(world: World, request: Send, sent: list[Sent]) -> Script:
    """Send under another sequence what has dedup ids, and is stored: nothing new comes of it."""
    for _ in range(world.plan.tries):
        answer = yield request
        if isinstance(answer, Stored):
            world.ledger.stored(sent, answer.runs)
            world.ledger.counts["sent again"] += 1
        if isinstance(answer, Stored | Failed):
            return
        yield 0.2


def consumer(world: World, queue: QueuePlan, *, whole: bool) -> Script:
    """Receive and settle; with `whole` nothing but that, else also late, partly, twice, or not at all."""
    rng, ledger = world.rng, world.ledger
    while True:
        wait = rng.choice((0.0, 0.5, 2.0))
        most = rng.choice((1, 3, 10))
        visibility = None if rng.random() < 0.8 else 2.0
        answer = yield Receive(queue.name, most, 1 << 20, wait, visibility)
        if not isinstance(answer, Delivered):
            yield rng.uniform(0.05, 0.3)
            continue
        if not answer.parts:
            yield 0.02 if wait else 0.1
            continue
        ledger.received(answer)
        if whole or world.calm:
            yield from ack(world, answer.parts)
        else:
            yield from _misuse(world, queue, answer)


def _misuse(world: World, queue: QueuePlan, answer: Delivered) -> Script:
    rng = world.rng
    parts = list(answer.parts)
    if "dead_letter" in queue.settings and rng.random() < 0.5:
        yield from _nack(world, parts, bury=rng.random() < 0.3)
        return
    dice = rng.random()
    if dice < 0.06:  # forgets them
        return
    if dice < 0.12:  # comes too late
        yield answer.visibility + rng.uniform(0.0, 0.5)
    elif dice < 0.3:
        yield rng.uniform(0.0, 0.7 * answer.visibility)
    elif dice < 0.36:
        yield from _extend(world, parts, answer.visibility)
        yield rng.uniform(0.0, answer.visibility)
    if rng.random() < 0.15:
        back, parts = parts[:1], parts[1:]
        yield from _nack(world, back)
    if parts:
        yield from ack(world, parts)


def _held(part: Part) -> Any:
    return (part.partition, part.delivery, part.log, part.first, part.count)


def ack(world: World, parts: list[Part]) -> Script:
    again = False
    world.ledger.acking(parts)
    for _ in range(TRIES):
        answer = yield Ack([_held(p) for p in parts], again)
        if isinstance(answer, Settled):
            failed = {n: code for n, code, _ in answer.failed}
            world.ledger.acked([p for n, p in enumerate(parts) if n not in failed])
            parts = [
                p for n, p in enumerate(parts) if failed.get(n) in ("unavailable", "unknown", "stopping")
            ]
            if not parts:
                return
        again = True
        yield world.rng.uniform(0.05, 0.3)


def _nack(world: World, parts: list[Part], *, bury: bool = False) -> Script:
    asked = world.now
    delay = 0.0 if bury else world.rng.choice((0.0, 0.0, 1.0))
    if bury:
        world.ledger.burying(parts)
    else:
        world.ledger.nacking(parts, delay)
    answer = yield Nack([_held(p) for p in parts], delay, bury, "not today")
    if isinstance(answer, Settled):
        failed = {n for n, _, _ in answer.failed}
        world.ledger.nacked([p for n, p in enumerate(parts) if n not in failed], asked)


def _extend(world: World, parts: list[Part], seconds: float) -> Script:
    asked = world.now
    world.ledger.extending(parts, seconds)
    answer = yield Extend([_held(p) for p in parts], seconds)
    if isinstance(answer, Settled):
        failed = {n for n, _, _ in answer.failed}
        world.ledger.extended([p for n, p in enumerate(parts) if n not in failed], asked + seconds)
