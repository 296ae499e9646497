"""The blocking client's sockets: when it waits, when it does not, and what it leaves behind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dmqnode.errors import Unavailable, UsageError
from dmqnode.introduction import new_asking
from dmqnode.messages import GetQueue, Nack, QueueInfo, Receive, Settled
from dmqnode.pump import Pump
from tests.dmqnode.answering import FakeNode, delivered


class Served:
    """One connection of a client, on the node's side."""

    def __init__(self) -> None:
        self.door = socket.create_server(("127.0.0.1", 0))
        self.door.settimeout(10)
        self.node = FakeNode()
        self.stream: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.door.getsockname()[1]}"

    def read(self, *, requests: int = 1) -> None:
        """Answer what greets, until so many requests are there."""
        if self.stream is None:
            self.stream, _ = self.door.accept()
            self.stream.settimeout(10)
        while len(self.node.requests) < requests:
            self.node.receive(0.0, self.stream.recv(1 << 16))
            self.write()

    def write(self) -> None:
        assert self.stream is not None
        self.stream.sendall(self.node.connection.data_to_send())


@pytest.fixture
def served() -> Iterator[Served]:
    there = Served()
    yield there
    for each in (there.door, there.stream):
        if each is not None:
            each.close()


def pump(*addresses: str, timeout: float = 10.0) -> Pump:
    return Pump(new_asking(addresses, None, timeout, None))


def test_nothing_is_dialled_before_somebody_waits(served: Served) -> None:
    made = pump(served.address)
    slot = made.start(GetQueue("q"))
    made.nudge()
    served.door.setblocking(False)
    with pytest.raises(BlockingIOError):
        served.door.accept()
    served.door.settimeout(10)

    def answer() -> None:
        served.read()
        served.node.answer(served.node.take()[0], QueueInfo({"name": "q"}))
        served.write()

    thread = threading.Thread(target=answer)
    thread.start()
    assert made.wait(slot) == QueueInfo({"name": "q"})
    thread.join()
    begun = time.monotonic()
    made.nudge()  # does not wait
    assert time.monotonic() - begun < 1
    made.close()


def test_an_interrupted_wait_withdraws_the_call_and_gives_back_what_comes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pump(served.address)
    slot = made.start_receive(Receive("q", 10, 1000, 60.0, None), 60.0)
    found: list[object] = []

    def answer() -> None:
        served.read()
        number, _ = served.node.take()
        served.node.answer(number, delivered(b"x"))
        served.write()
        served.read()
        number, message = served.node.take()
        found.append(message)
        served.node.answer(number, Settled([]))
        served.write()

    def interrupted(now: float, until: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(made, "_wait_and_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.wait(slot)
    monkeypatch.undo()
    thread = threading.Thread(target=answer)
    thread.start()
    made.close()
    thread.join()
    assert [type(message) for message in found] == [Nack]
    with pytest.raises(UsageError, match="closed"):
        made.start(GetQueue("q"))


def test_no_node_is_told_when_the_time_is_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        made = pump(f"127.0.0.1:{taken.getsockname()[1]}", timeout=0.3)
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="connection refused"):
            made.wait(made.start(GetQueue("q")))
        assert 0.2 < time.monotonic() - begun < 5
        made.close()


def test_a_node_that_hangs_up_between_two_calls_is_noticed_before_the_next(served: Served) -> None:
    made = pump(served.address, timeout=5.0)

    def answer() -> None:
        served.read()
        served.node.answer(served.node.take()[0], QueueInfo({}))
        served.write()
        assert served.stream is not None
        served.stream.close()
        served.stream, served.node = None, FakeNode()
        served.read()
        assert served.node.requests
        served.node.answer(served.node.take()[0], QueueInfo({"again": True}))
        served.write()

    thread = threading.Thread(target=answer)
    thread.start()
    assert made.wait(made.start(GetQueue("q"))) == QueueInfo({})
    call = made.start(GetQueue("q"))
    assert made.wait(call) == QueueInfo({"again": True})
    thread.join()
    made.close()
