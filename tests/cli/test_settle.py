"""`dmq ack`, `dmq nack`, `dmq extend`."""

from __future__ import annotations

from tests.cli.program import Counts, Dmq


def take(dmq: Dmq, queue: str, count: int) -> list[str]:
    """Send and receive `count` messages; return their receipts."""
    dmq("send", queue, "--lines", "--quiet", stdin=b"x\n" * count)
    return [row["receipt"] for row in dmq("receive", queue, "-n", count, "--json", "--keep").rows]


def test_ack(dmq: Dmq, queue: str, counts: Counts) -> None:
    receipts = take(dmq, queue, 5)
    ran = dmq("ack", *receipts[:2])
    assert (ran.code, ran.out, ran.err) == (0, "", "dmq: 2 messages acked\n")
    assert dmq("ack", stdin="\n".join(receipts[2:4]).encode()).code == 0
    assert dmq("ack", "-", stdin=receipts[4].encode()).code == 0
    assert counts(queue) == (0, 0, 0)


def test_nack(dmq: Dmq, queue: str, counts: Counts) -> None:
    receipts = take(dmq, queue, 2)
    assert dmq("nack", receipts[0]).code == 0
    assert dmq("nack", "--delay", "1h", receipts[1]).code == 0
    assert counts(queue) == (1, 1, 0)


def test_extend(dmq: Dmq, queue: str) -> None:
    receipts = take(dmq, queue, 1)
    assert dmq("extend", "2h", *receipts).code == 0
    holder = dmq("queue", "explain", queue, "--json").rows[0]["holders"][0]
    assert holder["until_seconds"] > 7000
    assert dmq("extend", "x", *receipts).code == 2


def test_stale_receipts(dmq: Dmq, queue: str) -> None:
    receipts = take(dmq, queue, 3)
    assert dmq("nack", receipts[0]).code == 0
    ran = dmq("ack", receipts[0], "--json")
    assert ran.code == 4
    assert ran.error["code"] == "stale-receipt"
    ran = dmq("ack", *receipts, "--json")
    assert ran.code == 10
    assert [f["index"] for f in ran.error["failures"]] == [0]
    receipts = take(dmq, queue, 2)
    dmq("nack", *receipts)
    ran = dmq("ack", *receipts)
    assert ran.code == 4
    assert ran.err.startswith("dmq: all of 2 receipts were refused; the first: ")


def test_no_receipt_and_no_such_receipt(dmq: Dmq) -> None:
    assert dmq("ack").code == 2
    ran = dmq("ack", "nonsense")
    assert ran.code == 2
    assert "is not a receipt" in ran.err
