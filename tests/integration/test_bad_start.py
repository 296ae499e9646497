"""What may be in the way of a start, and disks that are full: one sentence, an exit code, nothing lost."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmqnode.messages import Delivered, Failed, Members, NodeStatus, Report
from tests.clusters import dmq
from tests.plain_client import PlainClient
from tests.processes import NodeProcess, start_to_fail

pytestmark = pytest.mark.slow
Start = Callable[..., NodeProcess]


@pytest.fixture
def node(start_node: Start) -> NodeProcess:
    return start_node()


def test_a_port_in_use(node: NodeProcess, tmp_path: Path) -> None:
    code_, errors = start_to_fail(tmp_path / "other", listen=node.address)
    assert code_ == 1
    assert errors == (
        f"dmq: cannot listen on {node.address}: another program does, perhaps a node; "
        "stop it, or give another address with --listen\n"
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no.such.host.invalid:1"])
def test_an_address_of_another_host(address: str, tmp_path: Path) -> None:
    code_, errors = start_to_fail(tmp_path, listen=address)
    assert code_ == 2
    assert errors.startswith(f"dmq: cannot listen on {address}: ")
    assert errors.count("\n") == 1


def test_a_data_directory_in_use(node: NodeProcess) -> None:
    code_, errors = start_to_fail(node.data)
    assert code_ == 1
    assert errors.startswith(f"dmq: the store in {node.data} is in use by process {node.pid} (")
    assert errors.count("\n") == 1
    with PlainClient(node.address) as client:
        client.ask(Members())


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code_, errors = start_to_fail(tmp_path / "file" / "data")
    assert code_ == 1
    assert errors.startswith(f"dmq: cannot make the data directory {tmp_path}/file/data: Not a directory; ")


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    code_, errors = start_to_fail(tmp_path / "file")
    assert code_ == 1
    assert errors.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_a_damaged_store_is_put_aside_and_the_node_says_so(start_node: Start) -> None:
    node = start_node()
    with PlainClient(node.address) as client:
        client.create()
        client.send(b"x")
    node.kill()
    files = node.data / "store"
    for file in (*files.glob("MANIFEST*"), *files.glob("CURRENT")):
        file.write_bytes(b"\x00" * 100)
    node.restart()
    with PlainClient(node.address) as client:
        status = client.expect(Report, client.ask(NodeStatus()))
        notices = str(status.fields["notices"])
        assert "renamed" in notices
        client.create()
        client.send(b"y")
        assert client.drain() == [b"y"]
    aside = [p for p in node.data.iterdir() if p.name.startswith("store.")]
    assert len(aside) == 1
    assert any(aside[0].glob("*.log"))
    assert aside[0].name in node.log


def test_stdout_that_nobody_reads(start_node: Start) -> None:
    node = start_node()
    node.stop()
    read, write = socket.socketpair()
    read.close()
    node._options = {"stdout": write.fileno()}
    node._settings["listen"] = node.address
    node.begin()
    write.close()
    deadline = time.monotonic() + 20
    while True:
        try:
            with PlainClient(node.address) as client:
                client.ask(Members())
            break
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert node.stop() == 0
    assert "Traceback" not in node.log
    assert "Exception" not in node.log


def test_a_disk_without_its_reserve_takes_no_sends_but_gives_out_and_acks(start_node: Start) -> None:
    node = start_node()
    with PlainClient(node.address) as client:
        client.create()
        client.send(b"a", b"b")
    assert node.stop() == 0
    node.restart(disk_reserve=1 << 62)
    with PlainClient(node.address) as client:
        refused = client.expect(Failed, client.ask(client.send_request([b"c"])))
        assert (refused.code, refused.stored, refused.retryable) == ("disk-full", "no", True)
        assert client.drain() == [b"a", b"b"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up(small_disk: Path, start_node: Start) -> None:
    node = start_node(data=str(small_disk / "data"))
    with PlainClient(node.address) as client:
        client.create()
        stored = 0
        while True:
            answer = client.ask(client.send_request([random.Random(stored).randbytes(256 << 10)]))
            if isinstance(answer, Failed):
                break
            stored += 1
            assert stored < 1000
        assert answer.code == "disk-full"
        assert stored > 20
        taken = 0
        while delivered := client.receive(8, wait=0).parts:
            taken += sum(p.count for p in delivered)
            client.ack(Delivered("q", 0.0, delivered))
        assert taken == stored
    assert node.stop(signal.SIGTERM) == 0
    assert "Traceback" not in node.log


def test_a_node_that_waits_for_its_seeds_says_so(tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as other:
        for taken in (one, other):
            taken.bind(("127.0.0.1", 0))
        address, seed = (f"127.0.0.1:{taken.getsockname()[1]}" for taken in (one, other))
    settings = {"name": "n1", "listen": address, "join": [seed]}
    waiting = NodeProcess(tmp_path, settings, {"stdout": subprocess.DEVNULL})
    try:
        waiting.address = address
        deadline = time.monotonic() + 20
        while "serving  no" not in dmq(waiting, "node", "status").stdout:
            assert time.monotonic() < deadline, waiting.log
        for command in (("cluster", "status"), ("top", "--once"), ("node", "leave")):
            done = dmq(waiting, "--timeout", "1s", *command)
            assert done.returncode == 6, (command, done)
            assert done.stderr.count("\n") == 1, (command, done)
            assert " has no cluster yet: it waits for its seeds" in done.stderr, (command, done)
    finally:
        waiting.kill()
