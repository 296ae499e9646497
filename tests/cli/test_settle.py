"""`dmq ack`, `dmq nack`, `dmq extend`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from dmqnode.errors import DMQError, PartlyFailed, StaleReceipt, Unavailable, Unknown
from tests.cli.program import Counts, Dmq, Start, until


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


class Answers:
    """A client that settles one request after the other so."""

    def __init__(self, *answers: DMQError | None) -> None:
        self.answers = list(answers)

    def ack(self, receipts: list[str]) -> None:
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer


STALE, LOST = StaleReceipt("it is over"), Unknown("no answer")
AWAY, ASLEEP = Unavailable("no leader"), Unavailable("no node")


@pytest.mark.parametrize(
    ("answer", "code", "error", "sentence"),
    [
        (AWAY, 6, "unavailable", "no leader"),
        ([AWAY, ASLEEP], 6, "unavailable", "all of 2 receipts were refused; the first: no leader"),
        ([STALE, AWAY], 6, "unavailable", "all of 2 receipts were refused; one of them: no leader"),
        (
            [LOST, Unknown("gone")],
            8,
            "unknown",
            "all of 2 receipts are not surely acked; the first: no answer",
        ),
        ([AWAY, LOST], 8, "unknown", "all of 2 receipts are not surely acked; one of them: no answer"),
        ([STALE, STALE], 4, "stale-receipt", "all of 2 receipts were refused; the first: it is over"),
        ([AWAY], 10, "partly-failed", "1 of 2 receipts were refused; the first: no leader"),
        ([LOST], 10, "partly-failed", "1 of 2 receipts are not surely acked; the first: no answer"),
    ],
)
def test_why_nothing_is_done(
    offline: Dmq,
    answered_by: Callable[[object], None],
    answer: DMQError | list[DMQError],
    code: int,
    error: str,
    sentence: str,
) -> None:
    several = isinstance(answer, list)
    answered_by(Answers(PartlyFailed("x", list(enumerate(answer))) if isinstance(answer, list) else answer))
    ran = offline("ack", "R1", "R2", "--json")
    assert ran.code == code
    assert (ran.error["code"], ran.error["message"]) == (error, sentence)
    assert len(ran.error.get("failures", ())) == (len(answer) if several else 0)  # type: ignore[arg-type]


def test_what_is_done_before_an_error_is_told(offline: Dmq, answered_by: Callable[[object], None]) -> None:
    client = Answers(None, AWAY, None)
    answered_by(client)
    ran = offline("ack", *(f"R{n}" for n in range(2500)), "--json")
    assert ran.code == 10
    assert ran.error["message"] == "1,000 of 2,000 receipts were refused; the first: no leader"
    assert [failure["index"] for failure in ran.error["failures"]] == list(range(1000, 1100))
    assert client.answers == [None], "no more is tried"


@pytest.mark.slow
def test_what_is_no_receipt_behind_one_that_is(dmq: Dmq, queue: str, process: Start, counts: Counts) -> None:
    receipt = take(dmq, queue, 1)[0]
    acker = process("ack", "--json", stdin=subprocess.PIPE)
    assert acker.popen.stdin is not None
    acker.popen.stdin.write(f"{receipt}\n".encode())
    acker.popen.stdin.flush()
    until(lambda: counts(queue) == (0, 0, 0), "the ack")
    acker.popen.stdin.write(b"garbage\n")
    acker.popen.stdin.close()
    acker.popen.stdin = None
    ran = acker.end()
    assert ran.code == 10
    assert "1 of 2 receipts were refused; the first: 'garbage' is not a receipt" in ran.error["message"]
