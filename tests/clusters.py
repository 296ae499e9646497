"""Clusters of real nodes: who leads, who is there, and waiting until all are."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from dmqnode.blocking import connect_sync
from tests.processes import ROOT, NodeProcess

Start = Callable[..., NodeProcess]


def overview(node: NodeProcess) -> dict[str, Any]:
    with connect_sync(node.address, timeout=10) as client:
        found: dict[str, Any] = client.status()["overview"]
        return found


def until_healthy(node: NodeProcess, *, members: int, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        found = overview(node)
        if found["healthy"] and found["members"] == found["alive"] == members:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def names(node: NodeProcess) -> set[str]:
    with connect_sync(node.address) as client:
        return {m["name"] for m in client.members()["members"] if m["state"] == "alive"}


def leader(nodes: list[NodeProcess], queue: str) -> NodeProcess:
    """Return who leads the one partition of a queue."""
    with connect_sync(*[n.address for n in nodes]) as client:
        (partition,) = client.explain(queue)["partitions"]
        assert set(partition["homes"]) == {"n1", "n2", "n3"}
        for node in nodes:
            with connect_sync(node.address) as one:
                if one.status()["name"] == partition["leader"]:
                    return node
    raise AssertionError(partition)


def create(nodes: list[NodeProcess], queue: str) -> None:
    with connect_sync(nodes[0].address) as client:
        client.create_queue(queue)
    for node in nodes:
        with connect_sync(node.address) as client:
            deadline = time.monotonic() + 10
            while not any(q["name"] == queue for q in client.queues()):
                assert time.monotonic() < deadline
                time.sleep(0.01)


def dmq(node: NodeProcess, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "--node", node.address, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
