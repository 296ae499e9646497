"""What goes wrong with processes, machines and wires.

All time is virtual (MockClock).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from dmqnode.dedup import WINDOW_MINUTES
from dmqnode.walls import FAR

if TYPE_CHECKING:
    from tests.simulation.nodes.box import Box
    from tests.simulation.nodes.world import World

LEASE = 2.0
HOUR = 3600.0
STARTED = 10.0
"""Seconds within which a process is a node again."""
RESTING = 20.0
"""Seconds of a fault beyond which clients rest."""


class Trouble:
    """Makes faults, one at a time; each is over, or on its way to its end, when `make` returns."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(world.rng.getrandbits(64))
        self._heals: list[Callable[[], None]] = []
        self._healed_at = -1.0

    async def make(self, kind: str) -> None:
        """Let something go wrong, with somebody there."""
        await self._world.until(lambda: any(b.up for b in self._world.wanted), STARTED, "P7", "nobody starts")
        self._world.note("trouble", kind)
        await getattr(self, f"_{kind}")()

    async def heal(self) -> None:
        """End all that goes wrong, and start what should be running."""
        heals, self._heals = self._heals, []
        for heal in heals:
            heal()
        self._world.net.lost = self._world.net.doubled = self._world.net.late = 0.0
        self._world.net.slow.clear()
        for box in self._world.boxes:
            box.resume()
            box.disk_delay = (0.0001, 0.001)
            box.wall_offset = 0
        for box in self._world.wanted:
            if box.life is None:
                box.start()

    def _disturbed(self, kind: str, seconds: float = 0.0) -> None:
        self._world.accounts.disturbed(kind, seconds)

    def _box(self) -> Box:
        return self._rng.choice([b for b in self._world.wanted if b.up])

    def _long(self) -> float:
        """Mostly longer than a lease, or than gossip needs to call somebody dead."""
        return self._rng.choice((0.4, 1.5, 3.0, 3.0, 8.0))

    async def _back(self, box: Box) -> None:
        if box.life is None:
            box.start()

    async def _rest(self, seconds: float) -> None:
        """Let time pass; clients do little if it is long."""
        self._world.resting = seconds > RESTING
        await trio.sleep(seconds)
        self._world.resting = False

    # --- processes and machines ----------------------------------------------------------------------

    async def _kill(self, how: str = "kill") -> None:
        box, absence = self._box(), self._rng.choice((0.05, 1.0, 4.0, 12.0))
        self._disturbed(how, absence)
        box.die(how)
        await trio.sleep(absence)
        await self._back(box)

    async def _power(self) -> None:
        await self._kill("power")

    async def _blackout(self) -> None:
        """All machines lose their power at once."""
        self._disturbed("power", 3.0)
        for box in self._world.wanted:
            box.die("power")
        await trio.sleep(1.0)
        for box in self._world.wanted:
            await trio.sleep(self._rng.choice((0.0, 0.5, 2.0)))
            await self._back(box)

    async def _stop(self) -> None:
        box, absence = self._box(), self._rng.choice((0.1, 2.0, 8.0))
        self._disturbed("stop", absence)
        await box.stop()
        await trio.sleep(absence)
        await self._back(box)

    async def _pause(self, seconds: float = 0.0, box: Box | None = None) -> None:
        box, seconds = box or self._box(), seconds or self._rng.choice((LEASE + 1.0, 6.0, 15.0))
        self._disturbed("pause", seconds)
        box.pause()
        await self._rest(seconds)
        box.resume()

    async def _slowdisk(self) -> None:
        box, seconds = self._box(), self._long()
        self._disturbed("slowdisk", seconds)
        box.disk_delay = (0.05, self._rng.choice((0.1, 0.5, 1.0)))
        await trio.sleep(seconds)
        box.disk_delay = (0.0001, 0.001)

    async def _clock(self) -> None:
        box = self._box()
        step = self._rng.choice((100, 4000, 60_000, 86_400_000)) * self._rng.choice((-1, 1))
        self._world.note("clock", box.name, step)
        if abs(step) >= WINDOW_MINUTES * 60_000:  # repeated sends are not recognised over such a step
            self._world.accounts.counts["leaps"] += 1
        box.wall_offset += step
        seconds = self._long()
        self._disturbed("clock", seconds)
        if len(self._world.wanted) < 3:  # of two clocks nobody can tell which is wrong (T1)
            self._world.accounts.believed_ahead(seconds, step / 1000)
        if len(self._world.wanted) < 3 or abs(step) <= FAR:
            self._world.accounts.believed(abs(step) / 1000)
        await trio.sleep(seconds)
        box.wall_offset -= step

    # --- wires ---------------------------------------------------------------------------------------

    async def _cut(
        self, kind: str, links: list[tuple[str, str]], seconds: float, what: str = "tcp udp"
    ) -> None:
        self._world.note("cut", what, *sorted(f"{a}>{b}" for a, b in links), seconds)
        self._disturbed(kind, seconds)
        heal = self._world.net.cut(links, what)
        self._heals.append(heal)
        await self._rest(seconds)
        heal()
        self._healed_at = trio.current_time()

    def _hosts(self) -> list[str]:
        hosts = [b.host for b in self._world.wanted]
        self._rng.shuffle(hosts)
        return hosts

    def _between(self, some: list[str]) -> list[tuple[str, str]]:
        hosts = self._hosts()
        return [(a, b) for a in hosts for b in hosts if (a in some) != (b in some)]

    async def _isolate(self) -> None:
        await self._cut("isolate", self._between(self._hosts()[:1]), self._long())

    async def _halves(self, seconds: float = 0.0) -> None:
        hosts = self._hosts()
        await self._cut("halves", self._between(hosts[: len(hosts) // 2]), seconds or self._long())

    async def _ring(self) -> None:
        """Each hears its neighbours only, so that all majorities differ."""
        hosts = self._hosts()
        n = len(hosts)
        near = {(hosts[i], hosts[(i + d) % n]) for i in range(n) for d in (-1, 1)} if n > 3 else set()
        links = [(a, b) for a in hosts for b in hosts if a != b and (a, b) not in near]
        await self._cut(
            "ring", links if n > 3 else [(hosts[0], hosts[-1]), (hosts[-1], hosts[0])], self._long()
        )

    async def _bridge(self) -> None:
        hosts = self._hosts()
        rest = hosts[1:]
        side = set(rest[: len(rest) // 2])
        links = [(a, b) for a in rest for b in rest if (a in side) != (b in side)]
        await self._cut("bridge", links, self._long())

    async def _oneway(self) -> None:
        hosts = self._hosts()
        links = [(hosts[0], b) for b in hosts[1 : self._rng.randint(2, max(2, len(hosts)))]]
        await self._cut("oneway", links, self._long(), self._rng.choice(("tcp udp", "tcp")))

    async def _udp(self) -> None:
        await self._cut("udp", self._between(self._hosts()[:1]), self._rng.choice((3.0, 15.0)), "udp")

    async def _tcp(self) -> None:
        await self._cut("tcp", self._between(self._hosts()[:1]), self._rng.choice((3.0, 15.0)), "tcp")

    async def _clients(self) -> None:
        """Clients reach all nodes but one, which the other nodes reach."""
        plan, (host, *_) = self._world.plan, self._hosts()
        names = [f"producer{n}" for n in range(plan.producers)] + [
            f"consumer{n}" for n in range(plan.consumers)
        ]
        links = [link for name in names for link in ((name, host), (host, name))]
        await self._cut("clients", links, self._rng.choice((3.0, 15.0)), "tcp")

    async def _flap(self) -> None:
        links = self._between(self._hosts()[:1])
        for _ in range(self._rng.randint(2, 5)):
            await self._cut("flap", links, self._rng.uniform(0.05, 2.5))
            await trio.sleep(self._rng.uniform(0.05, 1.0))

    async def _lossy(self) -> None:
        net, seconds = self._world.net, self._rng.choice((3.0, 15.0))
        self._disturbed("lossy", seconds)
        net.lost, net.doubled, net.late = self._rng.choice((0.1, 0.4)), 0.2, 0.2
        await trio.sleep(seconds)
        net.lost = net.doubled = net.late = 0.0

    async def _slow(self) -> None:
        hosts, seconds = self._hosts(), self._long()
        self._disturbed("slow", seconds + 1.5)
        for a in hosts:
            for b in hosts:
                if a != b and self._rng.random() < 0.5:
                    self._world.net.slow[a, b] = self._rng.choice((0.05, 0.3, 1.5))
        await trio.sleep(seconds)
        self._world.net.slow.clear()
