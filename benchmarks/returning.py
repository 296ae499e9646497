"""How a cluster takes leave of a node and takes it back: python benchmarks/returning.py [--messages N]

Four nodes on loopback behind a proxy, R = 3, two copies synced before every answer, dead_after 10 s, and N
messages that wait in 8 queues while two clients send and receive.  One node after the other is killed, paused
(SIGSTOP) or cut off from the others for longer than dead_after, so that its copies are made anew elsewhere,
and comes back.  Prints how long it takes until all others call it dead, and, once it is back, until every
node sees all members alive and until every copy is on its home and whole.  In the end all nodes are killed
at once, and their stores compared, key by key.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError
from tests.chaos.network import Network
from tests.chaos.nodes import ChaosNode
from tests.chaos.offline import differences
from tests.load import Load

COUNT = 4
QUEUES = 8
DEAD_AFTER = 10.0
DEADLINE = 180.0
QUIET = 5.0
"""Seconds for what is written later than it is answered."""
BODY = b"x" * 100


def states(node: ChaosNode) -> dict[str, str]:
    """Return per member the state that a node sees; empty if it does not answer."""
    try:
        with connect_sync(node.address, timeout=2) as client:
            return {member["name"]: member["state"] for member in client.members()["members"]}
    except DMQError:
        return {}


def whole(node: ChaosNode) -> bool:
    """Tell whether a node says that all are alive, and every copy is whole and where it belongs."""
    try:
        with connect_sync(node.address, timeout=2) as client:
            seen: dict[str, Any] = client.status()["overview"]
    except DMQError:
        return False
    return bool(seen["healthy"]) and seen["members"] == seen["alive"] == COUNT and not seen["moving"]


def seconds_until(holds: Any, since: float) -> float:
    """Wait until something is so; return the seconds since a time."""
    while not holds():
        if time.monotonic() > since + DEADLINE:
            raise SystemExit(f"not so after {DEADLINE:.0f} s")
        time.sleep(0.05)
    return round(time.monotonic() - since, 2)


def strike(node: ChaosNode, how: str, network: Network, others: list[str]) -> None:
    """Take a node away."""
    if how == "kill":
        node.kill()
    elif how == "pause":
        node.pause()
    else:
        network.part([node.name], others)


def take_back(node: ChaosNode, how: str, network: Network) -> None:
    """Let it come back."""
    if how == "kill":
        node.restart()
    elif how == "pause":
        node.go_on()
    else:
        network.mend()


def one_round(nodes: list[ChaosNode], node: ChaosNode, how: str, network: Network) -> dict[str, float]:
    """Take one node away and back; return what was seen."""
    others = [other for other in nodes if other is not node]
    struck = time.monotonic()
    strike(node, how, network, [other.name for other in others])
    agreed = seconds_until(lambda: all(states(o).get(node.name) == "dead" for o in others), struck)
    time.sleep(max(0.0, struck + 2 * DEAD_AFTER - time.monotonic()))
    back = time.monotonic()
    take_back(node, how, network)
    alive = seconds_until(lambda: all([*states(o).values()] == ["alive"] * COUNT for o in nodes), back)
    return {
        "all_call_it_dead_s": agreed,
        "all_see_all_s": alive,
        "copies_whole_s": seconds_until(lambda: all(map(whole, nodes)), back),
    }


def measure(messages: int, rounds: int) -> dict[str, object]:
    """Run the rounds; return what was seen."""
    directory = Path(tempfile.mkdtemp(prefix="dmq-returning."))
    names = [f"n{n + 1}" for n in range(COUNT)]
    seen: dict[str, list[dict[str, float]]] = {"kill": [], "pause": [], "cut": []}
    with ExitStack() as stack:
        network = Network(names)
        stack.callback(network.close)
        nodes: list[ChaosNode] = []
        for name in names:
            settings = {"dead_after": f"{DEAD_AFTER:.0f}s"}
            joined = [node.name for node in nodes[:1]]
            nodes.append(ChaosNode(directory / name, name, network, join=joined, settings=settings))
            stack.callback(nodes[-1].kill)
        with connect_sync(nodes[0].address) as client:
            for n in range(QUEUES):
                client.create_queue(f"q{n}")
                for _ in client.send_stream(f"q{n}", (BODY for _ in range(messages // QUEUES))):
                    pass
            client.create_queue("load")
        seconds_until(lambda: all(map(whole, nodes)), time.monotonic())
        with Load([node.address for node in nodes], "load") as load:
            load.wait_for(50)
            for number in range(rounds):
                for how, rows in seen.items():
                    rows.append(one_round(nodes, nodes[number % COUNT], how, network))
                    print(how, rows[-1], file=sys.stderr, flush=True)
        load.drain(60)
        time.sleep(QUIET)
        # Killed, not stopped: the last words of one that stops would miss those that have just stopped.
        for node in nodes:
            node.process.kill()
        for node in nodes:
            node.process.wait()
        differ = differences({node.name: node.data for node in nodes})
    return {
        "messages": messages,
        **seen,
        "stored": len(load.stored),
        "lost": len(load.lost),
        "unexpected": len(load.received.keys() - load.stored - load.unknown.keys()),
        "repeated": load.repeated,
        "copies_differ": differ,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How a cluster takes a node back.")
    parser.add_argument("--messages", type=int, default=200_000, help="that wait (200000)")
    parser.add_argument("--rounds", type=int, default=1, help="of a kill, a pause and a cut (1)")
    args = parser.parse_args()
    print(json.dumps(measure(args.messages, args.rounds), indent=2))


if __name__ == "__main__":
    main()
