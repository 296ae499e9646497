"""The classes of faults: what is done to nodes and the links between them, and undone after a while."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.on_links import cut_node, noise, partition
from tests.chaos.on_machines import clock, damaged, disk_fails, disk_full, disk_slow, power, power_all
from tests.chaos.on_members import clients, limits, membership
from tests.chaos.on_processes import (
    crash_loop,
    kill_all,
    kill_majority,
    kill_minority,
    kill_one,
    pause,
    pause_long,
    rolling,
)  # fmt: skip
from tests.chaos.site import Fault, Site


def both(one: Fault, other: Fault) -> Fault:
    """Return a fault that does both at the same time."""

    def together(site: Site, rng: random.Random) -> None:
        seeds = [random.Random(rng.getrandbits(64)) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(one, site, seeds[0])
            site.sleep(rng.uniform(0, 1))
            second = pool.submit(other, site, seeds[1])
            first.result()
            second.result()

    return together


def one_of(*faults: Fault) -> Fault:
    """Return a fault that is one of these."""
    return lambda site, rng: rng.choice(faults)(site, rng)


CLASSES: dict[str, Fault | None] = {
    "none": None,
    "kill": one_of(kill_one, kill_one, kill_minority, kill_majority, kill_all, crash_loop),
    "pause": pause,
    "pause-long": pause_long,
    "rolling": rolling,
    "partition": partition,
    "noise": noise,
    "damage": damaged,
    "power": power,
    "power-all": power_all,
    "disk-full": disk_full,
    "disk-slow": disk_slow,
    "disk-fails": disk_fails,
    "clock": clock,
    "membership": membership,
    "limits": limits,
    "clients": clients,
    "kill+pause": both(kill_one, pause),
    "pause+partition": both(pause, partition),
    "partition+membership": both(partition, membership),
    "damage+kill": both(damaged, kill_one),
}
"""What a campaign goes through."""

NEED_SHIM = ("power", "power-all", "disk-full", "disk-slow", "disk-fails", "clock")
"""Classes that need a C compiler for the shim."""


def short(site: Site, rng: random.Random) -> None:
    """One after the other, a little of what is most likely to happen."""
    for fault in (kill_one, cut_node, pause, power_all if site.shimmed else kill_all):
        fault(site, rng)
        site.sleep(1)


PARTS: dict[str, Fault | None] = {
    "short": short,
    "mixed": one_of(kill_one, kill_all, pause, rolling, partition, noise),
    "kill-one": kill_one,
    "kill-all": kill_all,
    "cut-node": cut_node,
}
"""What single tests use."""
