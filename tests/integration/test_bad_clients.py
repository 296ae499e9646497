"""Clients that do not read, do not write, or are too many."""

from __future__ import annotations

import resource
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from dmqnode.blocking import connect_sync
from dmqnode.doors import MAX_QUESTIONS
from dmqnode.messages import GetQueue, Members, NodeStatus, Receive, Report
from tests.plain_client import PlainClient, bodies
from tests.processes import NodeProcess

pytestmark = pytest.mark.slow
Start = Callable[..., NodeProcess]


def test_a_client_that_never_reads_neither_fills_the_memory_nor_holds_up_the_others(
    start_node: Start,
) -> None:
    node = start_node(memory_limit=64 << 20, max_frame=4 << 20)
    with ExitStack() as stack:
        client = stack.enter_context(PlainClient(node.address))
        client.create(max_message_size=2 << 20)
        for _ in range(100):
            client.send(bytes(1 << 20))
        before = node.memory()
        for _ in range(6):
            deaf = stack.enter_context(PlainClient(node.address, receive_buffer=4096))
            for _ in range(40):
                deaf.start(Receive("q", 10, 1 << 21, 0.0, 2.0))
        client.create("other")
        slowest = 0.0
        for i in range(50):
            began = time.monotonic()
            client.send(b"%d" % i, queue="other")
            assert bodies(client.receive(1, "other", wait=20)) == [b"%d" % i]
            slowest = max(slowest, time.monotonic() - began)
        assert node.memory() - before < 80 << 20
        assert slowest < 8.0  # a client that does not read is given up after 2 s when others wait
        # What went to those clients comes back; nothing is lost.
        deadline = time.monotonic() + 30
        found = 0
        while found < 100:
            assert time.monotonic() < deadline, found
            delivered = client.receive(1, wait=5, visibility=60)
            found += len(bodies(delivered))
            client.ack(delivered)


def test_half_a_request_from_many_fills_no_memory(start_node: Start) -> None:
    node = start_node(memory_limit=64 << 20, max_frame=4 << 20)
    half = struct.pack("<II", 4 << 20, 0) + bytes(3 << 20)
    with ExitStack() as stack:
        client = stack.enter_context(PlainClient(node.address))
        client.create()
        before = node.memory()
        for _ in range(20):
            slow = stack.enter_context(PlainClient(node.address))
            slow.ask(Members())
            slow.socket.sendall(half)
            client.send(b"x")
        assert node.memory() - before < 40 << 20
        assert len(client.drain()) == 20
    assert "held too much memory" in node.log


def test_two_thousand_idle_connections(start_node: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2500:
        pytest.skip("this host allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
    node = start_node()
    with ExitStack() as stack:
        client = stack.enter_context(PlainClient(node.address))
        client.create()
        before = node.memory()
        idle = []
        for _ in range(2000):
            idle.append(stack.enter_context(PlainClient(node.address)))
            idle[-1].flush()
        for one in idle:
            while one.connection.welcome is None:
                assert one.read()
        assert node.memory() - before < 2000 * 25_000
        client.send(b"a")
        assert client.drain() == [b"a"]
        report = client.expect(Report, idle[1234].ask(NodeStatus()))
        assert report.fields["connections"] == 2001
        began = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - began < 4.0


def test_more_connections_than_the_limit_are_told_so(start_node: Start) -> None:
    node = start_node(max_connections=3)
    with ExitStack() as stack:
        clients = [stack.enter_context(PlainClient(node.address)) for _ in range(3)]
        for client in clients:
            client.ask(Members())
        with PlainClient(node.address) as fourth:
            fourth.flush()
            fourth.read_to_end()
            assert fourth.connection.why_closed.startswith("this node has 3 connections, its limit")
        clients.pop().close()
        deadline = time.monotonic() + 10
        while True:
            with PlainClient(node.address) as again:
                again.flush()
                again.read()
                if again.connection.welcome is not None:
                    break
            assert time.monotonic() < deadline


def test_a_node_that_is_out_of_files_goes_on_when_it_has_some_again(start_node: Start) -> None:
    node = start_node(max_connections=5000)
    with PlainClient(node.address) as client, ExitStack() as stack:
        client.create()
        used = len(list(Path(f"/proc/{node.pid}/fd").iterdir()))
        limits = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (used + 2, limits[1]))
        for _ in range(10):
            stack.enter_context(PlainClient(node.address)).flush()
        deadline = time.monotonic() + 10
        while "cannot accept a connection" not in node.log:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.ask(Members())
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, limits)
        with PlainClient(node.address) as late:
            late.ask(Members())
        client.send(b"x")
        assert client.drain() == [b"x"]
    assert "Traceback" not in node.log
    assert node.stop() == 0


def test_who_asks_for_what_is_not_there_and_goes_takes_no_place_from_others(three: list[NodeProcess]) -> None:
    address = three[0].address
    with connect_sync(address) as client:
        client.create_queue("there")
    three[2].process.send_signal(signal.SIGSTOP)  # so that the others are asked for it until they have gone
    try:
        for n in range(MAX_QUESTIONS):
            with PlainClient(address) as one:
                one.start(GetQueue(f"nosuch-{n}"))
                one.socket.shutdown(socket.SHUT_WR)
                while one.socket.recv(1 << 16):
                    pass
    finally:
        three[2].process.send_signal(signal.SIGCONT)
    with connect_sync(address, timeout=10.0) as client:
        assert client.queue("there")["name"] == "there"
