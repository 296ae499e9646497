"""What can be done to disks and clocks.

A fault that takes data away waits until everything has its copies, and takes one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from zlib import crc32

from tests.chaos import damage
from tests.chaos.nodes import ChaosNode
from tests.chaos.shim import Machine
from tests.chaos.site import Fault, Site, at_once, listed, machines
from tests.chaos.smalldisk import SmallDisk
from tests.rot import spoil

NOTICED = 20
"""Half seconds after which it is known that a node that was killed is dead."""


def damage_of(*kinds: str) -> Fault:
    """Return the fault that damages the store of one node in one of these ways."""
    return lambda site, rng: _damage(site, rng, rng.choice(kinds))


def _damage(site: Site, rng: random.Random, kind: str) -> None:
    site.until_healthy()
    _spoil(site, rng, kind)


def _spoil(site: Site, rng: random.Random, kind: str) -> None:
    with site.taken(rng) as nodes:
        node = nodes[0]
        with site.event(f"store {kind}", node.name):
            node.kill()
            damage.KINDS[kind](node.data, rng)
            site.sleep(rng.uniform(0, 1))
            node.restart()


def damaged_at_once(site: Site, rng: random.Random) -> None:
    """Damage the store of one node though copies may not be whole: whoever calls has waited for that."""
    _spoil(site, rng, rng.choice(list(damage.KINDS)))


def damage_all(site: Site, rng: random.Random) -> None:
    """Let the same messages turn bad on all disks: no copy of them is left."""
    salt = rng.getrandbits(32)
    with site.taken(rng, len(site.nodes)) as nodes, site.event("same records bad on all"):
        at_once(nodes)
        for node in nodes:
            spoil(node.data, lambda _, key: key[:1] == b"b" and crc32(key, salt) % 3 == 0)
        for node in nodes:
            node.begin()
        for node in nodes:
            node.wait_ready()


def lose_most(site: Site, rng: random.Random) -> None:
    """Take the stores of all nodes but one; the operator says so, and the others come anew."""
    site.until_healthy()
    kind = rng.choice(("wiped", "not to be opened"))
    with site.taken(rng, len(site.nodes)) as nodes, site.event(f"all stores but one {kind}"):
        left, *lost = nodes
        at_once(lost)
        for node in lost:
            if kind == "wiped":
                node.wipe()
            else:
                (node.data / "store" / "CURRENT").write_bytes(b"MANIFE")
            if node.machine is not None:
                node.machine.forget()
            node.begin()
        for node in lost:
            for _ in range(NOTICED):
                done = site.dmq(left, "cluster", "forget", node.name, "--destroyed")
                if "is alive" not in done.stderr:  # it was, two seconds ago
                    break
                site.sleep(0.5)
            # Once one is struck off, those that are left may take the other's successor in by themselves.
            replaced = "is alive" in done.stderr
            assert replaced or not done.returncode, f"forget {node.name}: {done.stderr}"
        for node in lost:
            node.wait_ready()
    site.destroyed = True


def _power(site: Site, rng: random.Random, count: int, name: str) -> None:
    with site.taken(rng, count) as nodes, site.event(name, listed(nodes)):
        at_once(nodes)
        for node in nodes:
            _machine(node).cut_power(rng)
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


def _full(
    site: Site, rng: random.Random, name: str, disk: Callable[[ChaosNode], Machine | SmallDisk]
) -> None:
    with site.taken(rng, rng.choice((1, 1, len(site.nodes)))) as nodes:
        left = rng.choice((0, 100_000, 3 << 20))
        with site.event(name, f"{listed(nodes)}, {left} bytes left"):
            for node in nodes:
                disk(node).room(left)
            site.sleep(rng.uniform(2, 6))
            for node in nodes:
                disk(node).room(None)
            for node in nodes:
                if not node.up or node.ends_soon():
                    node.kill()
                    node.restart()


def _machine(node: ChaosNode) -> Machine:
    assert node.machine is not None
    return node.machine


def _own_disk(node: ChaosNode) -> SmallDisk:
    assert node.disk is not None
    return node.disk


def disk_full(site: Site, rng: random.Random) -> None:
    """Writes are refused as they are on a full disk."""
    _full(site, rng, "disk full", _machine)


def disk_small(site: Site, rng: random.Random) -> None:
    """The disk of a node is full of something else."""
    _full(site, rng, "small disk full", _own_disk)


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
