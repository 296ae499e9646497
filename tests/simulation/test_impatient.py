"""Clients that hang up while they receive: what is on its way to them then goes to others, at once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from dmqnode.fanout import Fanout
from dmqnode.messages import Delivered, Message, Receive
from tests.simulation.clients import Client, Script
from tests.simulation.plan import PLAIN, WIDE, Plan
from tests.simulation.workload import ack
from tests.simulation.world import World


class Impatient(Client):
    """Hangs up a moment after what it asked has arrived, perhaps as its answer is on the way."""

    def _call(self, request: Message) -> None:
        super()._call(request)
        number = self._waiting
        if number and isinstance(request, Receive):
            self.world.after(self.world.rng.uniform(0.002, 0.02), lambda: self._leave(number))

    def _leave(self, number: int) -> None:
        if self._waiting == number:
            self._hang_up()
            self._waiting = 0
            self.go_on(None)


def hasty(world: World, queue: str) -> Script:
    while not world.calm:
        answer = yield Receive(queue, 3, 1 << 20, 2.0, None)
        if isinstance(answer, Delivered) and answer.parts:
            world.ledger.received(answer)
            yield from ack(world, answer.parts)
        yield 0.005


@pytest.mark.parametrize("faults", [(), ("kill", "reset")])
def test_what_is_on_its_way_to_who_hangs_up_is_given_back(
    faults: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = 0
    original = Fanout.give_back

    def give_back(self: Fanout, now: Any, parts: Any) -> None:
        nonlocal given_back
        given_back += len(parts)
        original(self, now, parts)

    monkeypatch.setattr(Fanout, "give_back", give_back)
    for seed in range(2):
        world = World(seed, Plan(queues=(PLAIN, WIDE), seconds=3.0, faults=faults))
        for n in range(3):
            for queue in world.plan.queues:
                client = Impatient(world, f"h{queue.name}{n}", hasty(world, queue.name))
                world.after(1.0, partial(world.clients.add, client))
        world.run()
    assert given_back > 3
