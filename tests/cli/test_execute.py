"""`dmq receive --exec`."""

from __future__ import annotations

import json
import signal
import socket
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import dmqnode
from cli.execute import LONGEST_REST, _Worker, environment
from cli.receive import Wanted
from tests.cli.program import DEADLINE, Counts, Dmq, Start, until


def test_what_a_command_finds_in_its_environment() -> None:
    message: Any = SimpleNamespace(
        id="i", receipt="r", attempt=2, queue="q", attributes={"trace-id": "t", "Kind": "a\0b"}
    )
    assert environment(message) == {
        "DMQ_MESSAGE_ID": "i",
        "DMQ_RECEIPT": "r",
        "DMQ_ATTEMPT": "2",
        "DMQ_QUEUE": "q",
        "DMQ_ATTR_trace_id": "t",
        "DMQ_ATTR_TRACE_ID": "t",
        "DMQ_ATTR_Kind": "ab",
        "DMQ_ATTR_KIND": "ab",
    }


def test_each_message_is_given_to_a_command(dmq: Dmq, queue: str, counts: Counts, place: Path) -> None:
    dmq("send", queue, "--ndjson", stdin=b'{"body":"a","attributes":{"kind":"K"}}\n{"body":"b"}\n')
    command = 'echo "$(cat) $DMQ_QUEUE $DMQ_ATTEMPT $DMQ_ATTR_KIND" >> out'
    ran = dmq("receive", queue, "--all", "--exec", command)
    assert ran.code == 0
    assert ran.err == "dmq: 2 messages done\n"
    assert (place / "out").read_text() == f"a {queue} 1 K\nb {queue} 1 \n"
    assert counts(queue) == (0, 0, 0)
    assert dmq("receive", queue, "--all", "--exec", "true").code == 3


def test_exit_codes_decide(dmq: Dmq, queue: str, counts: Counts) -> None:
    dead = f"{queue}-dead"
    dmq("queue", "create", dead)
    dmq("queue", "set", queue, "--max-attempts", "3", "--dead-letter", dead)
    dmq("send", queue, "--lines", "--quiet", stdin=b"good\npoison\nagain\n")
    command = 'case $(cat) in good) ;; poison) exit 65 ;; *) test "$DMQ_ATTEMPT" = 2 ;; esac'
    ran = dmq("receive", queue, "--all", "--exec", command)
    assert ran.code == 0
    assert ran.err == "dmq: 2 messages done, 1 given back, 1 to the dead-letter queue\n"
    assert counts(queue) == (0, 0, 0)
    row = dmq("receive", dead, "--json").rows[0]
    assert row["body"] == "poison"
    assert any("exit code 65" in value for value in row["attributes"].values())


def test_without_a_dead_letter_queue_65_gives_back(dmq: Dmq, queue: str, counts: Counts) -> None:
    dmq("send", queue, "x")
    ran = dmq("receive", queue, "-n", "1", "--exec", "exit 65")
    assert ran.code == 0
    assert "no dead-letter queue" in ran.err
    assert counts(queue) == (1, 0, 0)


def test_a_command_that_reads_nothing(dmq: Dmq, queue: str, counts: Counts) -> None:
    dmq("send", queue, "--quiet", stdin=b"x" * 900_000)
    assert dmq("receive", queue, "-n", "1", "--exec", "true").code == 0
    assert counts(queue) == (0, 0, 0)


class Endless:
    """A queue that always has a message, which comes again when it is given back."""

    async def receive(self, queue: str, *, max_messages: int, **_: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [SimpleNamespace(receipt=f"{trio.current_time()} {n}") for n in range(max_messages)]

    async def ack(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def nack(self, message: Any, **_: Any) -> None:
        await trio.lowlevel.checkpoint()


async def runs(codes: list[int], workers: int = 1) -> list[float]:
    """Return when commands began that end at once with these codes."""
    wanted = Wanted(None, wait=1.0, follow=True, visibility=None)
    worker: Any = _Worker(SimpleNamespace(), "q", wanted, "true", workers)  # type: ignore[arg-type]
    begun: list[float] = []
    start = trio.current_time()

    async def run_command(message: Any) -> int:
        begun.append(round(trio.current_time() - start, 6))
        await trio.lowlevel.checkpoint()
        if len(begun) >= len(codes):
            worker._signal = signal.SIGTERM
            worker._taking.cancel()
        return codes[len(begun) - 1] if len(begun) <= len(codes) else 0

    worker._run_command = run_command
    async with trio.open_nursery() as commands:
        await worker._take(Endless(), commands)
    return begun


async def test_who_fails_again_and_again_takes_less_and_less_often(autojump_clock: MockClock) -> None:
    begun = await runs([1] * 10)
    rests = [round(b - a, 6) for a, b in pairwise(begun)]
    assert rests == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert rests[-1] == LONGEST_REST


async def test_a_success_ends_that(autojump_clock: MockClock) -> None:
    assert await runs([1, 1, 0, 0, 1, 1, 0]) == [0.0, 0.1, 0.3, 0.3, 0.3, 0.4, 0.6]


async def test_several_that_fail_at_once_rest_once(autojump_clock: MockClock) -> None:
    assert await runs([1] * 12, workers=4) == [0.0] * 4 + [0.1] * 4 + [0.3] * 4


class GivesAgain:
    """A queue of one message, which another worker has before whoever gave it back is told so."""

    def __init__(self) -> None:
        self.back = trio.Event()
        self.given = 0

    async def receive(self, queue: str, **_: Any) -> list[Any]:
        if self.given:
            await self.back.wait()
        self.given += 1
        return [SimpleNamespace(id="m", receipt=f"r{self.given}")]

    async def nack(self, message: Any, **_: Any) -> None:
        self.back.set()
        await trio.sleep(0.1)


async def test_what_one_worker_gives_back_another_may_have_at_once(autojump_clock: MockClock) -> None:
    wanted = Wanted(2, wait=1.0, follow=True, visibility=None)
    worker: Any = _Worker(SimpleNamespace(), "q", wanted, "false", 4)  # type: ignore[arg-type]

    async def run_command(message: Any) -> int:
        await trio.lowlevel.checkpoint()
        return 1

    worker._run_command = run_command
    async with trio.open_nursery() as commands:
        await worker._take(GivesAgain(), commands)
    assert (worker._nacked, worker._running) == (2, {})


def test_a_command_that_fails_is_given_its_message_again_after_a_rest(
    dmq: Dmq, queue: str, place: Path
) -> None:
    dmq("send", queue, "x")
    command = "date +%s%N >> at; test $DMQ_ATTEMPT = 4"
    assert dmq("receive", queue, "--all", "--exec", command).code == 0
    first, *_, last = (int(line) for line in (place / "at").read_text().split())
    assert last - first > 0.7e9


@pytest.mark.slow
def test_the_message_stays_hidden_while_its_command_runs(dmq: Dmq, queue: str, place: Path) -> None:
    """Two workers, a visibility of half a second, a command of two: it runs once."""
    dmq("send", queue, "x")
    command = "echo $DMQ_ATTEMPT >> runs; sleep 2"
    options = ["--visibility", "500ms", "--workers", "2", "--exec", command]
    assert dmq("receive", queue, "--all", *options).code == 0
    assert (place / "runs").read_text() == "1\n"


@pytest.mark.slow
def test_workers_run_at_once(dmq: Dmq, queue: str, place: Path) -> None:
    """Each of three commands waits for the files of the two others."""
    dmq("send", queue, "--lines", "--quiet", stdin=b"1\n2\n3\n")
    command = "touch here.$(cat); until [ -e here.1 ] && [ -e here.2 ] && [ -e here.3 ]; do sleep 0.05; done"
    ran = dmq("receive", queue, "-n", "3", "--workers", "3", "--exec", command)
    assert (ran.code, ran.err) == (0, "dmq: 3 messages done\n")


@pytest.mark.slow
def test_sigterm_finishes_what_runs_and_takes_no_more(
    dmq: Dmq, queue: str, process: Start, place: Path, counts: Counts
) -> None:
    dmq("send", queue, "--lines", "--quiet", stdin=b"1\n2\n")
    command = "touch running; until [ -e go ]; do sleep 0.05; done; echo done >> out"
    worker = process("receive", queue, "--follow", "--exec", command)
    until((place / "running").exists)
    worker.popen.send_signal(signal.SIGTERM)
    (place / "go").touch()
    ran = worker.end()
    assert ran.code == 143
    assert ran.err.endswith("dmq: 1 message done\n")
    assert (place / "out").read_text() == "done\n"
    assert counts(queue) == (1, 0, 0)


@pytest.mark.slow
def test_sigterm_ends_a_worker_that_waits(dmq: Dmq, queue: str, process: Start) -> None:
    worker = process("receive", queue, "--wait", "1h", "--exec", "true")
    until(lambda: dmq("queue", "explain", queue, "--json").rows[0]["waiting_receivers"])
    worker.popen.send_signal(signal.SIGTERM)
    ran = worker.end()
    assert (ran.code, ran.err) == (143, "")


@pytest.mark.slow
def test_a_second_signal_stops_the_command_and_gives_back(
    dmq: Dmq, queue: str, process: Start, place: Path, counts: Counts
) -> None:
    dmq("send", queue, "x")
    worker = process("receive", queue, "--exec", "touch running; exec sleep 60")
    until((place / "running").exists)
    worker.popen.send_signal(signal.SIGINT)
    assert worker.popen.stderr is not None
    assert b"finishing" in worker.popen.stderr.readline()
    worker.popen.send_signal(signal.SIGINT)
    assert worker.end().code == 130
    assert counts(queue) == (1, 0, 0)


def test_a_command_that_cannot_be_started_is_one_that_fails(dmq: Dmq, queue: str, counts: Counts) -> None:
    """The system takes no text as long as this into an environment; the others go on."""
    big = json.dumps({"body": "big", "attributes": {"k": "\N{GRINNING FACE}" * 40_000}})
    dmq("send", queue, "--ndjson", stdin=f'{big}\n{{"body":"a"}}\n{{"body":"b"}}\n'.encode())
    ran = dmq("receive", queue, "-n", "3", "--workers", "3", "--exec", "cat")
    assert ran.code == 0
    assert "the command could not be started: Argument list too long (its attributes are" in ran.err
    assert ran.err.endswith("dmq: 2 messages done, 1 given back\n")
    assert sorted(ran.out) == ["a", "b"]
    assert counts(queue) == (1, 0, 0)


class Client:
    """A client of a queue with one message."""

    def __init__(self) -> None:
        self.nacked: list[Any] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def queue(self, name: str) -> dict[str, float]:
        await trio.lowlevel.checkpoint()
        return {"visibility": 30.0}

    async def receive(self, queue: str, **_: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [SimpleNamespace(id="m", receipt="r")]

    async def nack(self, messages: Any, **_: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.nacked += [message.id for message in messages]


async def test_whatever_ends_a_worker_it_gives_back_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: Any = SimpleNamespace(nodes=(), token=None, timeout=1.0, direct=False)
    client = Client()
    monkeypatch.setattr(dmqnode, "connect", lambda *_, **__: client)
    worker: Any = _Worker(shared, "q", Wanted(1, wait=1.0, follow=False, visibility=None), "true", 1)

    async def run_command(message: Any) -> int:
        await trio.lowlevel.checkpoint()
        raise KeyError("a bug")

    worker._run_command = run_command
    with pytest.raises(ExceptionGroup):
        await worker.run()
    assert client.nacked == ["m"]


@pytest.mark.slow
def test_sigterm_before_a_node_has_answered(process: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(DEADLINE)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        worker = process("receive", "q", "--exec", "true", "--node", address)
        connection, _ = silent.accept()
        worker.popen.send_signal(signal.SIGTERM)
        ran = worker.end()
        connection.close()
    assert (ran.code, ran.err) == (143, "")
