"""How membership behaves at several sizes and losses, in the simulator: python benchmarks/gossip.py

Prints one line per size and loss:

    first   from a crash until the first member declares it, seconds: median and longest
    all     from a crash until every member knows, seconds: median and longest
    spread  from the first declaration until every member knows, seconds: median
    false   members that were well and declared dead, and in how many hours of all members' time together
    B/s     bytes that each node sends per second in quiet times, datagrams and states
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

# This file has the name of the package it measures, so its own directory must not come first.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from gossip.config import SwimConfig
from gossip.messages import Status
from tests.gossip.world import Network, World

LOSSES = (0.0, 0.01, 0.05, 0.1)
SIZES = {3: (3600, 40), 7: (3600, 40), 50: (600, 10), 200: (60, 5)}
"""Members: (quiet seconds, crashes); one core does the largest in a minute or two for each loss."""
HEAD = "members loss  first s (max) all s (max) spread s false deaths   B/s"


@dataclass
class Figures:
    """What one size and loss gave."""

    first: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)
    false: int = 0
    hours: float = 0.0
    bytes: float = 0.0


def declared(world: World) -> int:
    """Return how many members were declared dead so far."""
    return sum(node.swim.counters.deaths for node in world.nodes.values())


def measure(members: int, loss: float, quiet: float, crashes: int) -> Figures:
    """Let a cluster be quiet, then crash and restart its members."""
    figures = Figures()
    world = World(members, SwimConfig.lan(), Network(loss=loss))
    names = world.cluster(members)
    world.run(30)
    before, bytes_before = declared(world), world.bytes
    world.run(quiet)
    figures.false = declared(world) - before
    figures.hours = quiet * members / 3600
    figures.bytes = (world.bytes - bytes_before) / quiet / members
    chance = random.Random(members)
    for _ in range(crashes):
        name = chance.choice(names)
        start = world.time
        world.crash(name)
        if not world.until(lambda name=name: world.all_see(name, Status.DEAD), 60):  # type: ignore[misc]
            raise SystemExit(f"a crash was not known to all within 60 s: {members} members, loss {loss}")
        times = [seen.time - start for seen in world.deaths([name], since=start)]
        figures.first.append(min(times))
        figures.all.append(max(times))
        world.start(name)
        world.until(world.agreed, 30)
        world.run(chance.uniform(1, 3))
    return figures


def line(members: int, loss: float, figures: Figures) -> str:
    """Return one line of the table."""
    spread = [last - first for first, last in zip(figures.first, figures.all)]
    false = f"{figures.false} in {figures.hours:.2g} h"
    return (
        f"{members:7}  {loss:3.0%}  {statistics.median(figures.first):7.1f} ({max(figures.first):.1f})"
        f"  {statistics.median(figures.all):4.1f} ({max(figures.all):.1f})"
        f"  {statistics.median(spread):7.2f}  {false:>11}  {figures.bytes:4.0f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How membership behaves, in the simulator.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time and of the crashes")
    parser.add_argument("--members", type=int, action="append", help="only this size (repeatable)")
    parser.add_argument("--loss", type=float, action="append", help="only this share is lost (repeatable)")
    parser.add_argument("--quiet", type=float, metavar="SECONDS", help="of quiet, instead of the size's own")
    parser.add_argument("--crashes", type=int, help="instead of the size's own")
    arguments = parser.parse_args()
    share = 10 if arguments.quick else 1
    print(HEAD, flush=True)
    for members, (quiet, crashes) in SIZES.items():
        if arguments.members is None or members in arguments.members:
            seconds, count = arguments.quiet or quiet / share, arguments.crashes or max(2, crashes // share)
            for loss in arguments.loss or LOSSES:
                print(line(members, loss, measure(members, loss, seconds, count)), flush=True)


if __name__ == "__main__":
    main()
