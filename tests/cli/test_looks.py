"""`dmq queue peek` and `dmq queue explain`."""

from __future__ import annotations

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
