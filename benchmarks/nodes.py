"""Nodes for benchmarks: started as a user starts them, watched from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DMQ = Path(sys.executable).parent / "dmq"
DEADLINE = 120.0


class Node:
    """One node in a process of its own.

    Arguments:
        data: its data directory.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> float:
        """Start it; return the seconds until it said that it was ready."""
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            [DMQ, "node", "start", "--data", self.data, "--listen", self.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        if not ready.startswith("ready "):
            raise SystemExit(f"the node did not start: {DMQ} node start --data {self.data}")
        self.address = ready.split()[2]
        return time.perf_counter() - begun

    def stop(self) -> None:
        """Stop it gracefully."""
        self._process.terminate()
        self._process.wait(DEADLINE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def restart(self) -> float:
        """Stop it and start it again; return the seconds until it was ready."""
        self.stop()
        return self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory(self) -> float:
        """Return its anonymous resident memory in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 1024

    def disk(self) -> float:
        """Return what its files take on disk, in MiB."""
        total = 0
        for path in self.data.rglob("*"):
            try:
                total += path.stat().st_blocks * 512
            except FileNotFoundError:
                continue  # compacted away meanwhile
        return total / 2**20


@contextmanager
def running(data: Path) -> Iterator[Node]:
    """Run a node for as long as the block lasts."""
    node = Node(data)
    try:
        yield node
    finally:
        node.stop()
