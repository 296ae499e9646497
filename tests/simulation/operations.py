"""What operators do to a queue in use: purge, delete and create it again, pause, redrive."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import cbor2

from dmqnode.messages import (
    CreateQueue,
    DeleteQueue,
    Done,
    Message,
    PurgeQueue,
    QueueInfo,
    Redrive,
    Report,
    SetQueue,
    Step,
)
from dmqnode.roster import Member
from tests.simulation.plan import QueuePlan

if TYPE_CHECKING:
    from tests.simulation.world import World

Script = Generator["Message | float", "Message | None", None]


def operator(world: World, queue: QueuePlan) -> Script:
    """Do one thing after the other to a queue, and leave it as it was: there, and not paused."""
    rng = world.rng
    while not world.calm:
        yield rng.uniform(0.5, 4.0)
        if world.calm:
            break
        match rng.choice(queue.operations):
            case "purge":
                yield from _sweep(world, "purge", queue, PurgeQueue(queue.name))
            case "delete":
                yield from _sweep(world, "delete", queue, DeleteQueue(queue.name))
                yield rng.choice((0.0, 0.01, 0.3, 1.0))
                yield from create(world, queue)
            case "pause":
                yield from _pause(world, queue)
            case "redrive":
                answer = yield Redrive(queue.settings["dead_letter"], None, rng.choice((1, 10)))
                if isinstance(answer, Done):
                    world.ledger.counts["redriven"] += answer.count
    yield from create(world, queue)
    yield from _resume(world, queue)


def create(world: World, queue: QueuePlan) -> Script:
    """Create a queue, however often that takes."""
    while not isinstance((yield CreateQueue(queue.name, queue.settings, True)), QueueInfo):
        yield 0.2


def _sweep(world: World, kind: str, queue: QueuePlan, request: Message) -> Script:
    sweep = world.ledger.fates.sweep(kind, queue.name)
    answer = yield request
    world.ledger.fates.swept(sweep, certain=isinstance(answer, Done))


def _pause(world: World, queue: QueuePlan) -> Script:
    answer = yield SetQueue(queue.name, {"paused": True})
    paused = world.ledger.fates.pause(queue.name) if isinstance(answer, QueueInfo) else None
    yield world.rng.uniform(0.5, 3.0)
    if paused is not None:
        world.ledger.fates.resume(paused)
    yield from _resume(world, queue)


def _resume(world: World, queue: QueuePlan) -> Script:
    yield from change(world, queue, {"paused": False})


def change(world: World, queue: QueuePlan, settings: dict[str, Any]) -> Script:
    """Change a queue's settings, however often that takes."""
    while not isinstance((yield SetQueue(queue.name, settings)), QueueInfo):
        yield 0.2


def weigh(world: World, member: Member) -> Script:
    """Give a member another weight, however often that takes."""
    while not isinstance((yield Step("join", cbor2.dumps(list(member)), False)), Report):
        yield 0.3
    world.ledger.counts["weighed"] += 1
