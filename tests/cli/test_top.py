"""`dmq top`."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from typing import Any

import pytest

from cli import top
from tests.cli.program import DEADLINE, DMQ, Dmq


def test_once(dmq: Dmq, queue: str) -> None:
    dmq("send", queue, "--lines", "--quiet", stdin=b"x\n" * 100_000)
    ran = dmq("top", "--once")
    assert ran.code == 0
    assert "cluster dmq: 1 of 1 alive, healthy" in ran.out
    assert any(line.split()[:2] == [queue, "100000"] for line in ran.out.splitlines())
    nodes = [line.split() for line in ran.out.splitlines() if line.startswith("shared")]
    assert [node[1] for node in nodes] == ["alive"]
    assert "0 moving; 0 hints" in ran.out
    found = dmq("top", "--json").rows[0]
    assert found["rates"]["sent"] > 0
    assert {"node", "rates", "members", "queues"} == set(found)


class Client:
    """Answers as a node of a cluster of two would, of which one is dead."""

    def __init__(self) -> None:
        self.sent = 0

    def status(self) -> dict[str, Any]:
        used = dict.fromkeys(("memory_bytes", "store_bytes", "free_bytes", "connections"), 1)
        rated = {**dict.fromkeys(top._RATES, 0), "sent": self.sent}
        whole = dict.fromkeys(("partitions", "leaderless", "under_replicated", "moving", "hints"), 2)
        nodes = [{"name": "n1", "leads": 5, **used, **rated}]
        node = {"name": "n1", "address": "h:1", "cluster": "dmq", "memory_limit": 1, "uptime_seconds": 9.0}
        overview = {**whole, "nodes": nodes, "healthy": False}
        return {**node, **used, **rated, "healthy": True, "overview": overview}

    def members(self) -> dict[str, Any]:
        return {"members": [{"name": "n1", "state": "alive"}, {"name": "n2", "state": "dead"}]}

    def queues(self, *, counts: bool) -> list[dict[str, Any]]:
        known = {"name": "a", "paused": False, "ready": 2, "delayed": 0, "in_flight": 1, "bytes": 4}
        return [{"name": "b", "paused": False}, known]


def test_each_node_is_shown_with_what_it_does_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 2.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    client = Client()
    first = top.Look(client, None)
    client.sent = 3000
    second = top.Look(client, first)
    assert "1 of 2 alive, NOT healthy; 2 partitions: 2 leaderless" in second.heading()[0]
    headings, rows = second.nodes()
    shown = [dict(zip(headings, row)) for row in rows]
    assert [(n["NODE"], n["STATE"], n["LEADS"], n["SENT/S"]) for n in shown] == [
        ("n1", "alive", "5", "1,500"),
        ("n2", "dead", "-", "-"),
    ]
    assert first.nodes()[1][0][3] == "-", "one look says nothing of rates"


def test_a_queue_that_nobody_can_count_has_no_counts() -> None:
    assert top.Look(Client(), None).table()[1] == [
        ["a", "2", "0", "1", "4B", "-"],
        ["b", "-", "-", "-", "-", "-"],
    ]


def test_how_many_queues_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "SHOWN", 1)
    look = top.Look(Client(), None)
    assert [row[0] for row in look.table()[1]] == ["a"]
    assert "the 1 queues with the most messages, of 2" in look.heading()


@pytest.mark.slow
def test_live_until_ctrl_c(dmq: Dmq, queue: str) -> None:
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    popen = subprocess.Popen(
        [DMQ, "top", "--interval", "100ms"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while seen.count(b"cluster dmq") < 3 and select.select([mine], [], [], DEADLINE)[0]:
        seen += os.read(mine, 1 << 16)
    popen.send_signal(2)
    while select.select([mine], [], [], DEADLINE)[0]:
        try:
            if not os.read(mine, 1 << 16):
                break
        except OSError:
            break
    os.close(mine)
    assert popen.communicate(timeout=DEADLINE)[1] == b""
    assert popen.returncode == 130
    assert b"QUEUE" in seen
