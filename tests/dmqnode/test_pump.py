"""The blocking client's sockets: when it waits, when it does not, and what it leaves behind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from dmqnode import questions
from dmqnode.blocking import SyncClient
from dmqnode.errors import PartlyFailed, Unavailable, Unknown, UsageError
from dmqnode.introduction import new_asking
from dmqnode.messages import Done, GetQueue, Message, Nack, PurgeQueue, QueueInfo, Receive, Settled
from dmqnode.outgoing import Outgoing
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


def test_what_a_node_said_before_it_hung_up_does_not_hide_that_it_did(served: Served) -> None:
    made = pump(served.address, timeout=5.0)

    def answer(message: Message) -> None:
        served.read()
        served.node.answer(served.node.take()[0], message)
        served.write()

    def asked(request: Message, message: Message) -> object:
        thread = threading.Thread(target=answer, args=(message,))
        thread.start()
        answered = made.wait(made.start(request))
        thread.join()
        return answered

    asked(GetQueue("q"), QueueInfo({}))
    assert served.stream is not None
    served.node.connection.ping()
    served.write()
    served.stream.close()
    served.stream, served.node = None, FakeNode()
    assert asked(PurgeQueue("q"), Done(1)) == Done(1), "which is not repeated if it may have been done"
    made.close()


def test_time_in_which_the_caller_does_something_else_does_not_count(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + skipped[0], sleep=time.sleep)
    monkeypatch.setattr("dmqnode.pump.time", clock)
    made = pump(served.address, timeout=5.0)
    batches = made.batches(("q", None, False), [b"x" * 50_000] * 8, {}, stops=False)

    def answer() -> None:
        while len(served.node.bodies) < 8:
            served.read()
            served.node.store()
            served.write()

    thread = threading.Thread(target=answer)
    thread.start()
    outcomes = [next(batches)]
    for sent in batches:
        outcomes.append(sent)
        skipped[0] += 60.0
    thread.join()
    made.close()
    assert (sum(count for count, _, _ in outcomes), {error for _, _, error in outcomes}) == (8, {None})


def test_what_is_under_way_when_a_client_is_closed_is_told(served: Served) -> None:
    made = pump(served.address)
    batches = made.batches(("q", None, False), [b"x" * 50_000] * 8, {}, stops=False)

    def answer() -> None:
        served.read(requests=1)
        served.node.store()
        served.write()

    thread = threading.Thread(target=answer)
    thread.start()
    count, ids, error = next(batches)
    assert (count, len(ids), error) == (1, 1, None)
    thread.join()
    made.close()
    rest = list(batches)
    assert {type(error) for _, _, error in rest} <= {Unknown, UsageError}
    assert isinstance(rest[-1][2], UsageError)
    served.door.setblocking(False)
    with pytest.raises(BlockingIOError):
        served.door.accept()


def test_a_body_that_cannot_be_is_told_behind_those_that_are_stored(served: Served) -> None:
    made = pump(served.address)
    bodies: list[bytes | Outgoing] = [*[b"x" * 50_000] * 1100, Outgoing(b"x", group=""), b"behind it"]
    stored = 0
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            served.read()
            served.node.store()
            served.write()
            stop.wait(0 if len(served.node.bodies) < 1100 else 60)

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(PartlyFailed, match="none behind them was sent: group") as failed:
        SyncClient(made).send_many("q", bodies)
    stored = len(served.node.bodies)
    stop.set()
    thread.join()
    made.close()
    assert stored == 1100
    assert [at for at, _ in failed.value.failures] == [1100]


def test_a_step_that_fails_is_told_with_what_was_done_before(served: Served) -> None:
    made = pump(served.address)

    def answer() -> None:
        served.read()
        served.node.answer(served.node.take()[0], Done(4096, True))
        served.write()
        served.read()
        served.node.refuse("not-authorized")
        served.write()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(PartlyFailed, match="4096 messages were moved"):
        made.run(questions.redrive("dead", None, None))
    thread.join()
    made.close()
