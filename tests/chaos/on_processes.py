"""What can be done to processes: killed, paused, restarted."""

from __future__ import annotations

import random

from tests.chaos.site import Site, at_once, listed


def _kill(site: Site, rng: random.Random, count: int, name: str) -> None:
    with site.taken(rng, count) as nodes, site.event(name, listed(nodes)):
        at_once(nodes)
        site.sleep(rng.uniform(0.1, 4))
        for node in nodes:
            node.begin()
        for node in nodes:
            node.wait_ready()


def kill_one(site: Site, rng: random.Random) -> None:
    _kill(site, rng, 1, "kill one")


def kill_minority(site: Site, rng: random.Random) -> None:
    _kill(site, rng, max(1, (len(site.nodes) - 1) // 2), "kill a minority")


def kill_majority(site: Site, rng: random.Random) -> None:
    _kill(site, rng, len(site.nodes) // 2 + 1, "kill a majority")


def kill_all(site: Site, rng: random.Random) -> None:
    _kill(site, rng, len(site.nodes), "kill all")


def crash_loop(site: Site, rng: random.Random) -> None:
    with site.taken(rng) as nodes, site.event("crash loop", nodes[0].name):
        for _ in range(4):
            nodes[0].kill()
            nodes[0].begin()
            site.sleep(1)
        nodes[0].wait_ready()


def pause(site: Site, rng: random.Random) -> None:
    seconds = rng.choice((0.1, 0.5, 1.5, 2.5, 4.0, 8.0))
    count = rng.choice((1, 1, 1, 2, len(site.nodes)))
    with (
        site.taken(rng, count) as nodes,
        site.event("pause", f"{listed(nodes)} {seconds} s"),
    ):
        for node in nodes:
            node.pause()
        site.sleep(seconds)
        for node in nodes:
            node.go_on()


def pause_long(site: Site, rng: random.Random) -> None:
    seconds = rng.uniform(15, 60)
    with site.taken(rng) as nodes, site.event("long pause", f"{nodes[0].name} {seconds:.0f} s"):
        nodes[0].pause()
        site.sleep(seconds)
        nodes[0].go_on()


def rolling(site: Site, rng: random.Random) -> None:
    for node in list(site.nodes):
        with site.event("restart", node.name):
            node.stop()
            node.restart()
        site.sleep(rng.uniform(0, 2))


def restart_one(site: Site, rng: random.Random) -> None:
    with site.taken(rng) as nodes, site.event("restart", nodes[0].name):
        nodes[0].stop()
        nodes[0].restart()
