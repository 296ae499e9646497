"""`dmq cluster members` and `dmq cluster status`."""

from __future__ import annotations

import json
import signal

import pytest

from cli.cluster import cluster_status
from tests.cli.program import Dmq, Start


def test_members(dmq: Dmq) -> None:
    row = dmq("cluster", "members", "--json").rows[0]
    assert (row["name"], row["state"]) == ("shared", "alive")
    heading, line = dmq("cluster", "members").out.splitlines()
    assert heading.split()[:3] == ["NAME", "ADDRESS", "STATE"]
    assert line.split()[:3] == ["shared", row["address"], "alive"]


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
        "healthy": True,
    }
    seen = {"cluster": "c", "members": [{"state": "alive"}, {"state": "dead"}]}
    found = cluster_status({"overview": node}, seen)
    assert (found["members"], found["alive"], found["healthy"]) == (2, 1, False)


@pytest.mark.slow
def test_watch_looks_again(process: Start) -> None:
    watch = process("cluster", "status", "--watch", "--json")
    assert json.loads(watch.line())["alive"] == 1
    assert json.loads(watch.line())["alive"] == 1
    watch.popen.send_signal(signal.SIGINT)
    assert watch.end().code == 130
