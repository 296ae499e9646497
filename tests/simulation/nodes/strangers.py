"""Another cluster in the same network, which goes on by itself whatever it meets.

All time is virtual (MockClock).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import trio

from dmqnode.errors import DMQError
from tests.simulation.nodes.errands import client_of

if TYPE_CHECKING:
    from tests.simulation.nodes.box import Box
    from tests.simulation.nodes.world import World

MARK = b"theirs "
"""What their messages begin with."""
QUEUE = "plain"
"""A queue of this name both have."""
PATIENCE = 60.0


class Strangers:
    """Two or three nodes of another cluster, and what they send and receive."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world, self._rng = world, rng
        self._cluster = rng.choice(("dmq", "other"))
        count = rng.choice((2, 3))
        self.boxes = [world.add(f"s{n}") for n in range(count)]
        for box in self.boxes:
            box.wanted, box.foreign, box.cluster = False, True, self._cluster
            box.join = tuple(b.address for b in self.boxes)
        self._sent: set[bytes] = set()
        self._came: set[bytes] = set()

    async def found(self) -> None:
        """Bring the cluster up, with a queue."""
        for box in self.boxes:
            box.start()
        await self._until(self._whole, "the strangers have no cluster")
        await self._insist(lambda client: client.create_queue(QUEUE, if_not_exists=True))
        await self._work(3)

    async def meet(self) -> None:
        """Start some with the addresses of the others as seeds, and some of the others with theirs."""
        world, rng = self._world, self._rng
        theirs = tuple(b.address for b in world.wanted)
        for box in rng.sample(self.boxes, rng.randint(1, len(self.boxes))):
            box.join = (*theirs[:2], *box.join) if rng.random() < 0.5 else theirs
            await self._again(box)
        if rng.random() < 0.5:
            ours = rng.choice([b for b in world.wanted if b.up] or [None])
            if ours is not None:
                world.accounts.disturbed("stop", 2.0)
                before, ours.join = ours.join, tuple(b.address for b in self.boxes)
                await self._again(ours)
                ours.join = before
        await self._until(self._whole, "the strangers are not one cluster any more")
        await self._work(5)

    async def sit_at(self, other: Box) -> None:
        """Move one to the address of a machine that is off, and back after a while."""
        box = self._rng.choice(self.boxes)
        await box.stop()
        home, box.host, box.address = (box.host, box.address), other.host, other.address
        box.start()
        await trio.sleep(self._rng.choice((2.0, 6.0)))
        await self._work(2)
        await box.stop()
        box.host, box.address = home
        box.start()
        await self._until(self._whole, "the strangers are not one cluster any more")

    async def end(self) -> None:
        """See that nothing is missing, and nothing there is another's; then they go away."""
        await self._work(2)
        if self._came != self._sent:
            missing = sorted(self._sent - self._came)
            self._world.accounts.broken("P2", "lost", f"strangers did not get {missing}")
        for box in self.boxes:
            await box.stop()

    def clients_of_others(self) -> list[str]:
        """Return the hosts from which clients of the other cluster dial."""
        plan = self._world.plan
        names = [f"producer{n}" for n in range(plan.producers)]
        return [*names, *(f"consumer{n}" for n in range(plan.consumers)), "again", "operator"]

    # --- what they do --------------------------------------------------------------------------------

    async def _again(self, box: Box) -> None:
        await box.stop()
        await trio.sleep(0.5)
        if box.life is None:
            box.start()
        await self._until(lambda: box.up, "a node does not start")

    async def _work(self, rounds: int) -> None:
        """Send and receive through any of them, until all has come."""
        for _ in range(rounds):
            bodies = [MARK + b"%d" % (len(self._sent) + n) for n in range(3)]
            self._sent |= set(bodies)
            await self._insist(lambda client: client.send_many(QUEUE, bodies))  # noqa: B023
            await trio.sleep(self._rng.choice((0.0, 0.5)))
        await self._insist(self._take)

    async def _take(self, client: Any) -> None:
        until = trio.current_time() + PATIENCE
        while not self._came >= self._sent and trio.current_time() < until:
            messages = await client.receive(QUEUE, max_messages=10, wait=1.0)
            for message in messages:
                body = bytes(message.body)
                if body not in self._sent:
                    self._world.accounts.broken("P3", "astray", f"strangers got {body!r}")
            await client.ack(messages)
            self._came |= {bytes(m.body) for m in messages}

    async def _insist(self, act: Any) -> None:
        """Do something with a client, again until it is done."""
        until = trio.current_time() + PATIENCE
        while True:
            box = self._rng.choice(self.boxes)
            try:
                async with client_of(self._world, "stranger", [box.address]) as client:
                    return await act(client)
            except DMQError as error:
                self._world.note("stranger", box.name, error)
                if trio.current_time() > until:
                    self._world.accounts.broken("P7", "unusable", f"strangers cannot go on: {error}")
            await trio.sleep(0.5)

    async def _until(self, holds: Any, word: str) -> None:
        await self._world.until(holds, PATIENCE, "I3", word)

    def _whole(self) -> bool:
        """Tell whether they are one cluster of their own, all linked."""
        if not all(b.up and b.node.broker.clustering is not None for b in self.boxes):
            return False
        nodes = {b.me for b in self.boxes}
        clusters = {b.node.broker.surroundings.cluster for b in self.boxes}
        ours = {b.node.broker.surroundings.cluster for b in self._world.wanted if b.up}
        if clusters & ours:
            self._world.accounts.broken("I3", "mixed", "nodes of two clusters are in one")
        rosters = [{m.node for m in b.clustering.rosters.current.members} for b in self.boxes]
        linked = all(set(b.clustering.linked) == nodes - {b.me} for b in self.boxes)
        return len(clusters) == 1 and linked and all(listed == nodes for listed in rosters)
