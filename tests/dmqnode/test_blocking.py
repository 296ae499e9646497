"""The blocking client against a real node in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmqnode.blocking import SyncClient, connect_sync
from dmqnode.errors import (
    InvalidRequest,
    LimitExceeded,
    PartlyFailed,
    QueueExists,
    QueueNotFound,
    StaleReceipt,
    Unavailable,
    Unknown,
    UsageError,
)
from dmqnode.outgoing import Outgoing
from tests.processes import NodeProcess, running_node

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def client(node: NodeProcess) -> Iterator[SyncClient]:
    with connect_sync(node.address, timeout=20) as connected:
        yield connected


@pytest.fixture
def queue(client: SyncClient, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name[:100].replace("[", ".").replace("]", "")
    client.create_queue(name, visibility=60)
    yield name
    client.delete_queue(name)


def test_what_is_sent_is_received_and_acked(client: SyncClient, queue: str) -> None:
    id_ = client.send(queue, b"body \xff", attributes={"k": "v"})
    (message,) = client.receive(queue)
    assert (message.id, message.body, message.attributes) == (id_, b"body \xff", {"k": "v"})
    assert message.attempt == 1
    assert abs(message.sent_at - time.time()) < 60
    message.extend(30)
    message.nack()
    (message,) = client.receive(queue)
    assert message.attempt == 2
    message.ack()
    with pytest.raises(StaleReceipt):
        message.ack()
    assert client.receive(queue, wait=0) == []


def test_many_of_any_size_keep_their_order(client: SyncClient, queue: str) -> None:
    bodies = [b"%d" % n * (n % 50) for n in range(20_000)]
    ids = client.send_many(queue, [*bodies, Outgoing(b"last", {"a": "b"})])
    assert len(set(ids)) == len(bodies) + 1
    got = []
    for messages in client.receive_stream(queue, max_messages=3000, wait=0.2):
        got += messages
        client.ack(messages)
    assert [m.body for m in got] == [*bodies, b"last"]
    assert [m.id for m in got] == ids
    assert got[-1].attributes == {"a": "b"}
    assert client.queue(queue)["in_flight"] == 0


def test_a_stream_gives_ids_as_it_goes(client: SyncClient, queue: str) -> None:
    batches = list(client.send_stream(queue, (b"x" * 100 for _ in range(50_000))))
    assert sum(map(len, batches)) == 50_000
    assert len(batches) > 3
    assert client.purge_queue(queue) == 50_000


def test_a_closed_receive_stream_gives_back_what_it_took_ahead(
    node: NodeProcess, client: SyncClient, queue: str
) -> None:
    client.send_many(queue, [b"a", b"b", b"c", b"d"])
    with connect_sync(node.address) as other:
        stream = other.receive_stream(queue, max_messages=2, wait=5)
        first = next(stream)
        stream.close()
    assert [m.body for m in first] == [b"a", b"b"]
    again = client.receive(queue, max_messages=10, wait=5)
    assert [m.body for m in again] == [b"c", b"d"]


def test_part_of_a_batch_may_fail(client: SyncClient, queue: str) -> None:
    client.send_many(queue, [b"a", b"b", b"c"])
    messages = client.receive(queue, max_messages=3)
    messages[1].nack(delay=60)
    with pytest.raises(PartlyFailed) as failed:
        client.ack(messages)
    assert [at for at, _ in failed.value.failures] == [1]
    assert client.queue(queue)["in_flight"] == 0


def test_errors_say_what_is_known(client: SyncClient, queue: str) -> None:
    with pytest.raises(QueueNotFound):
        client.send("nowhere", b"a")
    with pytest.raises(QueueExists):
        client.create_queue(queue)
    with pytest.raises(InvalidRequest):
        client.set_queue(queue, visibility=-1)
    with pytest.raises(LimitExceeded) as large:
        client.send(queue, b"x" * (2 << 20))
    assert large.value.code == "too-large"
    with pytest.raises(UsageError):
        client.ack("nonsense")


def test_queues_are_told_of(client: SyncClient, queue: str) -> None:
    assert client.pause_queue(queue)["paused"]
    client.send_many(queue, [b"%d" % n for n in range(25)])
    assert client.receive(queue, wait=0) == []
    assert client.explain(queue)["reasons"]
    assert not client.resume_queue(queue)["paused"]
    assert [m.body for m in client.browse(queue, limit=3)] == [b"0", b"1", b"2"]
    assert sum(map(len, client.browse_stream(queue))) == 25
    assert queue in [q["name"] for q in client.queues()]
    (info,) = client.queues(queue, counts=True)
    assert info["ready"] == 25
    assert client.status()["serving"]
    assert client.members()["members"]


def test_redrive_moves_back(client: SyncClient, queue: str) -> None:
    client.send_many(f"{queue}-dead", [b"%d" % n for n in range(10)], create=True)
    assert client.redrive(f"{queue}-dead", queue, limit=3) == 3
    assert client.redrive(f"{queue}-dead", queue) == 7
    assert client.queue(queue)["ready"] == 10
    client.delete_queue(f"{queue}-dead")


def test_no_node_is_told_soon() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        start = time.monotonic()
        with connect_sync(address) as client, pytest.raises(Unavailable, match="is one running there"):
            client.send("q", b"a")
    assert time.monotonic() - start < 10


def test_a_silent_node_is_unknown_at_the_deadline() -> None:
    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with connect_sync(address, timeout=0.3) as client:
            with pytest.raises(Unknown):
                client.send("q", b"a")
            with pytest.raises(Unavailable):
                client.queue("q")
    assert time.monotonic() - start < 5


def test_what_does_not_speak_dmq_is_said() -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            connection.recv(1 << 16)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with connect_sync(address, timeout=0.5) as client, pytest.raises(Unavailable, match="does not speak"):
            client.queue("q")


def test_a_restarted_node_is_found_again(tmp_path: Path) -> None:
    with running_node(tmp_path) as node, connect_sync(node.address, timeout=30) as client:
        client.create_queue("q")
        client.send("q", b"before")
        node.kill()
        node.restart()
        client.send("q", b"after")
        assert client.purge_queue("q") == 2


def test_an_interrupt_ends_a_wait_and_leaves_a_usable_queue(
    client: SyncClient, node: NodeProcess, queue: str
) -> None:
    class Rang(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Rang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with connect_sync(node.address) as other:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(Rang):
                other.receive(queue, wait=20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.send(queue, b"a")
    (message,) = client.receive(queue, wait=5)
    assert message.attempt == 1


def test_a_signal_that_is_handled_does_not_end_a_wait(client: SyncClient, queue: str) -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert client.receive(queue, wait=0.4) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(rung) >= 2


def test_a_closed_client_says_so(node: NodeProcess) -> None:
    client = connect_sync(node.address)
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.status()


def test_the_blocking_half_loads_nothing_heavy() -> None:
    code = (
        "import sys; from dmqnode.blocking import connect_sync;"
        "slow = {'trio', 'asyncio', 'ssl', 'dataclasses', 'inspect', 'random', 'plyvel', 'typer'};"
        "print(sorted(slow & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert run.stdout.strip() == "[]", run.stderr
