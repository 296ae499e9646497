"""A real node that is killed, stopped, started again: nothing that was answered is lost."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dmqnode.messages import Receive, Stored
from tests.plain_client import PlainClient, bodies
from tests.processes import NodeProcess

pytestmark = pytest.mark.slow
Start = Callable[..., NodeProcess]


def test_sigkill_in_the_middle_of_sends_loses_nothing_that_was_answered(start_node: Start) -> None:
    node = start_node()
    rng = random.Random(1)
    answered: list[bytes] = []
    sent: set[bytes] = set()
    for round_ in range(4):
        killer = threading.Timer(rng.uniform(0.05, 0.3), node.process.kill)
        with PlainClient(node.address) as client:
            client.create()
            killer.start()
            under_way: dict[int, list[bytes]] = {}
            n = 0
            try:
                while not client.ended:
                    batch = [b"%d-%d-%d" % (round_, n, i) for i in range(rng.randint(1, 20))]
                    n += 1
                    sent.update(batch)
                    under_way[client.start(client.send_request(batch))] = batch
                    if len(under_way) >= 8:
                        client.read()
                    for number in list(client.answers):
                        assert isinstance(client.answers.pop(number), Stored)
                        answered += under_way.pop(number)
            except ConnectionError:
                pass
        killer.join()
        node.kill()
        node.restart()
    with PlainClient(node.address) as client:
        found = client.drain()
    assert len(answered) > 100
    assert len(found) == len(set(found))
    assert set(answered) <= set(found) <= sent


def test_what_was_acked_stays_away_and_what_was_not_comes_back_after_a_kill(start_node: Start) -> None:
    node = start_node()
    with PlainClient(node.address) as client:
        client.create(visibility=0.5)
        client.send(*[b"%d" % i for i in range(100)])
        first = client.receive(30)
        assert client.ack(first).failed == []
        second = client.receive(20)
    node.kill()
    node.restart()
    with PlainClient(node.address) as client:
        found: set[bytes] = set()
        while len(found) < 70:
            delivered = client.receive(100, wait=10)
            found.update(bodies(delivered))
            client.ack(delivered)
    assert found == {b"%d" % i for i in range(100)} - set(bodies(first))
    assert set(bodies(second)) <= found


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_signal_stops_the_node_gracefully(start_node: Start, signal_: signal.Signals) -> None:
    node = start_node()
    with PlainClient(node.address) as client:
        client.create()
        client.send(b"a", b"b")
        held = client.receive(1, visibility=3600)
        waiting = client.start(Receive("empty", 1, 1000, 600.0, None))  # refused, there is no such queue
        client.answer(waiting)
        client.create("empty")
        waiting = client.start(Receive("empty", 1, 1000, 600.0, None))
        client.send(b"c")  # the node has taken in everything before this
        began = time.monotonic()
        node.process.send_signal(signal_)
        assert client.answer(waiting).parts == []  # type: ignore[attr-defined]
        client.read_to_end()
        assert [type(n).__name__ for n in client.notices] == ["Goodbye"]
        assert node.wait() == 0
        assert time.monotonic() - began < 4.0
    node.restart()
    with PlainClient(node.address) as client:
        # The delivery outlived the restart: only the others come, and the receipt still counts.
        assert sorted(bodies(client.receive(10))) == [b"b", b"c"]
        assert client.ack(held).failed == []


def test_sends_under_way_when_the_node_stops_are_answered(start_node: Start) -> None:
    node = start_node()
    with PlainClient(node.address) as client:
        client.create()
        numbers = [client.connection.request(client.send_request([b"%d" % i])) for i in range(200)]
        client.flush()
        client.answer(numbers[0])
        node.process.send_signal(signal.SIGTERM)
        client.read_to_end()
        outcomes = [client.answers.get(n) for n in numbers[1:]]
    assert None not in outcomes
    assert node.wait() == 0
    node.restart()
    with PlainClient(node.address) as client:
        found = client.drain()
    assert len(found) == 1 + sum(isinstance(o, Stored) for o in outcomes)


def test_a_second_signal_ends_the_node_at_once(start_node: Start) -> None:
    node = start_node()
    client = PlainClient(node.address, receive_buffer=4096)
    with client:
        client.create(max_message_size=8 << 20)
        for _ in range(3):
            client.send(bytes(4 << 20))
        # A client that does not read what it asked for would hold the stop up for some seconds.
        for _ in range(3):
            client.start(Receive("q", 1, 8 << 20, 0.0, None))
        with PlainClient(node.address) as other:
            other.send(b"x")
        node.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while "stopping" not in node.log:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        node.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert node.wait() == 143
        assert time.monotonic() - began < 2.0


def test_a_signal_during_the_start_stops_it(start_node: Start) -> None:
    node = start_node()
    node.stop()
    node.begin()
    deadline = time.monotonic() + 10
    while "store" not in "".join(_open_files(node.pid)):  # its signals are watched before its store is opened
        assert time.monotonic() < deadline
    assert node.stop() == 0


def _open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue
    return found
