"""The machine's clocks, as leases need them."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import trio

from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.config import NodeConfig
from dmqnode.errors import said_by_system
from dmqnode.ids import NodeId
from dmqnode.leaseclock import LeaseClock, reading
from dmqnode.machine import Machine
from dmqnode.records import Identity
from dmqnode.roster import Member, Roster


async def test_sleep_of_the_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda clock: trio.current_time() + 5.0)
    before = Machine().now()
    monkeypatch.setattr(time, "clock_gettime", lambda clock: trio.current_time() + 65.0)
    after = Machine().now()
    assert after.asleep - before.asleep == pytest.approx(60.0, abs=0.1)
    assert after.run - before.run < 1.0
    assert abs(after.wall / 1000 - time.time()) < 5.0


def test_a_lease_runs_while_the_machine_sleeps() -> None:
    """L4: the holder counts the time for which its monotonic clock stood still, the granter does not."""
    me = NodeId(b"node0001")
    now = Now(100.0, 1_700_000_000_000, 7.0)
    broker = Broker(NodeConfig(data=Path("/nowhere"), name="n"), Identity(me, 1, 1), now)
    roster = Roster(2, (Member(me, "n", "n:1"), Member(NodeId(b"node0002"), "m", "m:1")))
    clustering = Clustering(broker, roster, random.Random(1), now, silent=0.0)
    clustering.advance(Now(100.5, 1_700_000_000_500, 67.0))
    assert clustering._clock.fast == pytest.approx(60.5)
    assert clustering._clock.slow == pytest.approx(0.5)


async def test_both_times_of_leases_go_on_at_the_pace_of_the_clocks_however_often_they_are_read() -> None:
    """A wall clock read in whole milliseconds would let the granter's time all but stand still."""
    machine = Machine()
    first = machine.now()
    clock, last, readings = LeaseClock(reading(first)), first, 0
    while last.run - first.run < 0.1:
        last = machine.now()
        clock.advance(reading(last))
        readings += 1
    assert readings > 1000
    passed = last.run - first.run
    assert clock.slow > passed * 0.7
    assert clock.fast < passed * 1.3


@pytest.mark.parametrize("host", ["n1..x", ".dmq-nodes", 70 * "x"])
async def test_a_name_that_no_host_can_have_is_one_that_is_not_found(host: str) -> None:
    """A member was listed under such a name, and each of the others ended with a traceback, for good."""
    with pytest.raises(OSError, match="this is no host name") as raised:
        await Machine().dial(host, 7367)
    assert said_by_system(raised.value) == "this is no host name"
