"""Where the time of one send goes, hop by hop, beside what it takes at least: python benchmarks/hops.py

Three nodes and a client, each in a process, note when they read, write to a connection, and write to their
disks (`hop_probe`); one message is under way at a time, and 2 ms are between them.  Told are the medians of
the sends in which each process did what a send needs and nothing else; what a note costs, about 0.3 µs, is in
them.  Least: half a round trip over loopback, a synced write of LevelDB, and the head of each message to CBOR
and back, as `limits` measures them.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hop_probe
import trio
from brokers import QUEUE
from hop_probe import READ, SYNCED, SYNCING, WRITING, WRITTEN, Note
from limits import encode, loopback, write
from trio_broker import Dmq

import dmqnode
from dmqnode.blocking import connect_sync

BODY = os.urandom(100)
PAUSE = 0.002
"""Seconds between two sends: what comes of one is over by then."""


class Noted(Dmq):
    """Nodes that take notes."""

    def start_node(self, number: int) -> None:
        install = f"hop_probe.install(pathlib.Path({str(self.log(number))!r}))"
        self.program = (
            "-c",
            f"import pathlib, sys, hop_probe; {install}; from cli.running import run; run(sys.argv[1:])",
        )
        super().start_node(number)

    def log(self, number: int) -> Path:
        """Where a node's notes are once it has ended."""
        return self.directory / f"notes-{number}"

    def leader(self) -> int:
        """Return the number of the node that leads the queue's partition."""
        with connect_sync(*self.addresses) as client:
            (partition,) = client.explain(QUEUE)["partitions"]
        return int(partition["leader"].removeprefix("n"))


def send(broker: Noted, leader: int, count: int) -> list[tuple[int, int]]:
    """Send to the leader, one by one; return when each began and was answered, in nanoseconds."""
    found = []

    async def work() -> None:
        async with dmqnode.connect(broker.addresses[leader]) as client:
            for _ in range(count):
                begun = time.perf_counter_ns()
                await client.send(QUEUE, BODY)
                found.append((begun, time.perf_counter_ns()))
                await trio.sleep(PAUSE)

    trio.run(work)
    return found


def between(notes: Sequence[Note], begun: int, ended: int) -> list[Note]:
    """Return what was noted in a time."""
    return list(notes[bisect_left(notes, (begun,)) : bisect_left(notes, (ended,))])


def times(notes: list[Note], what: int) -> list[int]:
    return [at for at, kind, _ in notes if kind == what]


def hops(span: tuple[int, int], client: list[Note], led: list[Note], followed: list[list[Note]]) -> list[int]:
    """Return the nanoseconds of each hop of one send; [] if somebody did something else meanwhile."""
    begun, ended = span
    read, writing, written = times(led, READ), times(led, WRITING), times(led, WRITTEN)
    syncing, synced = times(led, SYNCING), times(led, SYNCED)
    usual = len(read), len(writing), len(syncing)
    if usual != (3, 3, 1) or any(len(times(f, READ)) * len(times(f, SYNCED)) != 1 for f in followed):
        return []
    sent, answered = times(client, WRITTEN), [at for at in times(client, READ) if at < ended]
    if len(sent) != 1 or len(answered) != 1:
        return []
    # The follower that is heard first is the one whose answer left first.
    follower = min(followed, key=lambda notes: times(notes, WRITTEN)[-1:] or [ended])
    if len(times(follower, WRITING)) != 1:
        return []
    came, stored = times(follower, READ)[0], times(follower, SYNCED)[0]
    links = sorted(written)[:2]
    known = max(read[1], synced[0])
    return [
        sent[0] - begun,
        read[0] - sent[0],
        links[0] - read[0],
        synced[0] - syncing[0],
        came - links[0],
        times(follower, SYNCING)[0] - came,
        stored - times(follower, SYNCING)[0],
        times(follower, WRITTEN)[0] - stored,
        read[1] - times(follower, WRITTEN)[0],
        written[2] - known,
        answered[0] - written[2],
        ended - answered[0],
        ended - begun,
    ]


def least() -> list[float]:
    """Return the seconds that each hop takes at least; 0 where nothing but the interpreter is."""
    way, coded = loopback() / 2, encode()
    with tempfile.TemporaryDirectory() as place:
        synced = write(Path(place), sync=True)
    own = [coded, way, coded, synced, way, coded, synced, coded, way, coded, way, coded]
    return [*own, sum(own) - synced]


NAMES = (
    "client: the call, until the system has the frame",
    "on the way to the leader",
    "leader: read, until a follower's link has the entry",
    "leader: its own write, synced (beside the next five)",
    "on the way to the follower",
    "follower: read, until its write begins",
    "follower: its write, synced",
    "follower: written, until the link has the answer",
    "on the way to the leader",
    "leader: two have it, until the system has the answer",
    "on the way to the client",
    "client: read, until the call returns",
    "the whole send",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of one send goes.")
    parser.add_argument("--sends", type=int, default=3000, help="(3000)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dmq-hops-") as directory:
        broker = Noted(Path(directory))
        try:
            broker.start()
            leader = broker.leader()
            hop_probe.install()
            spans = send(broker, leader, args.sends)
        finally:
            broker.stop()
        notes = [pickle.loads(broker.log(number).read_bytes()) for number in range(3)]
    own = list(hop_probe.notes)
    found = []
    for begun, ended in spans:
        late = ended + int(PAUSE * 0.8e9)
        others = [between(notes[n], begun, late) for n in range(3) if n != leader]
        found.append(
            hops((begun, ended), between(own, begun, ended), between(notes[leader], begun, late), others)
        )
    kept = [one for one in found if one]
    if not kept:
        raise SystemExit("hops: in no send did every process do just what a send needs; try again")
    print(f"{len(kept):,} of {len(found):,} sends\n{'':56}{'µs':>8}{'least':>8}")
    for name, taken, limit in zip(NAMES, zip(*kept), least()):
        print(f"{name:56}{statistics.median(taken) / 1e3:>8.0f}{limit * 1e6:>8.0f}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
