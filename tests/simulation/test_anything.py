"""Whatever clients ask of a cluster, in whatever order: each gets an answer, and none ends a node."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dmqnode.messages import Delivered, Message, Part
from tests.dmqnode.anything import draw
from tests.simulation.clients import Client, Script
from tests.simulation.plan import Plan
from tests.simulation.world import World

CLIENTS = 5
REQUESTS = 40


def anybody(rng: random.Random, number: int, counts: Counter[str]) -> Script:
    """Ask for anything, and settle what comes."""
    held: list[tuple[object, ...]] = []
    for n in range(REQUESTS):
        message = draw(rng, held, REQUESTS * number + n)
        answer: Message | None = yield message
        assert answer is not None, f"no answer to {message}"
        counts[type(answer).__name__] += 1
        if isinstance(answer, Delivered):
            held += [_held(part) for part in answer.parts]
        if rng.random() < 0.5:
            yield rng.choice((0.001, 0.05, 0.6))


def _held(part: Part) -> tuple[object, ...]:
    return (part.partition, part.delivery, part.log, part.first, part.count)


@pytest.mark.share(1 / 30, few=5)
def test_every_request_is_answered_and_none_ends_a_node(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(seed)
        world = World(seed, Plan(nodes=rng.choice((2, 3, 4)), queues=(), producers=0, consumers=0))
        world.ledger.watch = lambda host: None  # type: ignore[method-assign]
        clients = [Client(world, f"c{n}", anybody(rng, n, counts)) for n in range(CLIENTS)]
        for host in world.hosts.values():
            host.start()
        for node in world.hosts:
            world.net.born(node)
        for client in clients:
            world.after(1.0, client.go_on)
        try:
            world._until(400.0, enough=lambda: all(c.over for c in clients))  # noqa: B023
            assert all(c.over for c in clients), [c.name for c in clients if not c.over]
        except Exception as error:
            error.add_note(f"seed {seed}, at {world.now:.3f}")
            raise
    assert min(counts[n] for n in ("Stored", "Delivered", "Settled", "QueueInfo", "Done")) > len(seeds)
