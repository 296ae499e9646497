"""`dmq node start` as a process behind the proxy: killed, paused, stopped, started, its disk spoiled."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError
from tests.chaos.network import Links
from tests.chaos.shim import Machine
from tests.chaos.smalldisk import SmallDisk
from tests.processes import ROOT, NodeProcess

START = """
import functools, sys
import trio
host, sys.argv = sys.argv[1], ["dmq", *sys.argv[2:]]
trio.open_tcp_stream = functools.partial(trio.open_tcp_stream, local_address=host)
from cli.main import main
main()
"""
"""What makes a node dial from its own address, as it does on a host of its own; else it is `dmq`."""


class ChaosNode(NodeProcess):
    """One node.

    Arguments:
        directory: for its data and its log.
        name: in the network.
        network: what it is reached through.
        join: names of nodes to join.
        machine: its disk and clock, None for those of this machine.
        tree: directory of the program to run.
        settings: further settings, as in a configuration file.
    """

    deadline = 150.0
    """Many nodes, and campaigns, may be on one machine; what is slow is not a finding."""

    def __init__(
        self,
        directory: Path,
        name: str,
        network: Links,
        *,
        join: list[str],
        machine: Machine | None = None,
        tree: Path = ROOT,
        settings: dict[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.directory = directory
        self.machine = machine
        self.disk: SmallDisk | None = None
        """Its own, if it has one."""
        self.gone = False
        """Whether it has left, or was forgotten."""
        self._network = network
        self._join = join
        self._tree = tree
        self._lines = {
            "disk_reserve": "4MiB",
            "dead_after": "10m",
            **(settings or {}),
        }
        super().__init__(directory, {"data": str(directory / "data")})
        self.address = network.outside(name)

    def begin(self) -> None:
        """Start the process without waiting until it serves."""
        config = self.directory / "dmq.toml"
        config.write_text("[node]\n" + "".join(f'{key} = "{value}"\n' for key, value in self._lines.items()))
        options = {
            "--config": str(config),
            "--data": str(self.data),
            "--listen": self._network.inside(self.name),
            "--advertise": self._network.outside(self.name),
            "--name": self.name,
        }
        command = self._network.within(self.name)
        command += [sys.executable, "-c", START, self._network.host(self.name), "node", "start"]
        command += [word for pair in options.items() for word in pair]
        for seed in self._join:
            command += ["--join", self._network.outside(seed)]
        env = {**os.environ, "PYTHONPATH": str(self._tree), "PYTHONDONTWRITEBYTECODE": "1"}
        if self.machine is not None:
            env |= self.machine.environment(self.data)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self._tree, env=env, stdout=subprocess.PIPE, stderr=log
            )

    def wait_ready(self) -> None:
        """Wait for the line that says that the node serves."""
        super().wait_ready()
        self.address = self._network.outside(self.name)

    def restart(self, **settings: Any) -> None:
        """Start again, after `kill` or `stop`, with changed settings if any are given."""
        self._lines |= settings
        self.begin()
        self.wait_ready()

    def seed(self, name: str) -> None:
        """Join by this node, too, if it ever starts without data."""
        if name not in self._join:
            self._join.append(name)

    def pause(self) -> None:
        """Stop it with SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `pause`."""
        self.process.send_signal(signal.SIGCONT)

    @property
    def up(self) -> bool:
        """Whether there is a process."""
        return self.process.poll() is None

    def ends_soon(self) -> bool:
        """Whether it ends by itself within a second, as it does when its disk has failed."""
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wipe(self) -> None:
        """Remove all its data, while it is down."""
        shutil.rmtree(self.data)


def overview(nodes: list[ChaosNode]) -> dict[str, Any]:
    """Return what the first node that answers says of the cluster, and what it keeps; empty if none does."""
    try:
        with connect_sync(*[node.address for node in nodes], timeout=3) as client:
            status = client.status()
            # One that waits for its seeds knows of no cluster.
            return {**status["overview"], "kept": status["set_aside"]} if status["serving"] else {}
    except DMQError:
        return {}


LARGEST = 8
"""Messages of one record at most: those of one call of a client of the campaign, and what went with them."""
HARM = ("may be missing", "may be the last", "did not open", "cannot read", "damaged")
"""What a notice says that tells of harm to messages."""


def missing(node: ChaosNode) -> tuple[list[str], float]:
    """Return what a node says of messages that it has not got any more, and how many these are at most.

    One that does not answer says nothing; what a notice tells of nobody has counted.
    """
    try:
        with connect_sync(node.address, timeout=3) as client:
            status = client.status()
    except DMQError:
        return [], 0
    counted = {name: status[name] for name in ("lost", "unmended") if status.get(name)}
    # What is kept says how many records nothing has made good: that is counted.
    notices = [text for text in status["notices"] if "were set aside and are kept" not in text]
    harm = [text for text in notices if any(word in text for word in HARM)]
    count = math.inf if harm else counted.get("lost", 0) + LARGEST * counted.get("unmended", 0)
    return [*(f"{name} {value}" for name, value in counted.items()), *harm], count


def well(found: dict[str, Any], nodes: int, *, mended: bool = False) -> bool:
    """Whether all are there, and copies are whole and where they belong.

    Where damaged records are kept, something may have been lost.

    Arguments:
        mended: whether everything that was damaged must have been made good, too.
    """
    if not found or found["moving"] or not found["members"] == found["alive"] == nodes:
        return False
    if mended and found["set_aside"]:
        return False
    awry = found["leaderless"] or found["under_replicated"] or found["hints"]
    return found["healthy"] or (found["kept"] > 0 and not awry)


def until_healthy(nodes: list[ChaosNode], seconds: float, *, mended: bool = False) -> dict[str, Any]:
    """Wait until every node says that all of them are there and have their copies; return what they say.

    Arguments:
        mended: see `well`.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = [overview([node]) for node in nodes]
        kept = sum(f.get("kept", 0) for f in found)
        found = [f and {**f, "kept": kept} for f in found]
        if all(well(f, len(nodes), mended=mended) for f in found):
            return found[0]
        if time.monotonic() > deadline:
            return next((f for f in found if not well(f, len(nodes), mended=mended)), {})
        time.sleep(0.1)
