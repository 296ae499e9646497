"""The classes of faults: what is done to nodes and the links between them, and undone after a while."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

from tests.chaos.on_links import (
    NOISE_NAMES,
    cut_all,
    cut_bridge,
    cut_clients,
    cut_flapping,
    cut_halves,
    cut_node,
    cut_one_way,
    cut_ring,
    cut_tcp,
    cut_udp,
    noise,
    noise_of,
    partition,
)  # fmt: skip
from tests.chaos.on_machines import (
    clock_by,
    damage_all,
    damage_of,
    damaged_at_once,
    disk_fails,
    disk_full,
    disk_slow,
    disk_small,
    lose_most,
    power_all,
    power_one,
    power_several,
)  # fmt: skip
from tests.chaos.on_members import (
    few_files,
    forget,
    healthy,
    join,
    leave,
    little_memory,
    membership,
    out_of_memory,
    replace,
    roomy,
    sinners,
    stranger,
)  # fmt: skip
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
from tests.chaos.site import Event, Fault, Site


def both(one: Fault, other: Fault, *, first: Fault | None = None) -> Fault:
    """Return a fault that does both at the same time, after what must be done before either."""

    def together(site: Site, rng: random.Random) -> None:
        if first is not None:
            first(site, rng)
        before = len(site.events)
        seeds = [random.Random(rng.getrandbits(64)) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            began = pool.submit(one, site, seeds[0])
            site.sleep(rng.uniform(0, 0.3))
            joined = pool.submit(other, site, seeds[1])
            began.result()
            joined.result()
        with site.event("both at once" if overlap(site.events[before:]) else "one after the other"):
            pass

    return together


def overlap(events: Sequence[Event]) -> bool:
    """Whether two of them, of different names, were under way at the same time."""
    return any(
        a.name != b.name and a.began < b.ended and b.began < a.ended for a, b in combinations(events, 2)
    )


def one_of(*faults: Fault) -> Fault:
    """Return a fault that is one of these."""
    return lambda site, rng: rng.choice(faults)(site, rng)


STRANGERS = {"garbage": "garbage", "oversized": "oversized frames", "slow-reader": "slow reader"}
STEADY: dict[str, Fault | None] = {"none": None, "rolling": rolling, "join": join, "leave": leave}
"""Classes in which nothing is delivered twice where they are all that happens (P4)."""
PROCESSES: dict[str, Fault | None] = {
    "kill-one": kill_one,
    "kill-minority": kill_minority,
    "kill-majority": kill_majority,
    "kill-all": kill_all,
    "crash-loop": crash_loop,
    "pause": pause,
    "forget": forget,
    "replace": replace,
    "few-files": few_files,
    "little-memory": little_memory,
    "no-memory": out_of_memory,
    "careless-consumers": sinners,
    **{name: stranger(kind) for name, kind in STRANGERS.items()},
    "kill+pause": both(kill_one, pause),
}
LINKS: dict[str, Fault | None] = {
    "cut-node": cut_node,
    "cut-halves": cut_halves,
    "cut-all": cut_all,
    "cut-ring": cut_ring,
    "cut-bridge": cut_bridge,
    "cut-one-way": cut_one_way,
    "cut-udp": cut_udp,
    "cut-tcp": cut_tcp,
    "cut-flapping": cut_flapping,
    "cut-clients": cut_clients,
    "pause+partition": both(pause, partition),
    "partition+membership": both(partition, membership, first=roomy),
}
NOISES: dict[str, Fault | None] = {name: noise_of(kind) for name, kind in NOISE_NAMES.items()}
DISKS: dict[str, Fault | None] = {
    "store-truncated": damage_of("truncated"),
    "store-flipped": damage_of("flipped"),
    "store-removed": damage_of("file removed"),
    "store-wiped": damage_of("wiped"),
    "damage+kill": both(damaged_at_once, kill_one, first=healthy),
    "power-one": power_one,
    "power-several": power_several,
    "power-all": power_all,
    "disk-fails": disk_fails,
    "disk-full": disk_full,
    "disk-slow": disk_slow,
    "clock": clock_by(0.1, 1.0, 3.0, 5.0),
}
LONG: dict[str, Fault | None] = {
    "pause-long": pause_long,
    "idle-connections": stranger("10,000 idle connections"),
    "disk-small": disk_small,
}
CLOCKS: dict[str, Fault | None] = {
    "clock-minute": clock_by(30.0, 60.0, 300.0),
    "clock-hour": clock_by(3600.0),
    "clock-day": clock_by(86400.0),
}
BEYOND: dict[str, Fault | None] = {"damage-all": damage_all, "lose-most": lose_most}
"""Classes that may leave no intact copy: what is missing then must be named."""
GROUPS = {
    "steady": STEADY, "processes": PROCESSES, "links": LINKS, "noise": NOISES, "disks": DISKS, "long": LONG,
    "clocks": CLOCKS, "beyond": BEYOND,
}  # fmt: skip
"""Classes that may follow one another in one round."""
CLASSES = {name: fault for group in GROUPS.values() for name, fault in group.items()}
"""What a campaign goes through."""
DAMAGES = (*BEYOND, *(n for n in DISKS if n not in ("disk-full", "disk-slow", "clock")), "short")
"""Classes after which something may be kept aside: files are damaged, or end in noise."""
NEED_PROXY = {*NOISES, "mixed"}
"""Classes in which links are not only cut."""
NEED_SHIM = tuple(name for name in (*DISKS, *CLOCKS) if not name.startswith(("store-", "damage")))
"""Classes that need a C compiler for the shim."""
NEED_SMALL = ("disk-small",)
"""Classes in which each node has a small disk of its own."""


def short(site: Site, rng: random.Random) -> None:
    """One after the other, a little of what is most likely to happen."""
    for fault in (kill_one, cut_node, pause, power_all if site.shimmed else kill_all):
        fault(site, rng)
        site.sleep(1)


PARTS: dict[str, Fault | None] = {
    "short": short,
    "mixed": one_of(kill_one, kill_all, pause, rolling, partition, noise),
    "partition": partition,
}
"""What single tests use."""
