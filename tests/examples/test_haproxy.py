"""A cluster behind one address: that of the real haproxy, where it is installed, and of a small balancer."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError
from tests.clusters import create, leader, until_healthy
from tests.examples.balancer import round_robin
from tests.integration.test_direct import swallowing
from tests.load import Load
from tests.processes import NodeProcess, running_node

CONFIG = Path(__file__).parent.parent.parent / "examples" / "haproxy.cfg"

pytestmark = pytest.mark.slow


@contextmanager
def haproxy(nodes: Sequence[str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    names = {f"DMQ_NODE{n}": node for n, node in enumerate(nodes, 1)}
    with subprocess.Popen(
        ["haproxy", "-db", "-q", "-f", str(CONFIG)], env={**os.environ, "DMQ_HAPROXY_BIND": address, **names}
    ) as process:
        try:
            yield address
        finally:
            process.kill()


@contextmanager
def walled_off(nodes: Sequence[str]) -> Iterator[set[str]]:
    """Let this process reach none of these addresses: nothing answers there.  Gives those that it tried."""
    tried: set[str] = set()
    look_up = socket.getaddrinfo

    def answer(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if f"{host}:{port}" in nodes:
            tried.add(f"{host}:{port}")
            host, _, port = nowhere.rpartition(":")
        return look_up(host, port, *args, **options)

    with swallowing() as nowhere, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", answer)
        yield tried


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NodeProcess]]:
    """Three nodes, for all balancers."""
    directory = tmp_path_factory.mktemp("cluster")
    with ExitStack() as started, ThreadPoolExecutor(2) as pool:
        first = started.enter_context(running_node(directory / "n1", name="n1"))

        def join(name: str) -> NodeProcess:
            return started.enter_context(running_node(directory / name, name=name, join=[first.address]))

        yield [first, *pool.map(join, ("n2", "n3"))]


@pytest.fixture
def nodes(cluster: list[NodeProcess]) -> list[NodeProcess]:
    """All of them, also who was stopped behind the last balancer."""
    for node in cluster:
        if node.process.poll() is not None:
            node.restart()
    until_healthy(cluster[0], members=3)
    return cluster


def served_by(address: str, count: int) -> set[str]:
    """Return the nodes by which clients of one address are served, once there are so many, or too late."""
    found: set[str] = set()
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        try:
            with connect_sync(address, timeout=2) as client:
                found.add(client.status()["address"])
        except DMQError:
            time.sleep(0.1)
    return found


INSTALLED = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")


@pytest.mark.parametrize("balancer", [pytest.param(haproxy, marks=INSTALLED), round_robin])
def test_one_address_stands_for_a_cluster_whose_own_addresses_clients_do_not_reach(
    balancer: Any, nodes: list[NodeProcess]
) -> None:
    """Clients are told who leads, do not get there, and go on through the balancer; one node is stopped."""
    queue = f"behind-{balancer.__name__}"
    create(nodes, queue)
    led = leader(nodes, queue)
    addresses = [node.address for node in nodes]
    with balancer(addresses) as address, walled_off(addresses) as tried:
        assert served_by(address, 3) == set(addresses)
        with Load([address], queue) as load:
            load.wait_for(30)
            assert led.address in tried, "no client wanted to go to the leader itself"
            assert led.stop() == 0
            load.wait_for(30)
        load.drain()
        assert not load.lost
        assert not load.repeated
        assert not load.refused
        assert not load.unknown
        assert served_by(address, 2) == set(addresses) - {led.address}


@contextmanager
def deaf() -> Iterator[tuple[str, list[bytes]]]:
    """An address where connections are taken, and nothing is ever said; and what each begins with."""
    begun: list[bytes] = []
    with ExitStack() as stack:
        door = stack.enter_context(socket.socket())
        door.bind(("127.0.0.1", 0))
        door.listen(100)

        def listen() -> None:
            while True:
                try:
                    connection = stack.enter_context(door.accept()[0])
                except OSError:
                    return
                try:
                    begun.append(connection.recv(1 << 12))
                except ConnectionError:
                    begun.append(b"")

        listening = Thread(target=listen)
        listening.start()
        yield f"127.0.0.1:{door.getsockname()[1]}", begun
        door.shutdown(socket.SHUT_RDWR)
        listening.join()


@INSTALLED
def test_what_is_no_node_gets_no_clients(nodes: list[NodeProcess]) -> None:
    """It can be connected to, but does not answer the greeting of the check."""
    addresses = [node.address for node in nodes[1:]]
    with deaf() as (nobody, begun), haproxy([nobody, *addresses]) as address:
        assert served_by(address, 2) == set(addresses)
        deadline = time.monotonic() + 20
        while begun.count(b"") + sum(b"haproxy" in first for first in begun) < 3:
            assert time.monotonic() < deadline, "it is not checked"
            time.sleep(0.05)
        begun.clear()
        for _ in range(12):
            with connect_sync(address, timeout=2) as client:
                assert client.status()["address"] in addresses
        assert not [first for first in begun if first and b"haproxy" not in first]
