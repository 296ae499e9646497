"""`dmq queue peek` and `dmq queue explain`."""

from __future__ import annotations

from typing import Any

import pytest

from cli import looks, options
from tests.cli.program import Counts, Dmq


def test_peek_takes_nothing(dmq: Dmq, queue: str, counts: Counts) -> None:
    dmq("send", queue, "--lines", "--quiet", stdin=b"".join(b"%d\n" % n for n in range(20)))
    dmq("send", queue, "late", "--delay", "1h")
    held = dmq("receive", queue, "--keep", "--json").rows[0]
    assert [row["body"] for row in dmq("queue", "peek", queue, "--json").rows] == [
        str(n) for n in range(1, 11)
    ]
    found = dmq("queue", "peek", queue, "-n", "1", "--json").rows
    assert (found[0]["body"], found[0]["receipt"]) == ("1", None)
    assert dmq("queue", "peek", queue, "--state", "delayed", "--json").rows[0]["body"] == "late"
    assert dmq("queue", "peek", queue, "--state", "in-flight", "--json").rows[0]["id"] == held["id"]
    assert counts(queue) == (19, 1, 1)


def test_peek_for_people(dmq: Dmq, queue: str) -> None:
    assert dmq("queue", "peek", queue).err == f'dmq: queue "{queue}" has no message that is ready\n'
    dmq("send", queue, stdin=b"a\tline\n" + b"x" * 200)
    heading, row = dmq("queue", "peek", queue).out.splitlines()
    assert heading.split() == ["ID", "SENT-AT", "ATTEMPT", "SIZE", "BODY"]
    assert "a·line·xxx" in row
    assert row.endswith("x…")
    ran = dmq("queue", "peek", queue, "--state", "gone")
    assert ran.code == 2
    assert "it is one of ready, delayed, in-flight" in ran.err


def test_explain(dmq: Dmq, queue: str) -> None:
    assert f"{queue}: the queue is empty" in dmq("queue", "explain", queue).out
    dmq("send", queue, "x")
    dmq("receive", queue, "--keep")
    ran = dmq("queue", "explain", queue)
    assert "HOLDER" in ran.out
    assert "LEADER" in ran.out
    report = dmq("queue", "explain", queue, "--json").rows[0]
    assert report["in_flight"] == 1
    assert report["holders"][0]["count"] == 1
    dmq("queue", "pause", queue)
    assert "the queue is paused" in dmq("queue", "explain", queue).out


def test_explain_names_what_no_home_has(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("ready", "delayed", "in_flight", "hints", "bytes", "waiting_receivers")
    counts = {name: 20 + n for n, name in enumerate(names)}
    partition = {
        **counts,
        "index": 3,
        "leader": "n1",
        "homes": ["n1", "n2"],
        "lease": 7,
        "lease_seconds": 1.5,
        "copies": [{"home": "n2", "state": "follows", "lacking": 12}],
        "missing": [{"first": "abc-40", "count": 12}],
    }
    told = {**counts, "oldest_seconds": None, "reasons": ["why"], "holders": [], "partitions": [partition]}
    monkeypatch.setattr(options, "shared", lambda ctx: Shared(told))
    looks.explain(None, "q")  # type: ignore[arg-type]
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["3", "n1", "n1,n2", "7", "1.5s", "20", "21", "22", "23", "12"] in lines
    assert ["3", "n2", "follows", "12"] in lines
    assert ["3", "abc-40", "11"] in lines


class Shared:
    """Options before a command, and a client that explains a queue as it is told to."""

    json = quiet = False

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def client(self, queue: str) -> Shared:
        return self

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def explain(self, name: str) -> dict[str, Any]:
        return self._told
