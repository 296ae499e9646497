"""What can be done to disks and clocks.

A fault that takes data away waits until everything has its copies, and takes one.
"""

from __future__ import annotations

import random

from tests.chaos import damage
from tests.chaos.site import Fault, Site, listed, machines


def damage_of(*kinds: str) -> Fault:
    """Return the fault that damages the store of one node in one of these ways."""
    return lambda site, rng: _damage(site, rng, rng.choice(kinds))


def _damage(site: Site, rng: random.Random, kind: str) -> None:
    site.until_healthy()
    with site.taken(rng) as nodes:
        node = nodes[0]
        with site.event(f"store {kind}", node.name):
            node.kill()
            damage.KINDS[kind](node.data, rng)
            site.sleep(rng.uniform(0, 1))
            node.restart()


damaged = damage_of(*damage.KINDS)


def _power(site: Site, rng: random.Random, count: int, name: str) -> None:
    with site.taken(rng, count) as nodes, site.event(name, listed(nodes)):
        for node in nodes:
            node.process.kill()
        for node in nodes:
            node.kill()
            assert node.machine is not None
            node.machine.cut_power(rng)
        site.sleep(rng.uniform(0.1, 3))
        for node in nodes:
            node.begin()
        for node in nodes:
            node.wait_ready()


def power_one(site: Site, rng: random.Random) -> None:
    _power(site, rng, 1, "power cut of one")


def power_several(site: Site, rng: random.Random) -> None:
    _power(site, rng, rng.randint(2, max(2, len(site.nodes) - 1)), "power cut of several")


def power_all(site: Site, rng: random.Random) -> None:
    _power(site, rng, len(site.nodes), "power cut of all")


def disk_full(site: Site, rng: random.Random) -> None:
    with site.taken(rng, rng.choice((1, 1, len(site.nodes)))) as nodes:
        left = rng.choice((0, 100_000, 3 << 20))
        with site.event("disk full", f"{listed(nodes)}, {left} bytes left"):
            for machine in machines(nodes):
                machine.room(left)
            site.sleep(rng.uniform(2, 6))
            for machine in machines(nodes):
                machine.room(None)
            for node in nodes:
                if not node.up or node.ends_soon():
                    node.kill()
                    node.restart()


def disk_slow(site: Site, rng: random.Random) -> None:
    seconds = rng.choice((0.02, 0.1, 0.5, 1.5))
    count = rng.choice((1, len(site.nodes)))
    with site.taken(rng, count) as nodes, site.event("slow disk", f"{listed(nodes)} {seconds} s"):
        for machine in machines(nodes):
            machine.slow_disk(seconds)
        site.sleep(rng.uniform(2, 6))
        for machine in machines(nodes):
            machine.slow_disk(0)


def disk_fails(site: Site, rng: random.Random) -> None:
    with site.taken(rng) as nodes, site.event("failing syncs", nodes[0].name):
        machine = machines(nodes)[0]
        machine.fail_syncs(True)
        site.sleep(rng.uniform(1, 3))
        machine.fail_syncs(False)
        nodes[0].kill()
        # What a disk refused to sync is not on it.
        machine.cut_power(rng)
        nodes[0].restart()


def clock_by(*steps: float) -> Fault:
    """Return the fault that sets clocks by one of so many seconds, forwards or backwards, and back."""
    return lambda site, rng: _clock(site, rng, rng.choice(steps) * rng.choice((-1, 1)))


def _clock(site: Site, rng: random.Random, step: float) -> None:
    count = rng.choice((1, 1, len(site.nodes)))
    with (
        site.taken(rng, count) as nodes,
        site.clock_is_off(step),
        site.event("clock", f"{listed(nodes)} {step:+} s"),
    ):
        for machine in machines(nodes):
            machine.set_clock(step)
        site.sleep(rng.uniform(1, 4))
        for machine in machines(nodes):
            machine.set_clock(0)
