"""What a message makes each process do: python benchmarks/calls.py

Three nodes and a client that talks to the leader, each in a process.  Counted are its calls to the system, by
`perf stat` (which needs root, or kernel.perf_event_paranoid=-1), and what it encodes to CBOR, decodes, and
checks by CRC-32 (`calls_probe`), per message and less what the same time takes without any; of a stream and a
drain per 1000 messages.

    one       one send at a time
    64        64 single sends at a time
    deliver   one send at a time to a receiver that waits, and its ack
    stream    as fast as one client can
    drain     received and acked, 4000 asked for at once

Unlike times, counts can be compared from one machine to another; how much travels together depends on how
fast it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import calls_probe

own_counts = calls_probe.install(None)  # before any module of dmq takes what is counted by its name

import trio
from brokers import QUEUE
from trio_broker import Dmq

import dmqnode
from dmqnode.blocking import connect_sync

BODY = os.urandom(100)
CALLS = {
    "reads": ("read", "readv", "recvfrom", "recvmsg"),
    "writes": ("write", "sendto", "sendmsg", "writev"),
    "waits": ("epoll_wait", "poll", "ppoll"),
    "syncs": ("fdatasync", "fsync"),
    "futexes": ("futex",),
}
"""What the system is asked for -> the names of the calls."""
COLUMNS = (*CALLS, "other", *calls_probe.NAMES)
ROLES = ("client", "leader", "follower")

Work = Callable[[dmqnode.Client, int], Awaitable[None]]
Found = dict[str, Counter[str]]
"""Role -> what -> how often."""


class Counted(Dmq):
    """Nodes that count."""

    def start_node(self, number: int) -> None:
        install = f"calls_probe.install(pathlib.Path({str(self.counts(number))!r}))"
        self.program = (
            "-c",
            f"import pathlib, sys, calls_probe; {install}; from cli.running import run; run(sys.argv[1:])",
        )
        super().start_node(number)

    def counts(self, number: int) -> Path:
        """Where a node's counts are."""
        return self.directory / f"counts-{number}"


class Processes:
    """The client and the nodes, by their roles.

    Arguments:
        broker: started.
    """

    def __init__(self, broker: Counted) -> None:
        with connect_sync(*broker.addresses) as client:
            (partition,) = client.explain(QUEUE)["partitions"]
        leads = int(partition["leader"].removeprefix("n"))
        follows = next(n for n in range(3) if n != leads)
        self.leader = broker.addresses[leads]
        self._pids = [os.getpid(), broker.pids[leads], broker.pids[follows]]
        self._counts = [own_counts, *(calls_probe.counts(broker.counts(n)) for n in (leads, follows))]

    def count(self, act: Callable[[], None]) -> tuple[Found, float]:
        """Act; return what each process did meanwhile, and how many seconds it took."""
        events = [f"syscalls:sys_enter_{name}" for names in CALLS.values() for name in names]
        chosen = ",".join([*events, "raw_syscalls:sys_enter"])
        watching = [
            subprocess.Popen(
                ["perf", "stat", "-x", ",", "-e", chosen, "-p", str(pid)], stderr=subprocess.PIPE, text=True
            )
            for pid in self._pids
        ]
        time.sleep(BEFORE)  # perf says nothing when it has begun; what it misses is the same without messages
        before = [list(one) for one in self._counts]
        begun = time.perf_counter()
        act()
        taken = time.perf_counter() - begun
        found: Found = {}
        for role, watch, counted, first in zip(ROLES, watching, self._counts, before):
            own = Counter(dict(zip(calls_probe.NAMES, (now - then for now, then in zip(counted, first)))))
            watch.send_signal(2)
            found[role] = own + system_calls(watch.communicate()[1])
        return found, taken


def system_calls(report: str) -> Counter[str]:
    """Return how often each kind of call was made, from what perf says."""
    by_name = {}
    for line in report.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdecimal():
            by_name[fields[2].rpartition("sys_enter")[2].lstrip("_")] = int(fields[0])
    if "" not in by_name:
        raise SystemExit(f"calls: perf cannot count calls to the system; run as root: {report[:200]}")
    found = Counter({kind: sum(by_name.get(name, 0) for name in names) for kind, names in CALLS.items()})
    found["other"] = by_name[""] - sum(found.values())
    return found


# --- work -------------------------------------------------------------------------------------------------


async def one(client: dmqnode.Client, count: int) -> None:
    for _ in range(count):
        await client.send(QUEUE, BODY)


async def many(client: dmqnode.Client, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for at in range(64):
            nursery.start_soon(one, client, count // 64 + (at < count % 64))


async def deliver(client: dmqnode.Client, count: int) -> None:
    async def receive() -> None:
        async with trio.open_nursery() as acks:
            for came in arrived:
                (message,) = await client.receive(QUEUE, wait=10)
                acks.start_soon(message.ack)
                came.set()

    arrived = [trio.Event() for _ in range(count)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        for came in arrived:
            await client.send(QUEUE, BODY)
            await came.wait()


async def stream(client: dmqnode.Client, count: int) -> None:
    async for _ in client.send_stream(QUEUE, (BODY for _ in range(count))):
        pass


async def drain(client: dmqnode.Client, count: int) -> None:
    got = 0
    async with trio.open_nursery() as nursery:
        while got < count:
            messages = await client.receive(QUEUE, max_messages=min(4000, count - got), wait=10)
            got += len(messages)
            nursery.start_soon(client.ack, messages)


PARTS: tuple[tuple[str, Work, int], ...] = (
    ("one", one, 1),
    ("64", many, 4),
    ("", drain, 5),
    ("deliver", deliver, 1),
    ("stream/1000", stream, 100),
    ("drain/1000", drain, 100),
)
"""Name, what is done, and with how many times `--messages`; what has no name is not told."""
BEFORE = 0.5
"""Seconds for which calls are counted before there are messages."""


def connected(leader: str, work: Work, count: int) -> None:
    """Do work as a client of the leader."""

    async def run() -> None:
        async with dmqnode.connect(leader) as client:
            await client.queues()  # connects
            await work(client, count)

    trio.run(run)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a message makes each process do.")
    parser.add_argument("--messages", type=int, default=1000, help="sent one by one; many: more (1000)")
    args = parser.parse_args()
    if not shutil.which("perf"):
        raise SystemExit("calls: needs perf (Debian: linux-perf)")
    with tempfile.TemporaryDirectory(prefix="dmq-calls-") as directory:
        broker = Counted(Path(directory))
        try:
            broker.start()
            processes = Processes(broker)
            idle, seconds = processes.count(lambda: time.sleep(5))
            print(f"{'per message':22}" + "".join(f"{name:>10}" for name in COLUMNS), flush=True)
            for name, work, times in PARTS:
                count = times * args.messages
                found, taken = processes.count(partial(connected, processes.leader, work, count))
                for role in ROLES if name else ():
                    rest = {what: idle[role][what] / seconds * (taken + BEFORE) for what in COLUMNS}
                    per = 1000 if times > 10 else 1
                    each = [max(0.0, found[role][what] - rest[what]) / count * per for what in COLUMNS]
                    print(f"{name:12}{role:10}" + "".join(f"{one:>10.2f}" for one in each), flush=True)
        finally:
            broker.stop()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
