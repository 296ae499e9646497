"""The command line against one real node, which all tests of a run share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cli.options import Shared
from cli.running import run
from tests.cli.program import Counts, Dmq, Process, Ran, Start
from tests.processes import NodeProcess, running_node

_numbers = count(1)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory and an environment without any settings."""
    for name in [n for n in os.environ if n.startswith("DMQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def _stdin(data: bytes) -> Iterator[None]:
    """Let file descriptor 0 be a pipe that gives `data`, or a file where a pipe would not hold it."""
    kept = os.dup(0)
    reading, writing = os.pipe()
    if len(data) > 30_000:
        os.close(reading)
        reading = os.memfd_create("stdin")
        os.write(reading, data)
        os.lseek(reading, 0, os.SEEK_SET)
    else:
        os.write(writing, data)
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@pytest.fixture
def offline(capfd: pytest.CaptureFixture[str]) -> Dmq:
    """Run the program in this process, without any node: `offline("send", "q", stdin=b"…")`."""

    def call(*args: object, stdin: bytes = b"") -> Ran:
        capfd.readouterr()
        with _stdin(stdin):
            code = run([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture
def answered_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Let commands have another client: `answered_by(client)`."""

    def answer(client: object) -> None:
        monkeypatch.setattr(Shared, "client", lambda shared, queue=None: nullcontext(client))

    return answer


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """The node that all tests share."""
    with running_node(tmp_path_factory.mktemp("node"), name="shared") as found:
        yield found


@pytest.fixture
def dmq(node: NodeProcess, offline: Dmq, monkeypatch: pytest.MonkeyPatch) -> Dmq:
    """Run the program in this process against the shared node."""
    monkeypatch.setenv("DMQ_NODES", node.address)
    return offline


@pytest.fixture
def queue(dmq: Dmq, request: pytest.FixtureRequest) -> str:
    """A queue of its own for each test."""
    name = re.sub(r"\W+", "-", request.node.name)[:60].strip("-") + f"-{next(_numbers)}"
    assert dmq("queue", "create", name).code == 0
    return name


@pytest.fixture
def process(dmq: Dmq) -> Iterator[Start]:
    """Start the program in a process of its own, which ends with the test: `process("receive", "q")`."""
    started: list[Process] = []

    def start(*args: object, **options: Any) -> Process:
        started.append(Process(*args, **options))
        return started[-1]

    yield start
    for one in started:
        if one.popen.poll() is None:
            one.popen.kill()
        one.popen.communicate()


@pytest.fixture
def counts(dmq: Dmq) -> Counts:
    """`counts(queue)`: how many messages are ready, delayed, in flight."""

    def look(name: str) -> tuple[int, int, int]:
        found = dmq("queue", "show", name, "--json").rows[0]
        return found["ready"], found["delayed"], found["in_flight"]

    return look
