"""Members that come and go, little room for them, and clients that do not behave."""

from __future__ import annotations

import random
import resource
from pathlib import Path

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


def few_files(site: Site, rng: random.Random) -> None:
    with site.taken(rng) as nodes, site.event("few file descriptors", nodes[0].name):
        pid = nodes[0].pid
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + rng.randrange(4), limits[1]))
        try:
            with strangers.idle(site.network.inside(nodes[0].name), 100):
                site.sleep(rng.uniform(2, 4))
        finally:
            # A node that could not open a file of its store has ended.
            if nodes[0].ends_soon():
                nodes[0].kill()
                nodes[0].restart()
            else:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def little_memory(site: Site, rng: random.Random) -> None:
    with site.taken(rng) as nodes, site.event("little memory", nodes[0].name):
        nodes[0].stop()
        nodes[0].restart(memory_limit="64MiB")
        site.sleep(rng.uniform(2, 4))
        nodes[0].stop()
        nodes[0].restart(memory_limit="512MiB")


def limits(site: Site, rng: random.Random) -> None:
    rng.choice((few_files, few_files, little_memory))(site, rng)


def clients(site: Site, rng: random.Random) -> None:
    kind = rng.choice(list(strangers.KINDS))
    node = rng.choice(site.nodes)
    with site.event(kind, node.name):
        strangers.KINDS[kind](site.network.inside(node.name), rng)
