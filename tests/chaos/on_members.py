"""Members that come and go, little room for them, and clients that do not behave."""

from __future__ import annotations

import random

from tests.chaos import strangers
from tests.chaos.site import Site


def membership(site: Site, rng: random.Random) -> None:
    kinds = ["replace"]
    if site.may_join:
        kinds += ["join", "join"]
    if len(site.nodes) > 3:
        kinds += ["leave", "leave", "forget"]
    kind = rng.choice(kinds)
    site.until_healthy()
    if kind == "join":
        with site.event("join"):
            site.add()
        return
    with site.taken(rng) as nodes:
        node = nodes[0]
        other = next(n for n in site.nodes if n is not node)
        with site.event(kind, node.name):
            if kind == "leave":
                done = site.dmq(node, "node", "leave", "--timeout", "40s")
                if done.returncode == 0:
                    site.remove(node)
                    node.wait()
                return
            node.kill()
            if kind == "forget":
                done = site.dmq(other, "cluster", "forget", node.name, "--destroyed")
                if done.returncode == 0:
                    site.remove(node)
                else:
                    node.restart()
                return
            node.wipe()
            if node.machine is not None:
                node.machine.forget()
            node.restart()


def limits(site: Site, rng: random.Random) -> None:
    with site.taken(rng) as nodes, site.event("few file descriptors", nodes[0].name):
        node = nodes[0]
        node.stop()
        node.limits = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]
        try:
            node.restart()
            with strangers.idle(node.address, 100):
                site.sleep(rng.uniform(2, 4))
        finally:
            node.limits = []
            node.kill()
            node.restart()


def clients(site: Site, rng: random.Random) -> None:
    kind = rng.choice(list(strangers.KINDS))
    node = rng.choice(site.nodes)
    with site.event(kind, node.name):
        strangers.KINDS[kind](node.address, rng)
