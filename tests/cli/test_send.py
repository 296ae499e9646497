"""`dmq send`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from dmqnode.errors import DMQError, LimitExceeded, Unknown
from tests.cli.program import Counts, Dmq, Start

LINES = 50_000
"""More than are under way at once."""


def bodies(dmq: Dmq, queue: str) -> list[str]:
    ran = dmq("receive", queue, "--all", "--json")
    return [row["body"] for row in ran.rows]


def test_a_body_from_the_arguments_or_stdin(dmq: Dmq, queue: str) -> None:
    ran = dmq("send", queue, "one")
    assert ran.code == 0
    assert ran.out.count("\n") == 1
    assert ran.err == ""
    assert dmq("send", queue, stdin=b"two\n").code == 0
    assert dmq("send", queue, "-", stdin=b"three").code == 0
    assert dmq("send", queue, "").code == 0
    assert bodies(dmq, queue) == ["one", "two\n", "three", ""]


def test_ids_are_printed_unless_quiet(dmq: Dmq, queue: str) -> None:
    id_ = dmq("send", queue, "a").out.strip()
    assert dmq("send", queue, "b", "--quiet").out == ""
    told = dmq("send", queue, "c", "--json").rows[0]
    rows = dmq("receive", queue, "--all", "--json").rows
    assert rows[0]["id"] == id_
    assert rows[2]["id"] == told["id"]


def test_lines_become_messages(dmq: Dmq, queue: str) -> None:
    ran = dmq("send", queue, "--lines", stdin=b"a\n\nb c\nlast")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 4
    assert ran.err == "dmq: 4 messages sent\n"
    quiet = dmq("send", queue, "--lines", "--quiet", stdin=b"x\n")
    assert (quiet.out, quiet.err) == ("", "")
    assert bodies(dmq, queue) == ["a", "", "b c", "last", "x"]
    assert dmq("send", queue, "--lines").err == "dmq: 0 messages sent\n"


def test_files_become_messages(dmq: Dmq, queue: str, place: Path) -> None:
    for name in ("a", "b", "c"):
        (place / name).write_text(f"content of {name}\n")
    assert dmq("send", queue, "--file", "a", "--file", "b").err == "dmq: 2 messages sent\n"
    assert dmq("send", queue, "--file", "b", "c").code == 0
    assert bodies(dmq, queue) == [f"content of {name}\n" for name in "abbc"]
    ran = dmq("send", queue, "--file", "none")
    assert ran.code == 2
    assert "cannot read none" in ran.err


def test_what_can_be_sent_is_sent_before_an_error_is_told(dmq: Dmq, queue: str, place: Path) -> None:
    (place / "a").write_text("good")
    ran = dmq("send", queue, "--file", "a", "none", "a")
    assert ran.code == 10
    assert "1 message sent, then one could not be: cannot read none" in ran.err
    ran = dmq("send", queue, "--ndjson", "--json", stdin=b'{"body":"x"}\n{"body":"y"}\n{\n{"body":"z"}\n')
    assert ran.code == 10
    assert "stdin, line 3: this is not JSON" in ran.error["message"]
    assert ran.error["failures"][0]["index"] == 2
    assert bodies(dmq, queue) == ["good", "x", "y"]


def test_json_lines_become_messages(dmq: Dmq, queue: str) -> None:
    sent = [
        {"body": "plain", "attributes": {"k": "v"}},
        {"body": "AP8=", "encoding": "base64", "group": "g"},
    ]
    assert dmq("send", queue, "--ndjson", stdin="\n".join(map(json.dumps, sent)).encode()).code == 0
    rows = dmq("receive", queue, "--all", "--json").rows
    assert (rows[0]["body"], rows[0]["attributes"]) == ("plain", {"k": "v"})
    assert (rows[1]["body"], rows[1]["encoding"], rows[1]["group"]) == ("AP8=", "base64", "g")


def test_options_of_a_message(dmq: Dmq, queue: str, counts: Counts) -> None:
    assert dmq("send", queue, "x", "-H", "a=1", "--header", "b=2", "--group", "g").code == 0
    row = dmq("receive", queue, "--json").rows[0]
    assert row["attributes"] == {"a": "1", "b": "2"}
    assert row["group"] == "g"
    first = dmq("send", queue, "x", "--dedup-id", "d").out
    assert dmq("send", queue, "x", "--dedup-id", "d").out == first
    assert dmq("send", queue, "later", "--delay", "1h", "--ttl", "2h").code == 0
    assert counts(queue) == (1, 1, 0)


def test_create_makes_the_queue(dmq: Dmq, queue: str) -> None:
    assert dmq("send", f"{queue}-new", "x", "--create").code == 0
    assert dmq("receive", f"{queue}-new").out == "x"
    assert dmq("send", f"{queue}-lines", "--lines", "--create", stdin=b"x\n").code == 0
    assert dmq("receive", f"{queue}-lines").out == "x"


def test_a_queue_that_is_not_there(dmq: Dmq, queue: str) -> None:
    wrong = queue[1:]
    for ran in (dmq("send", wrong, "x"), dmq("send", wrong, "--lines", stdin=b"x\n")):
        assert ran.code == 4
        assert ran.err == (
            f'dmq: queue "{wrong}" does not exist; did you mean "{queue}"? '
            f"create it with: dmq queue create {wrong}\n"
        )
    assert dmq("send", wrong, "x", "--json").error["code"] == "queue-not-found"
    assert "did you mean" not in dmq("send", "zzzz-nothing-like-it", "x").err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["a", "b"], "2 bodies are too much; quote one with spaces"),
        (["body", "--lines"], "--lines and BODY are too much"),
        (["--lines", "--ndjson"], "--lines and --ndjson are too much"),
        (["--lines", "--dedup-id", "d"], "--dedup-id is for one message"),
        (["x", "--delay", "soon"], "--delay: 'soon' is not a duration"),
        (["x", "--ttl", "0s"], "ttl is 0"),
        (["x", "-H", "novalue"], "--header: 'novalue' is not KEY=VALUE"),
    ],
)
def test_usage(dmq: Dmq, queue: str, args: list[str], sentence: str) -> None:
    ran = dmq("send", queue, *args)
    assert ran.code == 2
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_limits(dmq: Dmq, queue: str) -> None:
    ran = dmq("send", queue, "--json", stdin=bytes(2 << 20))
    assert ran.code == 9
    assert ran.error["stored"] == "no"
    assert dmq("send", queue, stdin=bytes(20 << 20)).code == 9
    assert dmq("send", "not a name", "x").code == 2


def test_no_node(offline: Dmq, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = offline("send", "q", "x", "--node", "127.0.0.1:1", "--timeout", "2s", "--json")
    assert ran.code == 6
    assert ran.error["code"] == "unavailable"
    assert ran.error["stored"] == "no"
    assert offline("send", "q", "x", "--node", "nonsense").code == 2


def test_what_was_sent_behind_one_that_could_not_be_is_told_too(dmq: Dmq, queue: str, counts: Counts) -> None:
    ran = dmq("send", queue, "--lines", "--json", stdin=b"a\n" + b"x" * 2_000_000 + b"\nb\n")
    assert ran.code == 10
    assert len(ran.rows) == counts(queue)[0] == 2, "an id for each that is stored"
    assert "2 messages sent, message 2 could not be: " in ran.error["message"]
    assert [failure["index"] for failure in ran.error["failures"]] == [1]


def test_nothing_more_is_read_once_one_could_not_be_sent(dmq: Dmq, queue: str, counts: Counts) -> None:
    bodies = [b"a", b"x" * 2_000_000, *[b"b" * 200_000] * 100]
    ran = dmq("send", queue, "--lines", stdin=b"\n".join(bodies))
    assert ran.code == 10
    assert len(ran.out.splitlines()) == counts(queue)[0] < 100


@pytest.mark.slow
def test_all_is_sent_when_nobody_reads_the_ids_any_more(
    dmq: Dmq, queue: str, process: Start, counts: Counts, place: Path
) -> None:
    (place / "lines").write_bytes(b"x\n" * LINES)
    reading, writing = os.pipe()
    os.close(reading)
    with (place / "lines").open("rb") as lines:
        ran = process("send", queue, "--lines", stdin=lines, stdout=writing).end()
    os.close(writing)
    assert (ran.code, ran.err) == (0, f"dmq: {LINES:,} messages sent\n")
    assert counts(queue) == (LINES, 0, 0)


@pytest.mark.slow
def test_ids_that_could_not_be_printed_are_of_what_is_stored(
    dmq: Dmq, queue: str, process: Start, counts: Counts, place: Path
) -> None:
    (place / "out").write_bytes(b"")
    (place / "lines").write_bytes(b"x\n" * LINES)
    with (place / "out").open("rb") as out, (place / "lines").open("rb") as lines:
        one = process("send", queue, "x", "--json", stdout=out).end()
        many = process("send", queue, "--lines", "--json", stdin=lines, stdout=out).end()
    assert one.code == many.code == 1
    assert one.error["stored"] == many.error["stored"] == "yes"
    assert "the message is stored, and its id could not be printed: " in one.error["message"]
    assert f"{LINES:,} messages sent, and some of the ids could not be printed" in many.error["message"]
    assert counts(queue) == (LINES + 1, 0, 0)


class Outcomes:
    """A client whose batches have these outcomes; one message each."""

    def __init__(self, *outcomes: DMQError | str) -> None:
        self.outcomes = outcomes

    def send_batches(self, queue: str, bodies: Iterable[object], **_: object) -> Iterator[object]:
        for _, outcome in zip(bodies, self.outcomes):
            is_id = isinstance(outcome, str)
            yield 1, [outcome] if is_id else [], None if is_id else outcome


@pytest.mark.parametrize(
    ("outcomes", "code", "stored"),
    [
        ([LimitExceeded("full"), Unknown("no answer")], 8, "unknown"),
        (["id", LimitExceeded("full"), Unknown("no answer")], 8, "unknown"),
        ([LimitExceeded("full"), "id"], 10, "no"),
        ([LimitExceeded("full"), LimitExceeded("full")], 9, "no"),
    ],
)
def test_where_any_may_be_stored_that_is_told(
    offline: Dmq,
    answered_by: Callable[[object], None],
    outcomes: list[DMQError | str],
    code: int,
    stored: str,
) -> None:
    answered_by(Outcomes(*outcomes))
    ran = offline("send", "q", "--lines", "--json", stdin=b"a\nb\nc\n")
    assert (ran.code, ran.error["stored"]) == (code, stored)


@pytest.mark.parametrize("wrong", ['{"body":"x","ttl":-1}', '{"body":"x","group":""}'])
def test_options_that_cannot_be_name_their_line(dmq: Dmq, queue: str, counts: Counts, wrong: str) -> None:
    good = b'{"body":"x"}\n' * 2000
    ran = dmq("send", queue, "--ndjson", stdin=good + wrong.encode() + b"\n" + good)
    assert ran.code == 10
    assert "dmq: 2,000 messages sent, then one could not be: stdin, line 2001: " in ran.err
    assert len(ran.out.splitlines()) == counts(queue)[0] == 2000


def test_bodies_are_bytes_and_need_not_be_text(dmq: Dmq, queue: str) -> None:
    assert dmq("send", queue, os.fsdecode(b"\xff")).code == 0
    row = dmq("receive", queue, "--json").rows[0]
    assert (row["body"], row["encoding"]) == ("/w==", "base64")
