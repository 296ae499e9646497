"""`dmq cluster members` and `dmq cluster status`."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from cli import cluster, options
from cli.cluster import cluster_status
from tests.cli.program import Dmq, Start


def test_members(dmq: Dmq) -> None:
    row = dmq("cluster", "members", "--json").rows[0]
    assert (row["name"], row["state"]) == ("shared", "alive")
    heading, line = dmq("cluster", "members").out.splitlines()
    assert heading.split() == ["NAME", "ADDRESS", "STATE", "ZONE", "WEIGHT", "VERSION", "ID"]
    assert line.split() == ["shared", row["address"], "alive", "-", "1", row["version"], row["node_id"]]


def test_status(dmq: Dmq) -> None:
    found = dmq("cluster", "status", "--json").rows[0]
    assert list(found) == [
        "cluster",
        "members",
        "alive",
        "partitions",
        "leaderless",
        "under_replicated",
        "hints",
        "set_aside",
        "moving",
        "healthy",
        "handed_over",
        "moves",
        "hand_off",
    ]
    assert (found["cluster"], found["members"], found["alive"], found["healthy"]) == ("dmq", 1, 1, True)
    assert "healthy           yes" in dmq("cluster", "status").out


def test_a_cluster_is_healthy_when_all_are_alive() -> None:
    node = {
        "partitions": 0,
        "leaderless": 0,
        "under_replicated": 0,
        "hints": 0,
        "set_aside": 0,
        "moving": 0,
        "handed_over": 0,
        "moves": [],
        "hand_off": [],
        "healthy": True,
    }
    seen = {"cluster": "c", "members": [{"state": "alive"}, {"state": "dead"}]}
    found = cluster_status({"overview": node}, seen)
    assert (found["members"], found["alive"], found["healthy"]) == (2, 1, False)


MOVE = {"queue": "q", "partition": 3, "from": ["n1"], "to": ["n4"], "done": 1200, "of": 5000}


def test_moves_and_hints_are_listed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    overview = {
        **dict.fromkeys(("partitions", "leaderless", "under_replicated", "hints", "set_aside", "moving"), 1),
        "handed_over": 7,
        "moves": [MOVE, {**MOVE, "queue": None, "of": None}],
        "hand_off": [{"queue": "q", "partition": 0, "hints": 9}],
        "healthy": False,
    }
    client = Client(overview)
    monkeypatch.setattr(options, "shared", lambda ctx: Shared(client))
    cluster.status(None)  # type: ignore[arg-type]
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["handed-over", "7"] in lines
    assert ["MOVING", "FROM", "TO", "MESSAGES"] in lines
    assert ["q", "3", "n1", "n4", "1,200", "of", "5,000"] in lines
    assert ["the", "list", "of", "members", "n1", "n4", "waits"] in lines
    assert ["q", "0", "9"] in lines


class Client:
    """Answers as a node of a cluster would."""

    def __init__(self, overview: dict[str, Any]) -> None:
        self._overview = overview

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {"overview": self._overview}

    def members(self) -> dict[str, Any]:
        return {"cluster": "dmq", "members": [{"state": "alive"}]}


class Shared:
    """What the options before a command say."""

    json = quiet = False

    def __init__(self, client: Client) -> None:
        self._client = client

    def client(self) -> Client:
        return self._client


@pytest.mark.slow
def test_watch_looks_again(process: Start) -> None:
    watch = process("cluster", "status", "--watch", "--json")
    assert json.loads(watch.line())["alive"] == 1
    assert json.loads(watch.line())["alive"] == 1
    watch.popen.send_signal(signal.SIGINT)
    assert watch.end().code == 130
