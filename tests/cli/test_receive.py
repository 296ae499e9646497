"""`dmq receive`, without --exec."""

from __future__ import annotations

import os
import signal
import subprocess
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli import receive
from dmqnode.errors import Unavailable, Unknown
from tests.cli.program import DEADLINE, Counts, Dmq, Start, until


def test_one_message_exactly_as_it_was(dmq: Dmq, queue: str, counts: Counts) -> None:
    dmq("send", queue, "--lines", stdin=b"first\nsecond\n")
    ran = dmq("receive", queue)
    assert (ran.code, ran.out, ran.err) == (0, "first", "")
    assert dmq("receive", queue, "--lines").out == "second\n"
    assert counts(queue) == (0, 0, 0)


def test_nothing_within_the_wait(dmq: Dmq, queue: str) -> None:
    ran = dmq("receive", queue, "--wait", "0s")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == f'dmq: nothing to receive in queue "{queue}"\n'
    assert dmq("receive", queue, "--all").code == 3
    assert dmq("receive", queue, "--all", "--quiet").err == ""


def test_some_and_all(dmq: Dmq, queue: str) -> None:
    dmq("send", queue, "--lines", stdin=b"".join(b"%d\n" % n for n in range(10_000)))
    ran = dmq("receive", queue, "-n", "3", "--lines")
    assert ran.out == "0\n1\n2\n"
    assert ran.err == "dmq: 3 messages received\n"
    ran = dmq("receive", queue, "--all", "--lines")
    assert ran.out == "".join(f"{n}\n" for n in range(3, 10_000))
    assert dmq("receive", queue, "-n", "5", "--wait", "0s").code == 3


def test_fewer_than_wanted(dmq: Dmq, queue: str) -> None:
    dmq("send", queue, "only")
    ran = dmq("receive", queue, "-n", "5", "--wait", "10ms")
    assert (ran.code, ran.out) == (0, "only")


def test_json_has_every_field(dmq: Dmq, queue: str, counts: Counts) -> None:
    id_ = dmq("send", queue, "-H", "k=v", stdin=b"\xff").out.strip()
    row = dmq("receive", queue, "--json", "--keep").rows[0]
    assert sorted(row) == sorted(
        ["id", "receipt", "body", "encoding", "attributes", "attempt", "sent_at", "queue"]
    )
    assert (row["id"], row["body"], row["encoding"], row["attempt"]) == (id_, "/w==", "base64", 1)
    assert row["queue"] == queue
    assert row["sent_at"].endswith("Z")
    assert counts(queue) == (0, 0, 1)
    assert dmq("ack", row["receipt"]).code == 0


def test_kept_messages_come_again(dmq: Dmq, queue: str) -> None:
    dmq("send", queue, "x")
    assert dmq("receive", queue, "--keep", "--visibility", "100ms").out == "x"
    row = dmq("receive", queue, "--json", "--wait", "10s").rows[0]
    assert (row["body"], row["attempt"]) == ("x", 2)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--all", "--follow"], "--all ends and --follow does not"),
        (["--workers", "2"], "--workers is for --exec"),
        (["--exec", "true", "--keep"], "leave --keep and --lines out"),
        (["-n", "0"], "-n: '0' is not a whole number from 1 on"),
        (["--exec", "true", "--workers", "0"], "--workers: '0' is not"),
        (["--wait", "x"], "--wait: 'x' is not a duration"),
    ],
)
def test_usage(dmq: Dmq, queue: str, args: list[str], sentence: str) -> None:
    ran = dmq("receive", queue, *args)
    assert ran.code == 2
    assert sentence in ran.err


def test_a_queue_that_is_not_there(dmq: Dmq, queue: str) -> None:
    for more in ([], ["--exec", "true"]):
        ran = dmq("receive", queue[1:], *more)
        assert ran.code == 4
        assert f'did you mean "{queue}"?' in ran.err


@pytest.mark.slow
def test_follow_prints_what_comes_until_it_is_told_to_end(
    dmq: Dmq, queue: str, process: Start, counts: Counts
) -> None:
    follower = process("receive", queue, "--follow", "--lines")
    for body in ("one", "two"):
        dmq("send", queue, body)
        assert follower.line() == f"{body}\n"
        until(lambda: counts(queue) == (0, 0, 0), "the ack")
    follower.popen.send_signal(signal.SIGTERM)
    ran = follower.end()
    assert (ran.code, ran.err) == (143, "")
    assert counts(queue) == (0, 0, 0)


@pytest.mark.slow
def test_ctrl_c_while_it_waits(dmq: Dmq, queue: str, process: Start) -> None:
    waiting = process("receive", queue)
    until(lambda: dmq("queue", "explain", queue, "--json").rows[0]["waiting_receivers"])
    waiting.popen.send_signal(signal.SIGINT)
    ran = waiting.end()
    assert (ran.code, ran.out, ran.err) == (130, "", "")


@pytest.mark.slow
def test_ctrl_c_while_nobody_reads_gives_the_messages_back(
    dmq: Dmq, queue: str, process: Start, counts: Counts
) -> None:
    body = b"x" * 1000 + b"\n"
    dmq("send", queue, "--lines", "--quiet", stdin=body * 1000)
    stuck = process("receive", queue, "--all", "--lines")
    until(lambda: counts(queue)[2] >= 64, "a delivery that the pipe cannot hold")
    stuck.popen.send_signal(signal.SIGINT)
    written = stuck.end()
    assert written.code == 130
    ready, _, held = counts(queue)
    assert held == 0
    assert ready + written.out.count("\n") >= 1000


@pytest.mark.slow
def test_what_a_reader_leaves_in_the_pipe_is_not_acked(
    dmq: Dmq, queue: str, process: Start, counts: Counts
) -> None:
    """All of it would fit into the pipe."""
    dmq("send", queue, "--lines", "--quiet", stdin=b"x\n" * 1000)
    reading, writing = os.pipe()
    receiver = process("receive", queue, "--all", "--lines", stdout=writing)
    os.close(writing)
    assert os.read(reading, 2) == b"x\n"
    os.close(reading)
    ran = receiver.end()
    assert (ran.code, ran.err) == (0, "")
    # The one that was read may come again: the reader can be gone before the receiver sees that it read.
    assert counts(queue) in ((999, 0, 0), (1000, 0, 0))


@pytest.mark.slow
def test_a_reader_that_reads_only_at_the_end(dmq: Dmq, queue: str, process: Start, counts: Counts) -> None:
    dmq("send", queue, "--lines", "--quiet", stdin=b"x\n" * 1000)
    receiver = process("receive", queue, "--all", "--lines")
    assert receiver.popen.wait(DEADLINE) == 0
    assert receiver.end().out == "x\n" * 1000
    assert counts(queue) == (0, 0, 0)


@pytest.mark.slow
def test_a_closed_pipe_loses_nothing(dmq: Dmq, queue: str, process: Start, counts: Counts) -> None:
    dmq("send", queue, "--lines", "--quiet", stdin=(b"x" * 1000 + b"\n") * 1000)
    reading, writing = os.pipe()
    receiver = process("receive", queue, "--all", "--lines", stdout=writing)
    os.close(writing)
    head = subprocess.run(["head", "-n", "1"], stdin=reading, capture_output=True, check=True)
    os.close(reading)
    ran = receiver.end()
    assert len(head.stdout) == 1001
    assert (ran.code, ran.err) == (0, "")
    assert counts(queue) in ((999, 0, 0), (1000, 0, 0)), "at most what head has printed"


class Late:
    """A client whose messages are with their leader only when it has been asked for a while."""

    def __init__(self, hints: list[int], answers: list[list[object]]) -> None:
        self.hints = hints
        self.answers = answers

    def receive(self, queue: str, **options: object) -> list[object]:
        return self.answers.pop(0)

    def status(self) -> dict[str, object]:
        return {"overview": {"hints": self.hints.pop(0)}}


@pytest.mark.parametrize(
    ("all_", "patience", "comes"), [(True, 10.0, True), (True, 0.0, False), (False, 10.0, False)]
)
def test_all_is_not_over_while_messages_are_on_their_way_to_their_leader(
    monkeypatch: pytest.MonkeyPatch, all_: bool, patience: float, comes: bool
) -> None:
    monkeypatch.setattr(receive, "DEBTS_WAIT", patience)
    client: Any = Late([3, 3, 0], [[], [], ["message"], []])
    wanted = receive.Wanted(None, wait=0.0, follow=False, visibility=None, all_=all_)
    receiver = receive._Receiver(cast(Any, None), client, "q", wanted, lines=False, keep=False)
    assert receiver._next() == (["message"] if comes else None)
    if comes:
        assert receiver._next() is None


class Away:
    """A client that has messages, and whose node is away when they are acked."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def ack(self, messages: list[object]) -> None:
        raise self.error


@pytest.mark.parametrize("error", [Unavailable("no node"), Unknown("no answer")])
def test_who_follows_goes_on_where_an_ack_fails(capfd: pytest.CaptureFixture[str], error: Exception) -> None:
    message: Any = SimpleNamespace(body=b"x")

    def receiver(*, follow: bool) -> Any:
        wanted = receive.Wanted(None, wait=0.0, follow=follow, visibility=None)
        shared = SimpleNamespace(json=False)
        client: Any = Away(error)
        return receive._Receiver(cast(Any, shared), client, "q", wanted, lines=True, keep=False)

    receiver(follow=True)._write([message])
    out, err = capfd.readouterr()
    assert (out, err) == ("x\n", f"dmq: 1 message not acked: {error}\n")
    with pytest.raises(type(error)):
        receiver(follow=False)._write([message])
