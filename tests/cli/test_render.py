"""How results look."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from typing import Any

import pytest

from cli.render import Progress, plain_table, several
from tests.cli.program import DEADLINE, DMQ, Dmq


def on_terminal(*args: str, answer: bytes = b"", **environment: str) -> tuple[int, str]:
    """Run the program on a terminal; return its exit code and what was seen."""
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment}
    popen = subprocess.Popen([DMQ, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    if answer:
        os.write(mine, answer)
    seen = b""
    while select.select([mine], [], [], DEADLINE)[0]:
        try:
            data = os.read(mine, 1 << 16)
        except OSError:
            break
        seen += data
        if not data:
            break
    os.close(mine)
    return popen.wait(DEADLINE), seen.decode()


def test_a_plain_table_is_aligned() -> None:
    assert plain_table(["A", "LONG"], [["x", "1"], ["yyy", ""]]) == ["A    LONG", "x    1", "yyy"]


def test_counts() -> None:
    assert several(1) == "1 message"
    assert several(0) == "0 messages"
    assert several(1200, "file") == "1,200 files"


def test_no_progress_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress("sent", 10, wanted=True) as progress:
        progress.to(5, 5)
    assert capfd.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    shown: list[tuple[int, int]] = []

    class Bar:
        def __init__(self, what: str, total: int | None) -> None:
            assert (what, total) == ("sent", 10)

        def to(self, done: int, count: int) -> None:
            shown.append((done, count))

        def stop(self) -> None:
            shown.append((-1, -1))

    monkeypatch.setattr("cli.render.is_terminal", lambda descriptor: True)
    monkeypatch.setattr("cli.colour.ProgressBar", Bar)
    monkeypatch.setattr("cli.render.SHOW_AFTER", 0.0)
    with Progress("sent", 10, wanted=True) as progress:
        progress.to(5, 4)
    assert shown == [(5, 4), (-1, -1)]
    with Progress("sent", 10, wanted=False) as progress:
        progress.to(5, 4)
    assert len(shown) == 2


@pytest.mark.slow
def test_a_terminal_has_tables_and_colour(dmq: Dmq, queue: str) -> None:
    code, seen = on_terminal("queue", "list", queue)
    assert code == 0
    assert "\x1b[1m" in seen
    code, plain = on_terminal("queue", "list", queue, NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert queue in re.sub(r"\x1b\[[0-9;]*m", "", plain)
    assert dmq("queue", "list", queue).out.split()[0] == "NAME"


@pytest.mark.slow
def test_a_terminal_is_asked_before_messages_are_dropped(dmq: Dmq, queue: str) -> None:
    def ready() -> Any:
        return dmq("queue", "show", queue, "--json").rows[0]["ready"]

    dmq("send", queue, "x")
    code, seen = on_terminal("queue", "purge", queue, answer=b"n\n")
    assert code == 1
    assert "Drop all messages of queue" in seen
    assert ready() == 1
    assert on_terminal("queue", "purge", queue, answer=b"y\n")[0] == 0
    assert ready() == 0
    assert on_terminal("queue", "delete", queue, "--force")[0] == 0
    assert dmq("queue", "show", queue).code == 4
