"""How many messages come twice when nothing goes wrong: python benchmarks/duplicates.py [--messages N]

Three nodes on this machine, R = 3, two copies synced before every answer, one queue of 4 partitions.  Three
producers, each through another node, and three consumers that receive and ack, all at once.
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

from dmqnode.blocking import connect_sync
from tests.processes import running_node

COUNT = 3
LOCK = threading.Lock()


def produce(addresses: list[str], first: int, messages: int) -> None:
    """Send bodies that are numbers: first, first + 3, …"""
    with connect_sync(*addresses) as client:
        for _ in client.send_stream("q", (b"%d" % n for n in range(first, messages, COUNT))):
            pass


def consume(addresses: list[str], seen: Counter[bytes], expected: int) -> None:
    """Receive and ack until all is there."""
    with connect_sync(*addresses) as client:
        while len(seen) < expected:
            messages = client.receive("q", max_messages=1000, wait=1.0)
            if messages:
                client.ack(messages)
                with LOCK:
                    seen.update(message.body for message in messages)


def measure(messages: int) -> dict[str, object]:
    """Run it; return what was seen."""
    directory = Path(tempfile.mkdtemp(prefix="dmq-duplicates."))
    with ExitStack() as stack:
        nodes = [stack.enter_context(running_node(directory / "1", name="n1"))]
        for number in (2, 3):
            joining = running_node(directory / str(number), name=f"n{number}", join=[nodes[0].address])
            nodes.append(stack.enter_context(joining))
        addresses = [node.address for node in nodes]
        with connect_sync(*addresses) as client:
            client.create_queue("q", partitions=4)
        seen: Counter[bytes] = Counter()
        ways = [addresses[n:] + addresses[:n] for n in range(COUNT)]
        work = [threading.Thread(target=produce, args=(way, n, messages)) for n, way in enumerate(ways)]
        work += [threading.Thread(target=consume, args=(way, seen, messages)) for way in ways]
        begun = time.monotonic()
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        return {
            "messages": messages,
            "seconds": round(time.monotonic() - begun, 2),
            "received": seen.total(),
            "duplicates": seen.total() - len(seen),
            "lost": messages - len(seen),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="How many messages come twice when nothing goes wrong.")
    parser.add_argument("--messages", type=int, default=1_000_000, help="to send (1000000)")
    print(json.dumps(measure(parser.parse_args().messages), indent=2))


if __name__ == "__main__":
    main()
