"""What a fourth node costs that joins a full cluster: python benchmarks/joining.py [--messages N]

Three nodes on this machine, R = 3, two copies synced before every answer, and N messages that wait.
One sender measures how long each of its sends takes: in quiet, from the moment at which a fourth node is
started until every queue is on the homes where it belongs and each of them has a whole copy, and in quiet
again, with four nodes: on few processors, and one disk, these alone are slower than three.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dmqnode.blocking import SyncClient, connect_sync
from tests.processes import running_node

BODY = b"x" * 100
QUIET = 10.0
"""Seconds of sends before anything happens."""
STILL = 4.0
"""Seconds without a change after which nothing moves any more."""
LOOK = 1.0
"""Seconds between two looks."""
DEADLINE = 300.0


class Sender:
    """Sends one message after the other, and keeps how long each took."""

    def __init__(self, addresses: list[str], queues: list[str], pause: float) -> None:
        self._addresses = addresses
        self._queues = queues
        self._pause = pause
        self._stop = threading.Event()
        self.taken: list[tuple[float, float]] = []
        """When each began, and how long it took, seconds."""
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with connect_sync(*self._addresses) as client:
            while not self._stop.is_set():
                begun = time.monotonic()
                client.send(self._queues[len(self.taken) % len(self._queues)], BODY)
                self.taken.append((begun, time.monotonic() - begun))
                time.sleep(self._pause)

    def figures(self, since: float, until: float) -> dict[str, float]:
        """Return percentiles, ms, of the sends that began in that time."""
        known = sorted(t for at, t in self.taken if since <= at < until)
        at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        out = {
            name: round(known[min(len(known) - 1, int(len(known) * p))] * 1000, 2) for name, p in at.items()
        }
        return {"sends": len(known), **out}


def fill(client: SyncClient, queues: list[str], messages: int, partitions: int) -> None:
    """Create the queues, and put the messages into them."""
    for queue in queues:
        client.create_queue(queue, partitions=partitions)
        for _ in client.send_stream(queue, (BODY for _ in range(messages // len(queues)))):
            pass


def homes(client: SyncClient, queues: list[str]) -> Counter[str]:
    """Return of how many partitions each node is a home."""
    found: Counter[str] = Counter()
    for queue in queues:
        for partition in client.explain(queue)["partitions"]:
            found.update(partition["homes"])
    return found


def whole(client: SyncClient) -> bool:
    """Tell whether every partition is on its homes, every copy whole, and nothing moves."""
    overview = client.status()["overview"]
    return bool(overview["healthy"]) and not overview["moving"]


def measure(
    messages: int, count: int, partitions: int, pause: float, fourth: Path | None
) -> dict[str, object]:
    """Run it; return what was seen."""
    directory = Path(tempfile.mkdtemp(prefix="dmq-joining."))
    queues = [f"q{n}" for n in range(count)]
    with ExitStack() as stack:
        first = stack.enter_context(running_node(directory / "1", name="n1"))
        more = (
            running_node(directory / str(number), name=f"n{number}", join=[first.address])
            for number in (2, 3)
        )
        nodes = [first, *map(stack.enter_context, more)]
        with connect_sync(first.address) as client:
            fill(client, queues, messages, partitions)
            until(lambda: whole(client))
            with Sender([node.address for node in nodes], queues, pause) as sender:
                begun = time.monotonic()
                time.sleep(QUIET)
                joined = time.monotonic()
                beside = Path(tempfile.mkdtemp(prefix="dmq-joining.", dir=fourth))
                stack.enter_context(running_node(beside / "4", name="n4", join=[first.address]))
                served = time.monotonic()
                balanced, spread = wait_for_rest(client, queues)
                rested = time.monotonic()
                time.sleep(QUIET)
                ended = time.monotonic()
            quiet, meanwhile = sender.figures(begun, joined), sender.figures(joined, balanced)
            after = sender.figures(rested, ended)
            return {
                "messages": messages,
                "queues": count,
                "partitions": partitions,
                "quiet_ms": quiet,
                "joining_ms": meanwhile,
                "with_four_ms": after,
                "p99_ratio": round(meanwhile["p99"] / quiet["p99"], 2),
                "serves_after_s": round(served - joined, 2),
                "balanced_after_s": round(balanced - joined, 2),
                "homes": dict(sorted(spread.items())),
                "off_balance": round(max(abs(n * 4 / spread.total() - 1) for n in spread.values()), 3),
            }


def wait_for_rest(client: SyncClient, queues: list[str]) -> tuple[float, Counter[str]]:
    """Wait until nothing has moved for a while; return since when, and the homes.

    Looking is work for the nodes, too, which the quiet time before did not have: every queue is asked about
    only once nothing is under way.
    """
    since, seen = time.monotonic(), Counter[str]()
    begun = since
    while len(seen) < 4 or time.monotonic() - since < STILL:
        found = homes(client, queues) if whole(client) else Counter[str]()
        if found != seen or not found:
            since, seen = time.monotonic(), found
        if time.monotonic() - begun > DEADLINE:
            raise SystemExit(f"still moving after {DEADLINE:.0f} s")
        time.sleep(LOOK)
    return since, seen


def until(holds: object) -> None:
    """Wait until something is so."""
    assert callable(holds)
    deadline = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not so after {DEADLINE:.0f} s")
        time.sleep(0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a fourth node costs that joins a full cluster.")
    parser.add_argument("--messages", type=int, default=1_000_000, help="that wait (1000000)")
    parser.add_argument("--queues", type=int, default=8, help="that they wait in (8)")
    parser.add_argument("--partitions", type=int, default=1, help="of each queue (1)")
    parser.add_argument("--pause", type=float, default=0.005, help="seconds between two sends (0.005)")
    parser.add_argument(
        "--fourth", type=Path, metavar="DIR", help="where the fourth keeps its data (with the others)"
    )
    args = parser.parse_args()
    print(json.dumps(measure(args.messages, args.queues, args.partitions, args.pause, args.fourth), indent=2))


if __name__ == "__main__":
    main()
