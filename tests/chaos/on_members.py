"""Members that come and go, little room for them, and clients that do not behave."""

from __future__ import annotations

import random
import resource
import subprocess
from pathlib import Path

from tests.chaos import strangers
from tests.chaos.site import Fault, Site

COPIES = 3
PROMPT = 8
"""Seconds more in which careless consumers wait until one was killed that had something."""


def healthy(site: Site, rng: random.Random) -> None:
    """Wait until copies are whole: one may go."""
    site.until_healthy()


def roomy(site: Site, rng: random.Random) -> None:
    """Wait until copies are whole, on more nodes than copies: one may go for good."""
    site.until_healthy()
    site.at_least(COPIES + 1)


def join(site: Site, rng: random.Random) -> None:
    site.until_healthy()
    _join(site, rng)


def _join(site: Site, rng: random.Random) -> None:
    with site.event("join"):
        site.add()


class NotDone(AssertionError):
    """The cluster would not do what it was asked for."""

    def __init__(self, what: str, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{what} ended with {done.returncode}: {done.stderr.strip()}")


def leave(site: Site, rng: random.Random) -> None:
    roomy(site, rng)
    _leave(site, rng)


def _leave(site: Site, rng: random.Random) -> None:
    # The first stays: clients may know no other.
    with site.reserved(site.nodes[0].name), site.taken(rng) as nodes, site.event("leave", nodes[0].name):
        done = site.dmq(nodes[0], "node", "leave", "--timeout", "100s")
        if done.returncode:
            raise NotDone(f"node leave {nodes[0].name}", done)
        site.remove(nodes[0])
        nodes[0].wait()


def forget(site: Site, rng: random.Random) -> None:
    roomy(site, rng)
    _forget(site, rng)


def _forget(site: Site, rng: random.Random) -> None:
    # The first stays: clients may know no other.
    with site.reserved(site.nodes[0].name), site.taken(rng) as nodes, site.event("forget", nodes[0].name):
        other = next(n for n in site.nodes if n is not nodes[0])
        nodes[0].kill()
        done = site.dmq(other, "cluster", "forget", nodes[0].name, "--destroyed")
        if done.returncode:
            nodes[0].restart()
            raise NotDone(f"cluster forget {nodes[0].name}", done)
        site.remove(nodes[0])


def replace(site: Site, rng: random.Random) -> None:
    site.until_healthy()
    _replace(site, rng)


def _replace(site: Site, rng: random.Random) -> None:
    with site.taken(rng) as nodes, site.event("replace", nodes[0].name):
        nodes[0].kill()
        nodes[0].wipe()
        if nodes[0].machine is not None:
            nodes[0].machine.forget()
        nodes[0].restart()


def membership(site: Site, rng: random.Random) -> None:
    """Change the members while something else goes on: whoever calls has waited until there is `roomy`."""
    kinds = [_replace, *([_join, _join] if site.may_join else [])]
    if len(site.nodes) > COPIES:
        kinds += [_leave, _leave, _forget]
    try:
        rng.choice(kinds)(site, rng)
    except NotDone as why:
        # It may be cut off just then.
        with site.event("not done", str(why)):
            pass


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


def stranger(kind: str) -> Fault:
    """Return the fault that is one kind of strange client."""
    return lambda site, rng: _stranger(site, rng, kind)


def _stranger(site: Site, rng: random.Random, kind: str) -> None:
    node = rng.choice(site.nodes)
    with site.event(kind, node.name):
        strangers.KINDS[kind](site.network.inside(node.name), rng)


def out_of_memory(site: Site, rng: random.Random) -> None:
    """Give a node hardly more memory than it has: it ends, or goes on."""
    with site.taken(rng) as nodes, site.event("no more memory", nodes[0].name):
        pid = nodes[0].pid
        data = next(
            int(line.split()[1]) << 10
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmData")
        )
        limits = resource.prlimit(pid, resource.RLIMIT_DATA)
        resource.prlimit(pid, resource.RLIMIT_DATA, (data + rng.randrange(4 << 20), limits[1]))
        site.sleep(rng.uniform(2, 4))
        if nodes[0].ends_soon():
            nodes[0].kill()
            nodes[0].restart()
        else:
            resource.prlimit(pid, resource.RLIMIT_DATA, limits)


def few_clients(site: Site, rng: random.Random) -> None:
    """Let some client misbehave; those who come by the thousand do not."""
    _stranger(site, rng, rng.choice([kind for kind in strangers.KINDS if kind != "10,000 idle connections"]))


def sinners(site: Site, rng: random.Random) -> None:
    """Consumers drop, give back, ack twice, ack too late, or die before the ack, far more often than else."""
    program = site.load.program
    before = program.killed_holding if program else 0
    with site.event("careless consumers"), site.load.sinning(0.3):
        site.sleep(rng.uniform(3, 5))
        for _ in range(PROMPT):
            if program is None or program.killed_holding > before:
                break
            site.sleep(1)
