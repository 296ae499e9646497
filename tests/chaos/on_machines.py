"""What can be done to disks and clocks.

A fault that takes data away waits until everything has its copies, and takes one.
"""

from __future__ import annotations

import random

from tests.chaos import damage
from tests.chaos.site import Site, listed, machines


def damaged(site: Site, rng: random.Random) -> None:
    site.until_healthy()
    with site.taken(rng) as nodes:
        node = nodes[0]
        kind = rng.choice(list(damage.KINDS))
        with site.event(f"store {kind}", node.name):
            node.kill()
            damage.KINDS[kind](node.data, rng)
            site.sleep(rng.uniform(0, 1))
            node.restart()


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


def power(site: Site, rng: random.Random) -> None:
    count = rng.choice((1, 2, len(site.nodes)))
    _power(site, rng, count, {1: "power cut of one", 2: "power cut of two"}.get(count, "power cut of all"))


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


def clock(site: Site, rng: random.Random) -> None:
    step = rng.choice((0.1, 1.0, 3.0, 5.0)) * rng.choice((-1, 1))
    site.clock_error = max(site.clock_error, abs(step) * 2)
    count = rng.choice((1, 1, len(site.nodes)))
    with site.taken(rng, count) as nodes, site.event("clock", f"{listed(nodes)} {step:+} s"):
        for machine in machines(nodes):
            machine.set_clock(step)
        site.sleep(rng.uniform(1, 4))
        for machine in machines(nodes):
            machine.set_clock(0)
