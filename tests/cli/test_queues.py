"""`dmq queue create | list | show | set | delete | purge | pause | resume`."""

from __future__ import annotations

import pytest

from dmqnode.blocking import SyncClient
from tests.cli.program import Counts, Dmq


def test_create_with_every_setting(dmq: Dmq, queue: str) -> None:
    name = f"{queue}-full"
    settings = "--visibility 2m --delay 1s --retention 2d --max-attempts 5 --ordering fifo --partitions 2"
    ran = dmq(
        "queue", "create", name, *settings.split(), "--dead-letter", queue, "--max-message-size", "64KiB"
    )
    assert (ran.code, ran.out, ran.err) == (0, "", f'dmq: queue "{name}" is there\n')
    info = dmq("queue", "show", name, "--json").rows[0]
    assert info["visibility"] == 120
    assert info["delay"] == 1
    assert info["retention"] == 2 * 86400
    assert (info["max_attempts"], info["dead_letter"]) == (5, queue)
    assert (info["ordering"], info["partitions"], info["max_message_size"]) == ("fifo", 2, 65536)
    assert {"owner", "created_at", "ready", "delayed", "in_flight", "bytes", "oldest_seconds"} <= set(info)


def test_create_what_is_there(dmq: Dmq, queue: str) -> None:
    ran = dmq("queue", "create", queue, "--json")
    assert ran.code == 7
    assert ran.error["code"] == "queue-exists"
    ran = dmq("queue", "create", queue, "--if-not-exists", "--json")
    assert ran.code == 0
    assert ran.rows[0]["name"] == queue


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--visibility", "x"], "--visibility: 'x' is not a duration"),
        (["--partitions", "0"], "--partitions: '0' is not a whole number"),
        (["--max-message-size", "x"], "--max-message-size: 'x' is not a size"),
        (["--ordering", "random"], "ordering 'random' is not known"),
        (["--max-attempts", "3"], "go together"),
        (["--visibility", "13h"], "visibility is"),
    ],
)
def test_settings_that_cannot_be(dmq: Dmq, args: list[str], sentence: str) -> None:
    ran = dmq("queue", "create", "never", *args)
    assert ran.code == 2
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_list(dmq: Dmq, queue: str) -> None:
    dmq("send", queue, "x")
    ran = dmq("queue", "list", queue)
    heading, row = ran.out.splitlines()
    assert heading.split() == [
        "NAME",
        "READY",
        "DELAYED",
        "IN-FLIGHT",
        "BYTES",
        "ORDERING",
        "DEAD-LETTER",
        "PAUSED",
    ]
    cells = row.split()
    assert int(cells.pop(4)) >= 1, "bytes"
    assert cells == [queue, "1", "0", "0", "standard", "-", "-"]
    assert queue in [info["name"] for info in dmq("queue", "list", "--json").rows]
    assert dmq("queue", "list", "no-such-prefix", "--json").out == ""


def test_list_what_nobody_can_count(dmq: Dmq, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition of it has no leader."""
    one = {"name": "a", "ordering": "standard", "dead_letter": None, "paused": False}
    monkeypatch.setattr(SyncClient, "queues", lambda self, prefix, counts: [one])
    ran = dmq("queue", "list")
    assert ran.out.splitlines()[1].split() == ["a", "-", "-", "-", "-", "standard", "-", "-"]
    assert ran.err.startswith("dmq: 1 queue without counts: nobody leads some partition")
    assert dmq("queue", "list", "--json").rows[0]["ready"] is None


def test_show_for_people(dmq: Dmq, queue: str) -> None:
    fields = dict(line.split(maxsplit=1) for line in dmq("queue", "show", queue).out.splitlines())
    assert fields["name"] == queue
    assert fields["retention"] == "4d"
    assert fields["max-message-size"] == "1MiB"
    assert fields["paused"] == "no"
    assert fields["dead-letter"] == "-"


def test_set(dmq: Dmq, queue: str) -> None:
    assert dmq("queue", "set", queue, "--visibility", "1h").code == 0
    info = dmq("queue", "set", queue, "--max-attempts", "2", "--dead-letter", queue + "x", "--json").rows[0]
    assert (info["visibility"], info["max_attempts"]) == (3600, 2)
    info = dmq("queue", "set", queue, "--no-dead-letter", "--json").rows[0]
    assert (info["max_attempts"], info["dead_letter"]) == (None, None)
    assert dmq("queue", "set", queue).code == 2
    assert dmq("queue", "set", queue, "--no-dead-letter", "--max-attempts", "1").code == 2


def test_more_partitions(dmq: Dmq, queue: str) -> None:
    info = dmq("queue", "set", queue, "--partitions", "3", "--json").rows[0]
    assert (info["partitions"], info["first_partitions"]) == (3, 1)
    assert len(dmq("queue", "explain", queue, "--json").rows[0]["partitions"]) == 3
    ran = dmq("queue", "set", queue, "--partitions", "2")
    assert ran.code == 2
    assert "cannot have 2, fewer: each may hold messages; create another queue" in ran.err


def test_purge_and_delete(dmq: Dmq, queue: str, counts: Counts) -> None:
    dmq("send", queue, "--lines", "--quiet", stdin=b"a\nb\n")
    assert dmq("queue", "purge", queue, "--json").rows == [{"name": queue, "purged": 2}]
    assert counts(queue) == (0, 0, 0)
    assert dmq("queue", "purge", queue, "--force").err == "dmq: 0 messages dropped\n"
    assert dmq("queue", "delete", queue).code == 0
    assert dmq("queue", "delete", queue).code == 4


def test_pause_and_resume(dmq: Dmq, queue: str) -> None:
    dmq("send", queue, "x")
    ran = dmq("queue", "pause", queue)
    assert f"dmq queue resume {queue}" in ran.err
    assert dmq("receive", queue, "--wait", "0s").code == 3
    assert dmq("queue", "resume", queue).code == 0
    assert dmq("receive", queue, "--wait", "5s").out == "x"


@pytest.mark.parametrize("command", ["show", "set", "delete", "purge", "pause", "resume", "peek", "explain"])
def test_a_queue_that_is_not_there(dmq: Dmq, queue: str, command: str) -> None:
    more = ["--visibility", "1s"] if command == "set" else []
    ran = dmq("queue", command, queue[1:], *more)
    assert ran.code == 4
    assert f'did you mean "{queue}"?' in ran.err
