"""Some nodes, their network, their machines, and a diary of what was done to them."""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError
from tests.chaos import shim
from tests.chaos.draining import drain
from tests.chaos.network import Links, Network
from tests.chaos.nodes import ChaosNode, missing, overview, until_healthy, well
from tests.chaos.smalldisk import SmallDisk
from tests.processes import ROOT

SPARES = 6
"""Nodes that may join later."""
FAR = 60.0
"""Seconds that are too long to wait for."""


class Event(NamedTuple):
    """Something that was done: what, from when to when (`time.monotonic()`)."""

    name: str
    detail: str
    began: float
    ended: float


def listed(nodes: list[ChaosNode]) -> str:
    """Return the names of nodes."""
    return " ".join(node.name for node in nodes)


def machines(nodes: list[ChaosNode]) -> list[shim.Machine]:
    """Return the machines of nodes, where there are any."""
    return [node.machine for node in nodes if node.machine is not None]


def at_once(nodes: list[ChaosNode]) -> None:
    """Kill nodes at the same moment, as far as one process can."""
    for node in nodes:
        node.process.kill()
    for node in nodes:
        node.kill()


class Site:
    """The nodes of one run; use it in a `with` block.

    Arguments:
        directory: for everything.
        count: nodes to begin with.
        tree: of the program that they run.
        patience: seconds within which all must be well again after the last fault.
        network: what stands between nodes.
        small: whether each node has a small disk of its own.
    """

    def __init__(
        self,
        directory: Path,
        count: int,
        *,
        tree: Path = ROOT,
        patience: float = 60.0,
        network: type[Links] = Network,
        small: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.patience = patience
        self.events: list[Event] = []
        self.clocks: list[tuple[float, float, float]] = []
        """When a wall clock was off, from, to (`time.monotonic()`), and by how many seconds at most."""
        self.set_aside = 0
        """Damaged records and files that nodes keep until somebody has looked at them."""
        self.destroyed = False
        """Whether an operator has said of most homes that they will not come back."""
        self.nodes: list[ChaosNode] = []
        self.ended: list[ChaosNode] = []
        """Nodes that are no members any more."""
        self.load: Any = None
        """The clients (`Workload`)."""
        self._kind = network
        self._small = small
        self._tree = tree
        self._lock = threading.Lock()
        self._count = count
        self._busy: set[str] = set()
        self._library = shim.built()
        self._spare = [f"n{n}" for n in range(count + 1, count + SPARES + 1)]

    def __enter__(self) -> Site:
        names = [f"n{n + 1}" for n in range(self._count)]
        self.network = self._kind([*names, *self._spare])
        try:
            for name in names:
                self.add(name)
            found = until_healthy(self.nodes, self.patience)
            assert well(found, len(names)), f"the nodes do not find one another: {found}"
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything, however it is."""
        for node in [*self.nodes, *self.ended]:
            node.kill()
            if node.machine is not None:
                node.machine.close()
            if node.disk is not None:
                node.disk.close()
                node.disk = None
        self.network.close()

    # --- nodes ---------------------------------------------------------------------------------------

    @property
    def shimmed(self) -> bool:
        """Whether disks and clocks can be spoiled."""
        return self._library is not None

    def add(self, name: str = "") -> ChaosNode:
        """Start one more node, and return it."""
        name = name or self._spare.pop(0)
        directory = self.directory / name
        directory.mkdir()
        disk = SmallDisk(directory) if self._small else None
        machine = shim.Machine(directory / "machine", self._library) if self._library else None
        seeds = [node.name for node in self.nodes]
        node = ChaosNode(directory, name, self.network, join=seeds, machine=machine, tree=self._tree)
        node.disk = disk
        for other in self.nodes:
            other.seed(name)
        self.nodes.append(node)
        return node

    @property
    def may_join(self) -> bool:
        """Whether there is a node left that may join."""
        return bool(self._spare)

    def at_least(self, nodes: int) -> None:
        """Let nodes join, one after the other, until there are so many and copies are whole."""
        while len(self.nodes) < nodes and self.may_join:
            with self.event("join"):
                self.add()
            self.until_healthy()

    def remove(self, node: ChaosNode) -> None:
        """Count a node among those that are no members any more."""
        self.nodes.remove(node)
        self.ended.append(node)

    @contextmanager
    def taken(self, rng: random.Random, count: int = 1) -> Iterator[list[ChaosNode]]:
        """Take some nodes to do something to them; two faults at once do not take the same."""
        with self._lock:
            free = [node for node in self.nodes if node.name not in self._busy]
            chosen = rng.sample(free, min(count, len(free)))
            self._busy |= {node.name for node in chosen}
        try:
            yield chosen
        finally:
            with self._lock:
                self._busy -= {node.name for node in chosen}

    @contextmanager
    def reserved(self, name: str) -> Iterator[None]:
        """Leave a node out of what is done to single nodes."""
        with self._lock:
            self._busy.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(name)

    def until_healthy(self) -> None:
        """Wait until copies are whole; a fault that takes copies away does so before it takes one."""
        found = until_healthy(self.nodes, self.patience)
        assert well(found, len(self.nodes)), f"copies do not get whole, and another fault takes one: {found}"

    def dmq(self, node: ChaosNode, *args: str) -> subprocess.CompletedProcess[str]:
        """Run the program against one node."""
        command = [sys.executable, "-c", "from cli.main import main; main()", "--node", node.address]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*command, *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False
        )

    # --- time ----------------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    @contextmanager
    def event(self, name: str, detail: str = "") -> Iterator[None]:
        """Write down what is done in the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.events.append(Event(name, detail, began, time.monotonic()))

    @contextmanager
    def clock_is_off(self, seconds: float) -> Iterator[None]:
        """Write down that a clock is off for as long as the block lasts."""
        began = time.monotonic()
        self.clocks.append((began, math.inf, 2 * abs(seconds)))
        try:
            yield
        finally:
            self.clocks.append((began, time.monotonic(), 2 * abs(seconds)))
            self.clocks.remove((began, math.inf, 2 * abs(seconds)))

    @contextmanager
    def long_after(self) -> Iterator[None]:
        """Let all clocks be where the fastest was, if one was far off: what it delayed is due there."""
        most = max((off for _, _, off in self.clocks), default=0.0)
        if most < FAR:
            yield
            return
        with self.clock_is_off(most):
            for machine in machines(self.nodes):
                machine.set_clock(most)
            yield

    def heal(self, *, mended: bool = False) -> list[str]:
        """Undo what is left of all faults; return what does not get well.

        Arguments:
            mended: whether what was damaged must have been made good, or be needed no more.
        """
        self.network.mend()
        down = []
        for node in self.nodes:
            if node.machine is not None:
                node.machine.set_clock(0)
                node.machine.slow_disk(0)
                node.machine.room(None)
                node.machine.fail_syncs(False)
            if node.disk is not None:
                node.disk.room(None)
            if node.up:
                node.go_on()
                continue
            try:
                node.restart()
            except AssertionError as error:
                down.append(f"{node.name}: {error}")
        found = until_healthy(self.nodes, self.patience, mended=mended)
        self.set_aside = max(self.set_aside, found.get("kept", 0))
        unwell = [] if well(found, len(self.nodes), mended=mended) else [str(found or "nobody answers")]
        return [*down, *unwell]

    def left_over(self, queues: Iterable[str]) -> list[str]:
        """Return what queues still show after ten seconds, asked through each node."""
        return [
            f"through {node.name}: {left}"
            for node in self.nodes
            for left in drain([node.address], queues, 10, still=0.0)
        ]

    def missing(self) -> tuple[list[str], float]:
        """Return what is said of messages that are not there any more, and how many these are at most.

        An operator who calls most homes destroyed says it of all messages that only these had.
        """
        found = [(node.name, *missing(node)) for node in self.nodes]
        said = [f"{name}: {what}" for name, told, _ in found for what in told]
        if self.destroyed:
            return ["most homes are destroyed", *said], math.inf
        return said, sum(count for _, _, count in found)

    def explain(self, queues: Iterable[str]) -> dict[str, Any]:
        """Return what each node that is up says of the cluster and of some queues."""
        told: dict[str, Any] = {}
        for node in self.nodes:
            told[node.name] = found = {"overview": overview([node])}
            for queue in queues if node.up else ():
                try:
                    with connect_sync(node.address, timeout=8) as client:
                        found[queue] = client.explain(queue)
                except DMQError as error:
                    found[queue] = {"error": str(error)}
        return told

    def keep(self, target: Path) -> None:
        """Copy logs and stores to where they outlive the run."""
        for node in [*self.nodes, *self.ended]:
            shutil.copytree(
                node.directory, target / node.name, dirs_exist_ok=True, ignore_dangling_symlinks=True
            )


Fault = Callable[[Site, random.Random], None]
"""Does something to a site, and undoes it after a while."""
