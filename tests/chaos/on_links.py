"""What can be done to links: cut in every shape, and spoiled."""

from __future__ import annotations

import random

from tests.chaos.network import CUT
from tests.chaos.proxy import CLIENT, FINE, Trouble
from tests.chaos.site import Fault, Site


def _names(site: Site, rng: random.Random) -> list[str]:
    names = [node.name for node in site.nodes]
    return rng.sample(names, len(names))


def _mend(site: Site, names: list[str]) -> None:
    ends = [*names, CLIENT]
    site.network.spoil(ends, ends, tcp=FINE, udp=FINE)


def _while_cut(site: Site, rng: random.Random, shape: str, names: list[str], detail: str) -> None:
    with site.event(shape, detail):
        site.sleep(rng.choice((0.3, 1.0, 2.5, 4.0, 7.0)))
        _mend(site, names)


def cut_node(site: Site, rng: random.Random) -> None:
    first, *others = names = _names(site, rng)
    site.network.part([first], others)
    _while_cut(site, rng, "cut one node", names, first)


def cut_halves(site: Site, rng: random.Random) -> None:
    names = _names(site, rng)
    half = len(names) // 2
    site.network.part(names[:half], names[half:])
    _while_cut(site, rng, "cut in halves", names, f"{' '.join(names[:half])} | {' '.join(names[half:])}")


def cut_all(site: Site, rng: random.Random) -> None:
    names = _names(site, rng)
    site.network.part(names, names)
    _while_cut(site, rng, "cut all from all", names, "")


def reach_of(nodes: int) -> int:
    """Return how many neighbours on each side make a majority, with the node itself."""
    return (nodes // 2 + 1) // 2


def cut_ring(site: Site, rng: random.Random) -> None:
    """Each sees a majority, no two the same; of three each would see all."""
    site.at_least(4)
    names = _names(site, rng)
    reach = reach_of(len(names))
    for n, name in enumerate(names):
        near = {names[(n + d) % len(names)] for d in range(-reach, reach + 1)}
        site.network.part([name], [other for other in names if other not in near])
    _while_cut(site, rng, "ring of majorities", names, " ".join(names))


def cut_bridge(site: Site, rng: random.Random) -> None:
    bridge, *others = names = _names(site, rng)
    half = len(others) // 2
    site.network.part(others[:half], others[half:])
    _while_cut(site, rng, "bridge", names, bridge)


def cut_one_way(site: Site, rng: random.Random) -> None:
    first, *others = names = _names(site, rng)
    ways = ([first], others) if rng.random() < 0.5 else (others, [first])
    site.network.spoil(*ways, tcp=CUT, udp=CUT)
    _while_cut(site, rng, "one way", names, f"{' '.join(ways[0])} > {' '.join(ways[1])}")


def cut_udp(site: Site, rng: random.Random) -> None:
    names = _names(site, rng)
    some = names[: rng.choice((1, len(names)))]
    site.network.spoil(some, names, udp=CUT)
    _while_cut(site, rng, "UDP only", names, " ".join(some))


def cut_tcp(site: Site, rng: random.Random) -> None:
    first, *others = names = _names(site, rng)
    site.network.spoil([first], others, tcp=CUT)
    site.network.spoil(others, [first], tcp=CUT)
    _while_cut(site, rng, "TCP only", names, first)


def cut_flapping(site: Site, rng: random.Random) -> None:
    first, *others = names = _names(site, rng)
    with site.event("flapping", first):
        for _ in range(rng.randint(3, 8)):
            site.network.part([first], others)
            site.sleep(rng.uniform(0.05, 0.8))
            _mend(site, names)
            site.sleep(rng.uniform(0.05, 0.8))


def cut_clients(site: Site, rng: random.Random) -> None:
    names = _names(site, rng)
    some = names[: rng.randint(1, len(names))]
    both = rng.random() < 0.5
    site.network.spoil(some, [CLIENT], tcp=CUT)
    if both:
        site.network.spoil([CLIENT], some, tcp=CUT)
    _while_cut(site, rng, "clients cut off", names, " ".join(some))


PARTITIONS: tuple[Fault, ...] = (
    cut_node, cut_halves, cut_all, cut_ring, cut_bridge, cut_one_way, cut_udp, cut_tcp, cut_flapping,
    cut_clients,
)  # fmt: skip


def partition(site: Site, rng: random.Random) -> None:
    rng.choice(PARTITIONS)(site, rng)


NOISE = {
    "loss 1 %": Trouble(loss=0.01),
    "loss 10 %": Trouble(loss=0.1),
    "loss 30 %": Trouble(loss=0.3),
    "delay 100±50 ms": Trouble(delay=0.1, jitter=0.05),
    "reordering": Trouble(reorder=0.3, jitter=0.02, delay=0.02),
    "duplication": Trouble(duplicate=0.3),
    "everything": Trouble(loss=0.1, delay=0.03, jitter=0.03, reorder=0.1, duplicate=0.1),
}

NOISE_NAMES = {
    "loss-1": "loss 1 %",
    "loss-10": "loss 10 %",
    "loss-30": "loss 30 %",
    "delay": "delay 100±50 ms",
    "reordering": "reordering",
    "duplication": "duplication",
}
"""Classes of faults, and which noise each is."""


def noise_of(name: str) -> Fault:
    """Return the fault that is one kind of noise on the links of one node or of all."""
    return lambda site, rng: _noise(site, rng, name)


def _noise(site: Site, rng: random.Random, name: str) -> None:
    names = _names(site, rng)
    some = names[: rng.choice((1, len(names)))]
    with site.event(name, " ".join(some)):
        site.network.spoil(some, [*names, CLIENT], tcp=NOISE[name], udp=NOISE[name])
        site.network.spoil([*names, CLIENT], some, tcp=NOISE[name], udp=NOISE[name])
        site.sleep(rng.uniform(2, 6))
        _mend(site, names)


def noise(site: Site, rng: random.Random) -> None:
    _noise(site, rng, rng.choice(list(NOISE)))
