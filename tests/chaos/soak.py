"""Real nodes under faults for an hour: does anything grow?  `make soak`, or python -m tests.chaos.soak --help

One node is never killed, so that what it gathers in its life shows; all are paused and cut off, their disks
are slow, strangers come to them, and the others are killed, restarted, and lose their power.  Reports slopes
(least squares) of everything that is counted of it, over the second half of the time: LevelDB fills its
buffers and its first level before that.  After an hour or longer a slope above `FLAT` is a failure.  Of the
others it reports the most that they ever had.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import strangers
from tests.chaos.ledger import Ledger, judge
from tests.chaos.nodes import ChaosNode
from tests.chaos.offline import differences
from tests.chaos.on_links import cut_clients, cut_flapping, cut_node, cut_one_way, noise
from tests.chaos.on_machines import disk_slow, power_one
from tests.chaos.on_members import few_clients
from tests.chaos.on_processes import kill_one, pause, restart_one
from tests.chaos.site import Site
from tests.chaos.workload import Workload

EVERY = 5.0
"""Seconds between two samples."""
MIB = 1 << 20
COUNTED = ("memory_mib", "files", "threads", "disk_mib")
FLAT = {"memory_mib": 20.0, "files": 4.0, "threads": 4.0, "disk_mib": 20.0}
"""What may be added per hour, by least squares over half of one: what rises and falls has a slope, too."""
LONG = 3600.0
ENDING = (kill_one, restart_one, power_one)
"""What ends a node."""
FAULTS = (*ENDING, pause, cut_node, cut_one_way, cut_flapping, cut_clients, noise, disk_slow, few_clients)


def sample(node: ChaosNode) -> dict[str, float]:
    """Count what a node uses."""
    process = Path(f"/proc/{node.pid}")
    disk = 0
    for path in node.data.rglob("*"):
        try:
            disk += path.stat().st_size
        except FileNotFoundError:
            continue  # LevelDB has removed it
    return {
        "memory_mib": node.memory() / MIB,
        "files": len(os.listdir(process / "fd")),
        "threads": len(os.listdir(process / "task")),
        "disk_mib": disk / MIB,
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much values grow per unit of time, by least squares."""
    if len(points) < 2:
        return 0.0
    middle_t = sum(t for t, _ in points) / len(points)
    middle_v = sum(v for _, v in points) / len(points)
    spread = sum((t - middle_t) ** 2 for t, _ in points)
    return sum((t - middle_t) * (v - middle_v) for t, v in points) / spread if spread else 0.0


def summary(samples: Sequence[tuple[float, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return per thing that is counted its first, last and highest value, and its growth per hour."""
    last = samples[-1][0]
    late = [(at, found) for at, found in samples if at >= last / 2]
    return {
        name: {
            "first": round(late[0][1][name], 1),
            "last": round(late[-1][1][name], 1),
            "highest": round(max(found[name] for _, found in late), 1),
            "per_hour": round(3600 * slope([(at, found[name]) for at, found in late]), 2),
        }
        for name in COUNTED
    }


def growing(found: dict[str, dict[str, float]]) -> list[str]:
    """Return what is not flat."""
    return [
        f"{name} grows by {seen['per_hour']} per hour, more than {FLAT[name]}"
        for name, seen in found.items()
        if seen["per_hour"] > FLAT[name]
    ]


def soak(duration: float, rate: float, seed: int, out: Path) -> dict[str, object]:
    """Run; return what was seen.  `samples.ndjson` has what was counted when, and what was done behind it."""
    rng = random.Random(seed)
    ledger = Ledger()
    samples: list[tuple[float, dict[str, float]]] = []
    highest: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="dmq-soak.") as directory,
        Site(Path(directory) / "site", 3, patience=200) as site,
    ):
        first = site.nodes[0]
        load = Workload([node.address for node in site.nodes], ledger, seed, rate=rate)
        load.create()
        began, told = time.monotonic(), 0
        with load:
            # Ten thousand connections take 100 MiB once, most of which the process keeps, and the second time
            # some more: not in the middle.
            for _ in range(2):
                strangers.thousands_idle(site.network.inside(first.name), rng)
            while (at := time.monotonic() - began) < duration:
                samples.append((at, sample(first)))
                for node in site.nodes[1:]:
                    had = highest.setdefault(node.name, dict.fromkeys(COUNTED, 0.0))
                    highest[node.name] = {k: max(had[k], round(v, 1)) for k, v in sample(node).items()}
                if rng.random() < 0.3:
                    fault = rng.choice([f for f in FAULTS if site.shimmed or f not in (power_one, disk_slow)])
                    if fault in ENDING:
                        with site.reserved(first.name):
                            fault(site, rng)
                    else:
                        fault(site, rng)
                time.sleep(EVERY)
                since = [event.name for event in site.events[told:]]
                told = len(site.events)
                with (out / "samples.ndjson").open("a") as file:
                    file.write(json.dumps([round(samples[-1][0], 1), samples[-1][1], since]) + "\n")
            unwell = site.heal()
            stuck = load.end(site.patience)
        verdict = judge(ledger)
        verdict.stuck += stuck
        verdict.counters += unwell or site.heal()
        time.sleep(1)
        for node in site.nodes:
            node.kill()
        verdict.unlike += differences({node.name: node.data for node in site.nodes})
        faults: dict[str, int] = {}
        for event in site.events:
            faults[event.name] = faults.get(event.name, 0) + 1
    return {
        "seconds": round(time.monotonic() - began),
        "broken": {kind: found[:20] for kind, found in verdict.broken.items()},
        **{name: getattr(verdict, name) for name in verdict.COUNTED},
        "faults": faults,
        "growth": (growth := summary(samples)),
        "growing": growing(growth) if duration >= LONG else [],
        "highest_of_others": highest,
    }


def main() -> int:
    """Run for as long as the command line says, and print what was seen."""
    parser = argparse.ArgumentParser(description="Real nodes under faults for long: does anything grow?")
    parser.add_argument("--duration", type=float, default=3600.0, help="seconds (3600)")
    parser.add_argument("--rate", type=float, default=50.0, help="messages per second (50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/soak"), help="where samples and report go")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and end all nodes
    args.out.mkdir(parents=True, exist_ok=True)
    found = soak(args.duration, args.rate, args.seed, args.out)
    report = json.dumps(found, indent=2)
    (args.out / "report.json").write_text(report + "\n")
    print(report)
    return 1 if found["broken"] or found["growing"] else 0


if __name__ == "__main__":
    sys.exit(main())
