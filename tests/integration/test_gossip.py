"""Three real nodes gossip: each knows of each whether it is there, soon after that has changed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmqnode.blocking import connect_sync
from tests.processes import ROOT, NodeProcess

pytestmark = pytest.mark.slow
Start = Callable[..., NodeProcess]
SOON = 10.0
"""Seconds that a change of a member may take to be known, on a busy machine; 5 on one that is not."""


@pytest.fixture
def three(start_node: Start) -> list[NodeProcess]:
    """Three nodes, of which each knows of each by gossip, too."""
    first = start_node(name="n1")
    nodes = [first, *(start_node(name=name, join=[first.address]) for name in ("n2", "n3"))]
    for node in nodes:
        until(node, {"n1": "alive", "n2": "alive", "n3": "alive"})
    return nodes


def states(node: NodeProcess) -> dict[str, str]:
    with connect_sync(node.address) as client:
        return {m["name"]: m["state"] for m in client.members()["members"]}


def until(node: NodeProcess, *wanted: dict[str, str]) -> dict[str, str]:
    """Wait until a node shows the members as one of `wanted` says; return that."""
    deadline = time.monotonic() + SOON
    while True:
        found = states(node)
        if all_of := [w for w in wanted if w.items() <= found.items()]:
            return all_of[0]
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def until_logged(node: NodeProcess, text: str) -> None:
    deadline = time.monotonic() + SOON
    while text not in node.log:
        assert time.monotonic() < deadline, node.log
        time.sleep(0.02)


WATCH = "import cli.cluster; cli.cluster.EVERY = 0.1; from cli.main import main; main()"


class Watch:
    """`dmq cluster members --watch`, which looks more often than it does by itself.

    Arguments:
        node: that is asked.
        file: for what it prints.
    """

    def __init__(self, node: NodeProcess, file: Path) -> None:
        self._file = file
        args = ["--node", node.address, "cluster", "members", "--watch"]
        with file.open("wb") as out:
            self._process = subprocess.Popen([sys.executable, "-c", WATCH, *args], cwd=ROOT, stdout=out)

    def until(self, name: str, state: str) -> None:
        """Wait until its last look shows a member so."""
        deadline = time.monotonic() + SOON
        while self._states(name)[-1:] != [state]:
            assert time.monotonic() < deadline, self._file.read_text()
            time.sleep(0.02)

    def _states(self, name: str) -> list[str]:
        rows = [line.split() for line in self._file.read_text().splitlines()]
        return [row[2] for row in rows if len(row) > 2 and row[0] == name]

    def end(self) -> int:
        """Interrupt it, and return its exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(SOON)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()


def test_every_survivor_knows_of_a_death_and_of_a_return(three: list[NodeProcess], tmp_path: Path) -> None:
    first, second, third = three
    with Watch(first, tmp_path / "watch") as watch:
        third.kill()
        until(first, {"n3": "suspect"})  # links alone know of no such thing
        for node in (first, second):
            until(node, {"n1": "alive", "n2": "alive", "n3": "dead"})
        watch.until("n3", "dead")
        third.restart()
        for node in three:
            until(node, {"n1": "alive", "n2": "alive", "n3": "alive"})
        watch.until("n3", "alive")
        assert third.stop() == 0
        for node in (first, second):
            until(node, {"n3": "dead"})  # it may come back
        assert watch.end() == 130


def test_a_member_that_is_held_up_is_not_alive_until_it_goes_on(three: list[NodeProcess]) -> None:
    first, second, third = three
    third.process.send_signal(signal.SIGSTOP)
    try:
        for node in (first, second):
            until(node, {"n2": "alive", "n3": "suspect"}, {"n2": "alive", "n3": "dead"})
    finally:
        third.process.send_signal(signal.SIGCONT)
    for node in three:
        until(node, {"n1": "alive", "n2": "alive", "n3": "alive"})


def test_no_node_complains_of_its_gossip(three: list[NodeProcess]) -> None:
    for node in three:
        assert node.stop() == 0
    for node in three:
        for complaint in ("gossip", "another process", "is not where"):
            assert complaint not in node.log


def test_a_node_gossips_once_it_is_not_alone_and_does_without_udp(start_node: Start) -> None:
    first = start_node(name="n1")
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", first.port))  # nobody has it
        second = start_node(name="n2", join=[first.address])
        for node in (first, second):
            until(node, {"n1": "alive", "n2": "alive"})
        until_logged(first, "cannot gossip over UDP")
        with socket.socket(type=socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", second.port))
        second.kill()
        until(first, {"n2": "suspect"})
        until(first, {"n2": "dead"})
