"""The example of several nodes behind one address, with the real haproxy where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError
from tests.processes import running_node

CONFIG = Path(__file__).parent.parent.parent / "examples" / "haproxy.cfg"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def bind() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def balancer(bind: str, tmp_path: Path) -> Iterator[list[str]]:
    """Three nodes behind haproxy; gives their addresses, the first one's node stopped."""
    with (
        running_node(tmp_path / "1") as first,
        running_node(tmp_path / "2") as second,
        running_node(tmp_path / "3") as third,
    ):
        nodes = [node.address for node in (first, second, third)]
        names = {f"DMQ_NODE{n}": address for n, address in enumerate(nodes, 1)}
        with subprocess.Popen(
            ["haproxy", "-db", "-q", "-f", str(CONFIG)], env={**os.environ, "DMQ_HAPROXY_BIND": bind, **names}
        ) as process:
            try:
                first.kill()
                yield nodes
            finally:
                process.kill()


def test_one_address_stands_for_the_nodes_that_serve(balancer: list[str], bind: str) -> None:
    deadline = time.monotonic() + 20
    served: set[str] = set()
    while len(served) < 2:
        assert time.monotonic() < deadline, f"only {served} served"
        try:
            with connect_sync(bind, timeout=2) as client:
                served.add(client.status()["address"])
        except DMQError:
            time.sleep(0.1)
    assert served == set(balancer[1:])
