"""Records that turned bad on one disk: copies get whole again, and then nothing counts as set aside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from dmqnode.blocking import connect_sync
from tests.processes import NodeProcess
from tests.rot import spoil

pytestmark = pytest.mark.slow

BODIES = [b"%d" % number for number in range(6)]


def until(
    holds: Callable[[dict[str, Any]], object], node: NodeProcess, seconds: float = 40.0
) -> dict[str, Any]:
    """Wait until what a node says of itself holds; return it."""
    deadline = time.monotonic() + seconds
    while True:
        with connect_sync(node.address, timeout=10) as client:
            status = client.status()
        if holds(status):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_what_was_damaged_is_counted_until_it_is_made_good(start_node: Callable[..., NodeProcess]) -> None:
    first = start_node(name="n1")
    others = [start_node(name=name, join=[first.address]) for name in ("n2", "n3")]
    victim = others[0]
    until(lambda s: s["overview"]["healthy"] and s["overview"]["members"] == 3, victim)
    with connect_sync(first.address) as client:
        client.create_queue("q", partitions=1)
        for body in BODIES:
            client.send("q", body)
    until(lambda s: s["overview"]["healthy"], victim)
    victim.stop()
    assert spoil(victim.data, lambda _, key: key[:1] in (b"b", b"s")) > len(BODIES)
    victim.restart(join=[first.address])
    status = until(lambda s: s["set_aside"] and s["overview"]["healthy"] and not s["unmended"], victim)
    assert any("none of them is missed any more" in notice for notice in status["notices"]), status["notices"]
    # Whoever leads then reads batches, and those of the victim are bad.
    for node in (first, others[1]):
        node.stop()
        until(lambda s: s["overview"]["alive"] == 2, victim)
        node.restart(join=[victim.address])
        until(lambda s: s["overview"]["healthy"] and s["overview"]["alive"] == 3, victim)
    with connect_sync(victim.address) as client:
        found = []
        while len(found) < len(BODIES):
            messages = client.receive("q", max_messages=10, wait=20)
            assert messages, found
            found += [m.body for m in messages]
            client.ack(messages)
    assert sorted(found) == BODIES
    for node in (first, *others):
        until(lambda s: s["overview"]["set_aside"] == 0 and s["overview"]["healthy"], node)
