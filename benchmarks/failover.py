"""How long a cluster is without an answer when a node goes: python benchmarks/failover.py [--rounds N]

Three nodes on this machine, three copies, two of them synced before every answer, one sender for each node
and one receiver, and if asked for clients that send and receive all that the machine bears in another queue.
Again and again a node is killed (SIGKILL), stopped (SIGTERM) or paused (SIGSTOP, for up to 5 s), and started
again.  Prints how long sends and receives had no answer, and what became of the messages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dmqnode.blocking import connect_sync
from dmqnode.candidates import SETTLED
from dmqnode.errors import DMQError
from tests.load import Load, longest_gap
from tests.processes import NodeProcess, running_node

BATCH = 2000
"""Messages in one request of the bulk."""


class Bulk:
    """Clients that send, receive and ack as fast as they can.

    Arguments:
        addresses: of the nodes.
        queue: exists.
        clients: how many.
    """

    def __init__(self, addresses: list[str], queue: str, clients: int) -> None:
        self._addresses, self._queue = addresses, queue
        self._stop = threading.Event()
        self._began = time.monotonic()
        self.sent = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Bulk:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def rate(self) -> int:
        """Messages a second, so far."""
        return round(self.sent / (time.monotonic() - self._began))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._go_on()
            except DMQError:
                time.sleep(0.05)

    def _go_on(self) -> None:
        with connect_sync(*self._addresses) as client:
            while not self._stop.is_set():
                client.send_many(self._queue, [b"x" * 100] * BATCH)
                self.sent += BATCH
                client.ack(client.receive(self._queue, max_messages=BATCH))


def leader(nodes: list[NodeProcess], queue: str) -> NodeProcess:
    """Return the node that leads the first partition of a queue."""
    with connect_sync(*(node.address for node in nodes)) as client:
        name = client.explain(queue)["partitions"][0]["leader"]
    return next(node for number, node in enumerate(nodes, 1) if name == f"n{number}")


def strike(node: NodeProcess, how: str, rng: random.Random) -> None:
    """Take a node away for a while."""
    if how == "kill":
        node.kill()
        time.sleep(rng.uniform(2.5, 4))
        node.restart()
    elif how == "stop":
        node.stop()
        time.sleep(rng.uniform(0.2, 1))
        node.restart()
    else:
        os.kill(node.pid, signal.SIGSTOP)
        time.sleep(rng.uniform(0.2, 5))
        os.kill(node.pid, signal.SIGCONT)


def figures(gaps: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the longest, seconds."""
    known = sorted(gaps)
    at = {"p50": 0.5, "p99": 0.99}
    out = {name: round(known[min(len(known) - 1, int(len(known) * p))], 3) for name, p in at.items()}
    return {**out, "max": round(known[-1], 3)}


def measure(rounds: int, how: str, bulk: int, seed: int) -> dict[str, object]:
    """Run the rounds; return what was seen."""
    rng = random.Random(seed)
    directory = Path(tempfile.mkdtemp(prefix="dmq-failover."))
    sends: list[float] = []
    receives: list[float] = []
    with ExitStack() as stack:
        nodes = [stack.enter_context(running_node(directory / "1", name="n1"))]
        for number in (2, 3):
            joining = running_node(directory / str(number), name=f"n{number}", join=[nodes[0].address])
            nodes.append(stack.enter_context(joining))
        with connect_sync(nodes[0].address) as client:
            client.create_queue("q")
            client.create_queue("bulk")
        addresses = [node.address for node in nodes]
        time.sleep(SETTLED + 0.5)  # before that nobody can take over from anybody
        with Bulk(addresses, "bulk", bulk) as beside, Load(addresses, "q") as load:
            load.wait_for(50)
            for _ in range(rounds):
                node = leader(nodes, "q") if how != "any" else rng.choice(nodes)
                kind = how if how != "any" else rng.choice(("kill", "stop", "pause"))
                struck = time.monotonic()
                strike(node, kind, rng)
                load.wait_for(20, 60)
                time.sleep(3)
                sends.append(longest_gap(load.sent_at, struck))
                receives.append(longest_gap(load.received_at, struck))
            rate = beside.rate
        load.drain(60)
        return {
            "rounds": rounds,
            "how": how,
            "bulk_per_s": rate,
            "stored": len(load.stored),
            "unknown": len(load.unknown),
            "refused": len(load.refused),
            "lost": len(load.lost),
            "unexpected": len(load.received.keys() - load.stored - load.unknown.keys()),
            "repeated": load.repeated,
            "sends_resume_s": figures(sends),
            "receives_resume_s": figures(receives),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a cluster is without an answer when a node goes.")
    parser.add_argument("--rounds", type=int, default=10, help="how often a node goes (10)")
    parser.add_argument(
        "--how", choices=("kill", "stop", "pause", "any"), default="kill", help="any: any node"
    )
    parser.add_argument("--bulk", type=int, default=0, help="clients that load the nodes besides (0)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(json.dumps(measure(args.rounds, args.how, args.bulk, args.seed), indent=2))


if __name__ == "__main__":
    main()
