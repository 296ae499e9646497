"""Hours in which one of three whole nodes is dead, or starts again and again, while clients come and go (P8).

All time is virtual (MockClock).
"""

from __future__ import annotations

import random

import trio

from dmqnode.errors import DMQError
from tests.simulation.haul import HOURS, RESTARTS, SLACK, STAYS
from tests.simulation.memory import Walk
from tests.simulation.nodes.box import Box
from tests.simulation.nodes.errands import Errands, one_client
from tests.simulation.nodes.plan import Plan
from tests.simulation.nodes.wires import Net
from tests.simulation.nodes.world import World

QUIET = 15.0
"""Seconds without visitors before it is weighed."""
EMPTY = "empty"
"""A queue to which nobody sends."""


class Haul(World):
    """One long run; the first node lives through all of it.

    Arguments:
        peer: what is wrong with another: "dead", "restarted".
        hour: seconds.
    """

    def __init__(self, seed: int, *, peer: str, hour: float) -> None:
        super().__init__(seed, Plan(founding="one", producers=1, consumers=1))
        self.visits = 0
        self._peer = peer
        self._hour = hour
        self._open = True
        self._walks: list[Walk] = []

    async def _main(self) -> None:
        self.net = Net(random.Random(self.rng.getrandbits(64)))
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            nursery.start_soon(self.net.run)
            await self._found()
            errands = Errands(self)
            await errands.create()
            async with one_client(self, self.boxes[0].address) as client:
                await client.create_queue(EMPTY)
            nursery.start_soon(errands.produce, 0)
            nursery.start_soon(errands.consume, 0)
            nursery.start_soon(self._disturb, self.boxes[-1])
            nursery.start_soon(self._invite)
            for _ in range(HOURS):
                self._open, self.resting = True, False
                await trio.sleep(self._hour)
                self._open, self.resting = False, True
                await trio.sleep(QUIET)
                self._walks.append(Walk().look(self.boxes[0].node))
            nursery.cancel_scope.cancel()

    async def _disturb(self, box: Box) -> None:
        if self._peer == "dead":
            self.accounts.disturbed("kill", 1e9)
            box.die("kill")
        while self._peer != "dead":
            if self._open and box.life is not None:
                self.accounts.disturbed("kill", 1.0)
                box.die("kill")
                await trio.sleep(1.0)
                box.start()
            await trio.sleep(RESTARTS)

    async def _invite(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self.rng.expovariate(0.5))
                if self._open:
                    self.visits += 1
                    nursery.start_soon(self._visit, self.visits)

    async def _visit(self, number: int) -> None:
        """Connect, and vanish while a receive waits; make a queue and delete it before, now and then."""
        with trio.move_on_after(self.rng.choice((0.3, 3.0))):
            async with one_client(self, self.boxes[0].address) as client:
                try:
                    if number % 10 == 0:
                        await client.create_queue(f"made{number}")
                        await client.delete_queue(f"made{number}")
                    await client.receive(EMPTY, wait=20.0)
                except DMQError as error:
                    self.note("visitor", error)

    def grown(self) -> list[str]:
        """Return what there is more of after the last hour than after the first."""
        first, last = self._walks[0].entries, self._walks[-1].entries
        return [
            f"{name} holds {entries}, {first[name]} after the first hour"
            for name, entries in last.items()
            if name not in STAYS and entries > 1.5 * first[name] + SLACK
        ]
