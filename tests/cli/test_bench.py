"""`dmq bench`."""

from __future__ import annotations

import signal
import time

import pytest

from tests.cli.program import DEADLINE, Counts, Dmq, Start
from tests.processes import NodeProcess

SCENARIOS = ["send1", "send64", "stream", "drain", "both"]


def queues(dmq: Dmq) -> list[str]:
    return [row["name"] for row in dmq("queue", "list", "--json").rows]


def test_every_scenario_moves_what_was_asked_for(dmq: Dmq, node: NodeProcess) -> None:
    before = queues(dmq)
    ran = dmq("bench", "--messages", 300, "--batch", 70, "--size", 33, "--pid", node.pid, "--json")
    assert ran.code == 0, ran.err
    assert [row["scenario"] for row in ran.rows] == SCENARIOS
    for row in ran.rows:
        assert row["messages"] == 300
        assert row["size"] == 33
        assert row["batch"] == (1 if row["scenario"].startswith("send") else 70)
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["per_second"] > 0
        assert row["cpu_seconds_per_100k"] is not None
        assert row["resident_mib"] > 1
    assert queues(dmq) == before


def test_several_clients_for_a_time(dmq: Dmq) -> None:
    ran = dmq(
        *("bench", "--scenario", "both,stream", "--producers", 2, "--consumers", 3),
        *("--duration", "100ms", "--json"),
    )
    assert ran.code == 0, ran.err
    both, stream = ran.rows
    assert both["messages"] >= 1000
    assert stream["messages"] >= 1000
    assert stream["seconds"] >= 0.1
    assert both["cpu_seconds_per_100k"] is both["resident_mib"] is None


def test_table_and_chart_for_people(dmq: Dmq) -> None:
    ran = dmq("bench", "--scenario", "send64", "--scenario", "drain", "--messages", 200)
    assert ran.code == 0
    heading, send, drain, *chart = ran.out.splitlines()
    assert heading.split()[:2] == ["messages/s", "MiB/s"]
    assert send.split()[0] == "send64"
    assert "message" in send
    assert drain.split()[0] == "drain"
    assert "█" in "".join(chart)
    assert any("|1ms" in line or "|10ms" in line for line in chart)


def test_a_queue_that_is_there_is_left(dmq: Dmq, queue: str, counts: Counts) -> None:
    ran = dmq("bench", "--queue", queue, "--scenario", "stream", "--messages", 100, "--json")
    assert ran.code == 0, ran.err
    assert counts(queue) == (0, 0, 0)


def test_a_queue_that_is_not_there_is_made_and_deleted(dmq: Dmq) -> None:
    assert dmq("bench", "--queue", "bench-mine", "--scenario", "send1", "--messages", 5).code == 0
    assert "bench-mine" not in queues(dmq)


def test_messages_of_others_are_not_touched(dmq: Dmq, queue: str, counts: Counts) -> None:
    dmq("send", queue, "precious")
    ran = dmq("bench", "--queue", queue, "--messages", 10)
    assert ran.code == 2
    assert "would be lost" in ran.err
    assert counts(queue) == (1, 0, 0)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--scenario", "fast"], "there is no 'fast'"),
        (["--messages", "5", "--duration", "1s"], "give one of them"),
        (["--messages", "none"], "--messages"),
        (["--size", "big"], "--size"),
        (["--batch", "0"], "--batch"),
        (["--pid", "nobody"], "--pid"),
    ],
)
def test_wrong_arguments(offline: Dmq, args: list[str], words: str) -> None:
    ran = offline("bench", *args)
    assert ran.code == 2
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_too_large_a_body_is_refused_in_one_sentence(dmq: Dmq) -> None:
    before = queues(dmq)
    ran = dmq("bench", "--scenario", "send64", "--messages", 100, "--size", "2MiB")
    assert ran.code == 9
    assert len(ran.err.splitlines()) == 1
    assert queues(dmq) == before


def test_without_a_node(offline: Dmq) -> None:
    ran = offline("bench", "--node", "127.0.0.1:1", "--timeout", "1s")
    assert ran.code == 6
    assert "Traceback" not in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_leave_it_deletes_its_queue(dmq: Dmq, process: Start, number: signal.Signals) -> None:
    running = process("bench", "--queue", "bench-told", "--duration", "60s")
    until = time.monotonic() + DEADLINE
    while "bench-told" not in queues(dmq) and time.monotonic() < until:
        time.sleep(0.05)
    running.popen.send_signal(number)
    ran = running.end()
    assert ran.code == 128 + number, ran.err
    assert ran.err == ""
    assert "bench-told" not in queues(dmq)
