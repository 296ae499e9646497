"""The figures that dmq is to reach, on this machine: python benchmarks/figures.py [PART]...

    speed    throughput and latency beside one fdatasync on the same disk
    backlog  ten million messages waiting: memory, restart, latency; the same once they are acked; disk
    stuck    one message that is never acked, while five million pass
    idle     ten thousand queues that nobody uses

Each line is what was measured and, where there is one, its bound. All of it takes some minutes and some
gigabytes of disk; the options make it smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import trio
from fsync import fdatasync_seconds
from nodes import DMQ, Node, running

import dmqnode

SIZE = 100
BATCH = 4000
LOOKS = 2000
"""Receives of which a percentile is taken."""
EMPTY = 32.0
"""MiB that a store may take whatever lives in it."""
SETTLING = 60.0
"""Seconds for the disk to come back to what lives."""


def say(what: str, value: float, unit: str, most: float | None = None) -> None:
    """Print one figure, and whether it is within its bound."""
    bound = "" if most is None else f"  at most {most:,.4g} {unit}{'' if value <= most else '  MISSED'}"
    print(f"{what:<58}{value:>12,.4g} {unit:<6}{bound}", flush=True)


def share(values: list[float], part: float) -> float:
    """Return the value that `part` of them, 0 … 1, do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


# --- work ------------------------------------------------------------------------------------------------


async def fill(client: dmqnode.Client, queue: str, count: int) -> None:
    """Send `count` messages."""
    async for _ in client.send_stream(queue, repeat(os.urandom(SIZE), count)):
        pass


async def drain(client: dmqnode.Client, queue: str, count: int) -> None:
    """Receive and ack `count` messages."""
    left = count
    while left:
        messages = await client.receive(queue, max_messages=min(left, BATCH), wait=10)
        if not messages:
            raise SystemExit(f"{left} messages of {queue!r} did not come")
        await client.ack(messages)
        left -= len(messages)


async def receive_time(client: dmqnode.Client, queue: str) -> float:
    """Return the seconds that a receive of one message took; it is acked and replaced."""
    begun = time.perf_counter()
    (message,) = await client.receive(queue, wait=10)
    taken = time.perf_counter() - begun
    await message.ack()
    await client.send(queue, bytes(SIZE))
    return taken


async def compared(client: dmqnode.Client, queue: str, small: str) -> tuple[float, float]:
    """Return the p99 in ms of receives from `queue`, and from `small`, taken in turns."""
    pairs = [(await receive_time(client, queue), await receive_time(client, small)) for _ in range(LOOKS)]
    here, there = (share(list(times), 0.99) * 1e3 for times in zip(*pairs))
    return here, there


async def settled(node: Node, most: float) -> float:
    """Return the disk use in MiB once it is within `most`, or after a while what it is then."""
    until = time.monotonic() + SETTLING
    while node.disk() > most and time.monotonic() < until:  # noqa: ASYNC110 - no event comes from files
        await trio.sleep(0.5)
    return node.disk()


# --- the figures -----------------------------------------------------------------------------------------


def speed(directory: Path, args: argparse.Namespace) -> None:
    """Throughput and latency."""
    with running(directory / "speed") as node:
        disk = share(fdatasync_seconds(directory), 0.5) * 1e3
        say("one fdatasync of 4 KiB, p50", disk, "ms")
        command = [str(DMQ), "bench", "--node", node.address, "--pid", str(node.pid), "--json"]
        # The first run of anything is not what it is like.
        subprocess.run([*command, "--messages", "1000"], check=True, stdout=subprocess.DEVNULL)
        streams = ["--scenario", "stream,drain,both", "--messages", str(args.messages)]
        lines = b"".join(
            subprocess.run([*command, *more], check=True, stdout=subprocess.PIPE).stdout
            for more in (["--scenario", "send1,send64"], streams)
        )
        for line in lines.splitlines():
            found = json.loads(line)
            name = found["scenario"]
            say(f"{name}: messages per second", found["per_second"], "/s")
            say(f"{name}: CPU of the node per 100,000", found["cpu_seconds_per_100k"], "s")
            say(f"{name}: p50", found["p50_ms"], "ms", 3 * disk + 0.5 if name == "send1" else None)
            say(f"{name}: p99", found["p99_ms"], "ms")


def backlog(directory: Path, args: argparse.Namespace) -> None:
    """Many messages that wait, and then none."""
    with running(directory / "backlog") as node:
        trio.run(_backlog, node, args.backlog)


async def _backlog(node: Node, count: int) -> None:
    count -= count % 10
    async with dmqnode.connect(node.address) as client:
        for name in ("small", "big"):
            await client.create_queue(name)
        await fill(client, "small", 10)
        begun = time.perf_counter()
        await fill(client, "big", count)
        print(f"\n{count:,} messages sent in {time.perf_counter() - begun:.1f} s, now waiting")
        await _look(node, client, "waiting")
    for rest in (count // 10, 0):
        async with dmqnode.connect(node.address) as client:
            ready = (await client.queue("big"))["ready"]
            begun = time.perf_counter()
            await drain(client, "big", ready - rest)
            print(f"\n{ready - rest:,} acked in {time.perf_counter() - begun:.1f} s, {rest:,} are left")
            # An empty store has its journals, too.
            living = max(EMPTY, rest * SIZE / 2**20)
            say("disk use", await settled(node, 2 * living), "MiB", 2 * living)
    async with dmqnode.connect(node.address) as client:
        await fill(client, "big", 10)
        await _look(node, client, "acked")


async def _look(node: Node, client: dmqnode.Client, when: str) -> None:
    say(f"{when}: anonymous resident memory", node.memory(), "MiB", 150)
    big, small = await compared(client, "big", "small")
    say(f"{when}: receive p99 (a small queue: {small:.3g} ms)", big, "ms", 2 * small)
    say(f"{when}: restart until ready", node.restart(), "s", 2)
    # The first receive reads what the node had in memory before.
    async with dmqnode.connect(node.address) as again:
        say(f"{when}, restarted: first receive", await receive_time(again, "big") * 1e3, "ms")
        big, small = await compared(again, "big", "small")
        say(f"{when}, restarted: receive p99 (a small queue: {small:.3g} ms)", big, "ms", 2 * small)
        say(f"{when}, restarted: anonymous resident memory", node.memory(), "MiB", 150)


def stuck(directory: Path, args: argparse.Namespace) -> None:
    """One message that stays, while others pass."""
    with running(directory / "stuck") as node:
        trio.run(_stuck, node, args.passing)


async def _stuck(node: Node, count: int) -> None:
    piece = max(1, count // 50)
    async with dmqnode.connect(node.address) as client:
        await client.create_queue("q")
        await client.send("q", b"nobody acks me")
        (held,) = await client.receive("q", visibility=12 * 3600)
        memory, disk = [], []
        for done in range(piece, count + 1, piece):
            await fill(client, "q", piece)
            await drain(client, "q", piece)
            memory.append(node.memory())
            disk.append(node.disk())
            if done == piece * 5:
                print(f"\none message is held; {done:,} have passed")
                say("anonymous resident memory, at most", max(memory), "MiB")
                say("disk use, at most", max(disk), "MiB")
        print(f"{piece * len(memory):,} have passed")
        say("anonymous resident memory, at most", max(memory), "MiB", 150)
        say("disk use, at most", max(disk), "MiB")
        say("disk use in the end", await settled(node, EMPTY), "MiB", 2 * EMPTY)
        await held.ack()


def idle(directory: Path, args: argparse.Namespace) -> None:
    """Queues that nobody uses."""
    with running(directory / "idle") as node:
        begun = time.perf_counter()
        trio.run(_create, node, args.queues)
        print(f"\n{args.queues:,} queues made in {time.perf_counter() - begun:.1f} s")
        say("start until ready", node.restart(), "s", 5)
        say("anonymous resident memory", node.memory(), "MiB", 200)


async def _create(node: Node, count: int) -> None:
    async def create(client: dmqnode.Client, names: Iterator[str]) -> None:
        for name in names:
            await client.create_queue(name)

    names = (f"queue-{number}" for number in range(count))
    async with dmqnode.connect(node.address) as client, trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(create, client, names)


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "speed": speed,
    "backlog": backlog,
    "stuck": stuck,
    "idle": idle,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="The figures that dmq is to reach, on this machine.")
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(PARTS)} (all)")
    parser.add_argument("--messages", type=int, default=1_000_000, help="of stream and drain (1000000)")
    parser.add_argument("--backlog", type=int, default=10_000_000, help="messages that wait (10000000)")
    parser.add_argument("--passing", type=int, default=5_000_000, help="that pass a stuck one (5000000)")
    parser.add_argument("--queues", type=int, default=10_000, help="that nobody uses (10000)")
    parser.add_argument("--directory", type=Path, help="for the nodes' data (a temporary one)")
    args = parser.parse_args()
    if wrong := [part for part in args.parts if part not in PARTS]:
        parser.error(f"there is no {wrong[0]!r}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="dmq-figures-", dir=args.directory) as directory:
        for part in args.parts or PARTS:
            PARTS[part](Path(directory), args)


if __name__ == "__main__":
    try:
        main()
    except dmqnode.DMQError as error:
        raise SystemExit(f"figures: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
