"""One line per event, whatever a client put into it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from dmqnode.logs import BURST, PERIOD, Ration, log, say, start_logging


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = (log.handlers[:], log.level, log.propagate, logging.raiseExceptions)
    yield
    log.handlers[:], level, log.propagate, logging.raiseExceptions = before
    log.setLevel(level)


def test_text_is_a_line_of_time_level_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("text")
    say("serving", name="a", address="127.0.0.1:1", size=7)
    line = capsys.readouterr().err
    assert line.endswith("Z info    serving name=a address=127.0.0.1:1 size=7\n")


def test_a_field_cannot_pass_for_a_line_or_another_field(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("text")
    say("x", client='a b="c"\n2030 error fake', empty="", colour="\x1b[31m")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert '\\n2030 error fake"' in line
    assert "\x1b" not in line
    assert ' empty=""' in line


def test_json_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("json")
    say("it failed", level=logging.ERROR, why="a\nb")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0])
    assert (found["level"], found["message"], found["why"]) == ("error", "it failed", "a\nb")


def test_a_log_that_cannot_be_written_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError("no space")

        def flush(self) -> None: ...

    start_logging("text")
    log.handlers[0].stream = Full()  # type: ignore[attr-defined]
    say("x")
    assert capsys.readouterr().err == ""


def test_a_ration_is_a_burst_per_period_and_counts_what_it_holds_back() -> None:
    ration = Ration()
    for n in range(BURST):
        assert ration.take("a", float(n)) == 0
    for _ in range(7):
        assert ration.take("a", PERIOD - 1) is None
    assert ration.take("b", PERIOD - 1) == 0
    assert ration.take("a", PERIOD) == 7
    assert ration.take("a", PERIOD + 1) == 0
