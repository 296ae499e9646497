"""Whatever clients ask for, in whatever order, while reads and writes are under way: each gets an answer.

What a client can ask for must never end a node.  Requests meet here in the middle of one another: a queue is
deleted while it is being created, opened, purged, listed, or moved from.
"""

from __future__ import annotations

import random

import pytest

from dmqnode.disk import perform_read
from dmqnode.messages import Cancel, Delivered, Message
from tests.dmqnode.anything import draw
from tests.dmqnode.world import World, got


class Anybody:
    """Clients that do not wait for answers, on a disk that takes its time."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World()
        self.world.hold_writes = True
        self.asked: dict[int, Message] = {}
        self.held: list[tuple[object, ...]] = []

    def ask(self) -> None:
        if self.asked and self.rng.random() < 0.05:
            self.world.request(Cancel(), self.rng.choice(list(self.asked)))
            return
        message = draw(self.rng, self.held, len(self.asked))
        self.asked[self.world.request(message)] = message

    def turn(self) -> None:
        """Let one of the things happen that are under way."""
        world, broker = self.world, self.world.broker
        kind = self.rng.randrange(4)
        if kind == 0:
            for number, read in broker.reads.take_wanted():
                broker.read_done(world.now(), number, perform_read(world.store, read))
        elif kind == 1 and world.pending is None:
            world.pending = broker.collect(world.now())
        elif kind == 2 and world.pending is not None:
            world.write()
        else:
            world.time += self.rng.choice((0.0, 0.01, 0.7))
            if broker.next_deadline() <= world.time:
                broker.tick(world.now())
        self.hear()

    def hear(self) -> None:
        for reply in self.world.broker.take_replies():
            self.asked.pop(reply.number, None)
            if isinstance(reply.message, Delivered):
                self.held += [m.held for m in got(reply.message)]

    def come_to_rest(self) -> None:
        """Let everything end that is under way; what waits for messages ends by its time."""
        self.world.hold_writes = False
        if self.world.pending is not None:
            self.world.write()
        self.hear()
        self.world.pass_time(5.0)
        for number in self.world.replies:
            self.asked.pop(number, None)


@pytest.mark.share(1 / 5)
def test_every_request_is_answered_and_none_ends_the_node(seeds: range) -> None:
    for seed in seeds:
        anybody = Anybody(seed)
        try:
            for _ in range(150):
                anybody.ask() if anybody.rng.random() < 0.4 else anybody.turn()
            anybody.come_to_rest()
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        assert not anybody.asked, (seed, anybody.asked)
