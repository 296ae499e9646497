"""What goes wrong: every kind of fault, when, for how long; and how it all is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.ids import NodeId
from dmqnode.keys import DEBTS
from storage.records import unseal
from tests.simulation.clients import Client
from tests.simulation.operations import weigh

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.world import World

LENGTHS = (0.1, 0.5, 1.5, 3.0, 6.0)
"""Seconds that a fault lasts: shorter and longer than a lease, and than patience."""
WEIGHTS = (0.001, 1000.0)


class Trouble:
    """Draws faults while a run is not calm."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._leap_at = 0.0

    def begin(self) -> None:
        """Things begin to go wrong."""
        plan = self._world.plan
        if "boundary" in plan.faults:
            for host in self._world.hosts.values():
                host.boundary = 0.0004
        if "stall" in plan.faults:
            for host in self._world.hosts.values():
                host.stall = 0.05
        if "eio" in plan.faults:
            for host in self._world.hosts.values():
                host.faults.write_error = host.faults.sync_error = host.faults.read_error = 0.0004
        if "flip" in plan.faults:
            # Of one node at a time: where every copy is damaged, nobody can bring it back.
            self._rng.choice(list(self._world.hosts.values())).faults.flip = 0.002
        if "rot" in plan.faults:
            # Of all at once: what is damaged on every home is lost, and nothing else is.
            for host in self._world.hosts.values():
                host.faults.flip, host.faults.batches_only = 0.5, True
        self._next()

    def _next(self) -> None:
        kinds = [k for k in self._world.plan.faults if hasattr(self, f"_{k}")]
        if not kinds:
            return

        def happen() -> None:
            if self._world.calm:
                return
            kind = self._rng.choice(kinds)
            self._world.note("trouble", kind)
            getattr(self, f"_{kind}")()
            self._next()

        self._world.after(self._rng.expovariate(self._world.plan.rate), happen)

    def end(self) -> None:
        """Mend everything."""
        world = self._world
        world.net.heal()
        for host in world.hosts.values():
            host.boundary = host.stall = 0.0
            host.torn = False
            self._make_room(host)
            faults = host.faults
            faults.write_error = faults.sync_error = faults.read_error = faults.flip = 0.0
            host.disk_delay = (0.0002, 0.002)
            host.resume()
            world.after(0.0, host._return)
        if "move" in world.plan.faults:
            self._move()  # nobody need lead the list of members, and see to its copies, before the next step

    # --- kinds ---------------------------------------------------------------------------------------

    def _host(self) -> Host:
        return self._rng.choice(list(self._world.hosts.values()))

    def _long(self) -> float:
        return self._rng.choice(LENGTHS)

    def _kill(self) -> None:
        self._host().die("kill")
        if self._rng.random() < 0.15:
            self._host().die("kill")

    def _power(self) -> None:
        self._host().die("power")
        if self._rng.random() < 0.2:
            self._host().die("power")

    def _blackout(self) -> None:
        for host in self._world.hosts.values():
            host.die("power", back=self._rng.uniform(0.1, 2.0))

    def _restart(self) -> None:
        self._host().stop()

    def _rolling(self) -> None:
        """Every node is stopped and started, one after the other."""
        for n, host in enumerate(self._world.hosts.values()):
            self._world.after(3.0 * n, lambda host=host: None if self._world.calm else host.stop(back=0.3))

    def _standstill(self) -> None:
        """All nodes are stopped at once."""
        for host in self._world.hosts.values():
            host.stop(back=self._rng.uniform(0.1, 2.0))

    def _pause(self) -> None:
        host = self._host()
        if host.up and not host.paused:
            seconds = self._long()
            self._world.ledger.disturbed("pause", host.me, seconds)
            host.pause()
            self._world.after(seconds, host.resume)

    def _isolate(self) -> None:
        node = self._host().me
        self._cut(
            [(a, b) for a in self._world.hosts for b in self._world.hosts if (a == node) != (b == node)]
        )

    def _halves(self) -> None:
        nodes = list(self._world.hosts)
        side = set(self._rng.sample(nodes, self._rng.randint(1, max(1, len(nodes) // 2))))
        self._cut([(a, b) for a in nodes for b in nodes if (a in side) != (b in side)])

    def _oneway(self) -> None:
        node = self._host().me
        others = [n for n in self._world.hosts if n != node]
        chosen = self._rng.sample(others, self._rng.randint(min(1, len(others)), len(others)))
        out = self._rng.random() < 0.5
        self._cut([(node, n) if out else (n, node) for n in chosen])

    def _bridge(self) -> None:
        """Two sides that hear nothing of each other, and one node that hears both."""
        nodes = list(self._world.hosts)
        self._rng.shuffle(nodes)
        middle, rest = nodes[0], nodes[1:]
        side = set(rest[: len(rest) // 2])
        self._cut([(a, b) for a in rest for b in rest if (a in side) != (b in side) and a != middle])

    def _flap(self) -> None:
        node = self._host().me
        links = [(a, b) for a in self._world.hosts for b in self._world.hosts if (a == node) != (b == node)]
        for n in range(self._rng.randint(2, 5)):
            self._world.after(n * 0.8, lambda: self._cut(links, self._rng.uniform(0.05, 0.75)))

    def _cut(self, links: list[tuple[NodeId, NodeId]], seconds: float | None = None) -> None:
        if self._world.calm or not links:
            return
        seconds = self._long() if seconds is None else seconds
        self._world.note("cut", *sorted(f"{a[-1:].decode()}>{b[-1:].decode()}" for a, b in links), seconds)
        for node in dict.fromkeys(n for link in links for n in link):
            self._world.ledger.disturbed("cut", node, seconds)
        self._world.net.block(links, seconds)

    def _reset(self) -> None:
        pairs = self._world.net.pairs()
        if pairs:
            pair = self._rng.choice(pairs)
            for node in pair:
                self._world.ledger.disturbed("reset", node)
            self._world.net.reset(pair)

    def _slow(self) -> None:
        pairs = self._world.net.pairs()
        if not pairs:
            return
        seconds, longest = self._long(), self._rng.choice((0.05, 0.3, 1.5))
        for pair in self._rng.sample(pairs, self._rng.randint(1, len(pairs))):
            for node in pair:
                self._world.ledger.disturbed("slow", node, seconds + longest)
            self._world.net.slow[pair] = longest
            self._world.after(seconds, lambda pair=pair: self._world.net.slow.pop(pair, None))

    def _slowdisk(self) -> None:
        host, seconds = self._host(), self._long()
        self._world.ledger.disturbed("slowdisk", host.me, seconds)
        host.disk_delay = (0.05, self._rng.choice((0.1, 0.5, 1.0)))

        def over() -> None:
            host.disk_delay = (0.0002, 0.002)

        self._world.after(seconds, over)

    def _torn(self) -> None:
        """The power is cut in the middle of a write."""
        self._host().torn = True

    def _full(self) -> None:
        """Something else fills a disk; then little or nothing can be written there, until there is room."""
        host, seconds = self._host(), self._long()
        self._world.ledger.disturbed("full", host.me, seconds)
        left = self._rng.choice((0, 200, 2000, 1 << 20))
        host.faults.capacity = host.store._bytes + left
        self._world.note("full", host.me, left, seconds)
        self._measure(host)
        self._world.after(seconds, lambda: self._make_room(host))

    def _make_room(self, host: Host) -> None:
        if host.faults.capacity is not None:
            host.faults.capacity = None
            self._measure(host)

    def _measure(self, host: Host) -> None:
        """Nodes measure their disks every second."""
        self._world.after(self._rng.uniform(0.0, 1.0), lambda: host.measure() if host.up else None)

    def _rust(self) -> None:
        """Bits of what has long been stored change, always on the same disk: others have whole copies."""
        host = next((h for h in self._world.hosts.values() if h.rotten), None) or self._host()
        host.rotten = True
        keys = [k for k in host.store._keys if k[:1] == DEBTS or (k[:1] == b"p" and k[1:9] != bytes(8))]
        for key in self._rng.sample(keys, min(len(keys), self._rng.randint(1, 3))):
            if unseal(key, host.store._records[key]) is None:
                continue
            self._world.note("rust", host.me, key)
            self._world.ledger.disturbed("rust", host.me)
            self._world.ledger.fates.rusted(key)
            host.store._records[key] = host.faults.flip_bit(host.store._records[key])
        self._world.ledger.notes.forgot(host)

    def _leap(self) -> None:
        """Somebody sets one clock wrong, by 15 s up to a day, and right again after a while."""
        if self._world.now < self._leap_at:
            return  # of three clocks one may be wrong at a time; the others must hear of the end
        host = self._host()
        step = self._rng.choice((15_000, 600_000, 86_400_000)) * self._rng.choice((-1, 1))
        seconds = self._rng.choice((1.0, 4.0, 10.0))
        self._leap_at = self._world.now + seconds + 2.0
        self._world.note("leap", host.me, step)
        self._world.ledger.disturbed("leap", host.me, seconds)
        self._world.ledger.fates.believed_ahead(seconds, step / 1000)
        host.set_clock(step)
        self._world.after(seconds, lambda: host.set_clock(-step))

    def _move(self) -> None:
        """Somebody changes a node's weight: it is to have nearly no copies, as many as others, or most."""
        world = self._world
        member = self._rng.choice(world.roster.members)
        member = member._replace(weight=self._rng.choice(WEIGHTS))
        world.note("weigh", member.node, member.weight)
        world.clients.add(Client(world, "weigher", weigh(world, member)))

    def _clock(self) -> None:
        host = self._host()
        # Farther than ten seconds from its peers a node must not lead; here none goes so far.
        step = self._rng.choice((100, 1000, 4000)) * self._rng.choice((-1, 1))
        if abs(host.wall_offset + step) > 5000:
            step = -step
        self._world.note("clock", host.me, step)
        self._world.ledger.disturbed("clock", host.me)
        host.set_clock(step)
