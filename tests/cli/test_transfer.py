"""`dmq queue redrive | export | import`."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.cli.program import Counts, Dmq, Start, until


@pytest.fixture
def dead(dmq: Dmq, queue: str) -> str:
    """The dead-letter queue of `queue`, with three messages."""
    name = f"{queue}-dead"
    dmq("queue", "create", name)
    dmq("queue", "set", queue, "--max-attempts", "1", "--dead-letter", name)
    dmq("send", queue, "--lines", "--quiet", stdin=b"a\nb\nc\n")
    dmq("receive", queue, "--all", "--exec", "exit 65")
    return name


def test_redrive_to_where_they_came_from(dmq: Dmq, queue: str, dead: str, counts: Counts) -> None:
    assert counts(dead) == (3, 0, 0)
    assert dmq("queue", "redrive", dead, "-n", "1").err == "dmq: 1 message redriven\n"
    assert counts(dead) == (2, 0, 0)
    assert dmq("queue", "redrive", dead, "--json").rows == [{"name": dead, "redriven": 2}]
    assert counts(queue) == (3, 0, 0)


def test_redrive_to_another_queue(dmq: Dmq, queue: str, dead: str, counts: Counts) -> None:
    other = f"{queue}-other"
    assert dmq("queue", "redrive", dead, "--to", other).code == 4
    dmq("queue", "create", other)
    assert dmq("queue", "redrive", dead, "--to", other).code == 0
    assert counts(other) == (3, 0, 0)


def test_export_and_import(dmq: Dmq, queue: str, counts: Counts, place: Path) -> None:
    """Everything is exported, whatever its state, and nothing is taken."""
    dmq("send", queue, "--lines", "--quiet", stdin=b"held\nready\n")
    dmq("send", queue, "late", "--delay", "1h", "-H", "k=v", "--group", "g")
    dmq("send", queue, stdin=b"\x00\xff")
    dmq("receive", queue, "--keep")
    ran = dmq("queue", "export", queue, "out.ndjson")
    assert (ran.code, ran.out, ran.err) == (0, "", "dmq: 4 messages exported\n")
    assert counts(queue) == (2, 1, 1)
    exported = [json.loads(line) for line in (place / "out.ndjson").read_text().splitlines()]
    assert dmq("queue", "export", queue).rows == exported
    copy = f"{queue}-copy"
    dmq("queue", "create", copy)
    ran = dmq("queue", "import", copy, "out.ndjson")
    assert (ran.code, ran.out, ran.err) == (0, "", "dmq: 4 messages sent\n")
    assert dmq("queue", "import", copy, "-", stdin=(place / "out.ndjson").read_bytes()).code == 0
    kept = ("body", "encoding", "attributes", "group")
    got = [[row.get(k) for k in kept] for row in dmq("receive", copy, "--all", "--json").rows]
    assert sorted(map(str, got)) == sorted(str([row.get(k) for k in kept]) for row in exported * 2)


def test_an_export_is_whole_or_not_there(dmq: Dmq, queue: str, place: Path) -> None:
    ran = dmq("queue", "export", queue, "no-such-directory/out")
    assert ran.code == 2
    assert "cannot write no-such-directory/out: No such file" in ran.err
    (place / "out").write_text("of before")
    assert dmq("queue", "export", queue[1:], "out").code == 4
    assert (place / "out").read_text() == "of before"
    assert not (place / "out.part").exists()


def test_import_of_what_is_no_message(dmq: Dmq, queue: str, place: Path) -> None:
    (place / "in").write_text('{"body": "x"}\nnonsense\n')
    ran = dmq("queue", "import", queue, "in")
    assert ran.code == 10
    assert "in, line 2: this is not JSON" in ran.err
    assert dmq("queue", "import", queue, "none").code == 2
    (place / "in").write_text("nonsense\n")
    assert dmq("queue", "import", queue, "in").code == 2


def test_an_export_through_a_link_leaves_the_link(dmq: Dmq, queue: str, place: Path) -> None:
    dmq("send", queue, "x")
    (place / "real").write_text("of before")
    for link, real in (("link", "real"), ("dangling", "new")):
        (place / link).symlink_to(real)
        assert dmq("queue", "export", queue, link).code == 0
        assert (place / link).is_symlink()
        assert json.loads((place / real).read_text())["body"] == "x"


@pytest.mark.slow
def test_an_export_into_a_named_pipe(dmq: Dmq, queue: str, process: Start, place: Path) -> None:
    dmq("send", queue, "x")
    os.mkfifo(place / "pipe")
    exporter = process("queue", "export", queue, "pipe")
    reading = os.open(place / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # a writer that never comes has no end
    until(lambda: exporter.popen.poll() is not None, "the end of the export")
    data = os.read(reading, 1 << 16)
    os.close(reading)
    assert exporter.end().code == 0
    assert json.loads(data)["body"] == "x"
    assert stat.S_ISFIFO((place / "pipe").stat().st_mode)


@pytest.mark.slow
def test_an_export_to_where_standard_output_goes(dmq: Dmq, queue: str, process: Start, place: Path) -> None:
    """As /dev/stdout is: what is there stays, where the shell appends."""
    dmq("send", queue, "x")
    (place / "out").write_text("of before\n")
    with (place / "out").open("ab") as out:
        assert process("queue", "export", queue, "out", stdout=out).end().code == 0
    before, exported = (place / "out").read_text().splitlines()
    assert (before, json.loads(exported)["body"]) == ("of before", "x")
