"""What can happen to a cluster, each with what must come of it; a failure is an AssertionError."""

from __future__ import annotations

import random
from dataclasses import replace

from gossip.config import SwimConfig
from gossip.effects import Changed
from gossip.messages import ClusterId, Status
from tests.gossip.world import Network, World, address_of, node_id

LOSSES = (0.0, 0.01, 0.05, 0.1)
DEATH_KNOWN = 5.0
"""Seconds within which every member of a small cluster agrees on a death."""
REMET = 10.0
"""Seconds within which the parts of a split agree once nothing separates them."""


def drawn_network(seed: int) -> Network:
    """Return a network with faults drawn from the seed."""
    chance = random.Random(f"{seed}/network")
    return Network(
        loss=chance.choice(LOSSES),
        duplicated=chance.choice((0.0, 0.05)),
        late=chance.choice((0.0, 0.05)),
    )


def death(seed: int) -> None:
    """A crash is known to all in time, and nobody else is thought dead."""
    world = World(seed, network=drawn_network(seed))
    names = world.cluster(3 + seed % 5)
    world.run(3 + seed % 7 * 0.31)
    world.crash("n1")
    crashed = world.time
    assert world.until(lambda: world.all_see("n1", Status.DEAD), DEATH_KNOWN), world.views()
    assert [seen for seen in world.deaths() if seen.member != "n1"] == []
    assert len({seen.observer for seen in world.deaths(["n1"], since=crashed)}) == len(names) - 1


def quiet(seed: int) -> None:
    """On a bad network, but with nobody gone, nobody is declared dead."""
    world = World(seed, network=replace(drawn_network(seed), loss=0.1))
    world.cluster(3 + seed % 5)
    world.run(60)
    assert world.deaths() == []
    assert world.until(world.agreed, 10)
    assert sum(node.swim.counters.probes for node in world.nodes.values()) > 100


def news(seed: int) -> None:
    """What a member says of itself reaches all without an exchange, and quickly."""
    config = replace(SwimConfig.lan(), push_pull_interval=3600.0)
    world = World(seed, config, Network(loss=0.05))
    names = world.cluster(7)
    world.run(5)
    world.act("n3", "describe", meta=b"new")

    def known() -> bool:
        views = [world.nodes[name].swim.member(node_id("n3")) for name in names]
        return all(view is not None and view[0].meta == b"new" for view in views)

    assert world.until(known, 3), world.views()


def split(seed: int, seconds: float = 60.0) -> None:
    """The parts of a split find each other, also when they have forgotten each other's members."""
    world = World(seed, replace(SwimConfig.lan(), forget_dead_after=20.0), drawn_network(seed))
    names = world.cluster(3 + seed % 5)
    world.run(2)
    cut = 1 + seed % (len(names) - 1)
    world.split(names[:cut], names[cut:])
    world.run(seconds)
    assert not world.agreed()
    for name in names[:cut]:
        assert all(world.status(name, other) in (Status.DEAD, None) for other in names[cut:])
    world.heal()
    assert world.until(world.agreed, REMET), world.views()


def accused(seed: int) -> None:
    """A member that is wrongly declared dead comes back, with a higher incarnation."""
    world = World(seed, network=drawn_network(seed))
    names = world.cluster(3 + seed % 5)
    world.pause("n1")
    assert world.until(lambda: world.all_see("n1", Status.DEAD), 2 * DEATH_KNOWN), world.views()
    world.run(20)
    before = world.nodes["n1"].swim.me.incarnation
    world.resume("n1")
    resumed = world.time
    assert world.until(world.agreed, REMET), world.views()
    assert world.nodes["n1"].swim.me.incarnation > before
    # Nor does it take the others for dead, just because its own clock jumped.
    assert world.deaths(names[:1] + names[2:], since=resumed) == []


def asleep(seed: int) -> None:
    """A node that did not run while a suspect refuted does not take it for dead."""
    world = World(seed, network=drawn_network(seed))
    names = world.cluster(3 + seed % 5)
    world.act("n0", "_did_not_answer", node_id("n2"))
    assert world.status("n0", "n2") is Status.SUSPECT
    world.pause("n0")
    world.run(30)
    resumed = world.time
    world.resume("n0")
    world.run(10)
    assert world.deaths(names[1:], since=resumed) == []
    assert world.until(world.agreed, REMET)


def strangers(seed: int) -> None:
    """A cluster that takes over addresses of another stays apart from it."""
    world = World(seed, network=drawn_network(seed))
    first = world.cluster(3)
    world.run(2)
    world.crash("n2")
    # The address of n2 goes to a node of another cluster, while the news of the crash is under way.
    other = ClusterId(b"another cluster!")
    del world.disks["n2"]
    world.start("m0", cluster=other, seeds=["n2"])
    world.start("n2", cluster=other, seeds=["m0"], id=node_id("another n2"))
    world.run(30)
    assert {m.name for m, _ in world.nodes["n0"].swim.members()} == set(first)
    assert world.all_see("n2", Status.DEAD) or world.status("n0", "n2") is Status.DEAD
    assert {m.name for m, _ in world.nodes["m0"].swim.members()} == {"m0", "n2"}
    assert {m.name for m, _ in world.nodes["n2"].swim.members()} == {"m0", "n2"}
    assert world.nodes["n2"].swim.counters.foreign > 0


class _Swarm:
    """One random run."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"{seed}/swarm")
        self.world = World(seed, network=drawn_network(seed))
        self.world.cluster(self.chance.randint(2, 7))
        self.gone: list[str] = []
        self.away: list[str] = []
        self.done: list[str] = []

    def run(self) -> None:
        for _ in range(self.chance.randint(2, 6)):
            name = self.chance.choice(
                ("divide", "mute", "pause", "crash", "restart", "stop", "leave", "join", "calm", "deafen")
            )
            getattr(self, "_" + name)()
            self.done.append(name)
            self.world.run(self.chance.choice((0.1, 1.0, 4.0, 15.0)))
        world = self.world
        world.heal()
        world.network = Network()
        for node in list(world.nodes):
            if world.nodes[node].paused:
                world.resume(node)
        for node in list(world.nodes.values()):
            # A newcomer all whose seeds are gone has nobody to ask.
            if not node.swim.cluster and not any(
                other.swim.cluster and address_of(other.name) in node.swim._meeting.seeds
                for other in world.nodes.values()
            ):
                world.crash(node.name)
        assert world.until(world.agreed, 20), (self.done, world.views())
        world.run(20)
        assert world.agreed(), (self.done, world.views())
        assert all(
            world.status(name, gone) in (Status.LEFT, None) for gone in self.gone for name in world.nodes
        )
        check_bounds(world)

    def _one(self) -> str | None:
        running = [name for name, node in self.world.nodes.items() if not node.paused]
        return self.chance.choice(running) if len(running) > 2 else None

    def _divide(self) -> None:
        names = list(self.world.nodes)
        self.chance.shuffle(names)
        cut = self.chance.randint(1, max(1, len(names) - 1))
        self.world.split(names[:cut], names[cut:])

    def _mute(self) -> None:
        if name := self._one():
            self.world.cut = lambda sender, receiver: sender == address_of(name)

    def _deafen(self) -> None:
        if name := self._one():
            self.world.cut_udp = lambda sender, receiver: receiver == address_of(name)

    def _calm(self) -> None:
        self.world.heal()

    def _pause(self) -> None:
        if name := self._one():
            self.world.pause(name)

    def _crash(self) -> None:
        if name := self._one():
            self.world.crash(name)
            self.away.append(name)

    def _stop(self) -> None:
        if name := self._one():
            self.world.stop(name)
            self.away.append(name)

    def _restart(self) -> None:
        if self.away:
            self.world.start(self.away.pop())

    def _leave(self) -> None:
        # Only where all hear of it: what nobody has heard, nobody can know.
        if name := self._one():
            self.world.heal()
            self.world.network = Network()
            self.world.until(self.world.agreed, 20)
            if not self.world.nodes[name].paused and self.world.agreed():
                self.world.leave(name)
                self.world.run(1)
                self.gone.append(name)

    def _join(self) -> None:
        if name := self._one():
            self.world.start(f"j{len(self.world.disks)}", seeds=[name, *self.world.nodes])


def check_bounds(world: World) -> None:
    """Nothing in a node grows with time."""
    for node in world.nodes.values():
        swim = node.swim
        size = len(swim.members())
        assert len(swim._agenda) < 200
        assert len(swim._prober._probes) <= world.config.probes_limit + 1
        assert len(swim._prober._relays) <= world.config.relays_limit
        assert len(swim._rumours) <= size * (world.config.confirmations + 2)
        assert len(swim.known_addresses()) <= world.config.addresses_limit


def swarm(seed: int) -> None:
    """After random faults, all that run agree on who is there, and none that left is."""
    run = _Swarm(seed)
    run.run()
    assert any(isinstance(event, Changed) for _, _, event in run.world.events)
