"""How nodes that are empty come to a cluster, by what their doors say (the shells; virtual time)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from dmqnode import logs
from dmqnode.amnesia import BeginAnew
from dmqnode.config import NodeConfig
from dmqnode.ids import NodeId
from dmqnode.joining import CannotJoin, Joining, WaitingRoom, listed_address, settle
from dmqnode.machine import Machine
from dmqnode.membership import Membership
from dmqnode.messages import Report
from dmqnode.records import Identity
from dmqnode.roster import Member, Roster
from storage.memory import MemoryStore
from tests.dmqnode.running import MemoryDoor

ME = NodeId(b"this one")
SEEDS = ("h1:7367", "h2:7367", "h3:7367")


class Wired(Machine):
    """A machine that reaches doors by names."""

    def __init__(self, doors: dict[str, MemoryDoor]) -> None:
        self._doors = doors
        self._rng = random.Random(1)

    def random(self) -> random.Random:
        return self._rng

    async def in_thread(self, act: Callable[..., Any], *args: Any, limiter: object = None) -> Any:
        await trio.lowlevel.checkpoint()
        return act(*args)

    async def dial(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        await trio.lowlevel.checkpoint()
        if f"{host}:{port}" not in self._doors:
            raise ConnectionRefusedError(111, "Connection refused")
        return self._doors[f"{host}:{port}"].connect()


async def first_to_settle(
    seconds: float, listen: str = "127.0.0.1:7367", **given: tuple[str, ...]
) -> dict[str, Membership]:
    """Let nodes with these seeds wait at the doors of h1, h2 and so on; return who came to a cluster."""
    doors = {f"{host}:7367": MemoryDoor() for host in given}
    found: dict[str, Membership] = {}

    async def wait(host: str) -> None:
        config = NodeConfig(data=Path("/none"), name=host, join=given[host], listen=listen)
        door, own = doors[f"{host}:7367"], f"box-{host}:7367"
        found[host] = await settle(config, MemoryStore(), [door], own, None, Wired(doors))

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for host in given:
                nursery.start_soon(wait, host)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged about waiting."""
    monkeypatch.setattr(logs, "_ration", logs.Ration())
    monkeypatch.setattr(logs.log, "propagate", True)
    caplog.set_level(logging.INFO, "dmq")

    def why() -> list[str]:
        no_cluster = [r for r in caplog.records if r.getMessage() == "this node has no cluster yet"]
        return [r.__dict__["fields"]["why"] for r in no_cluster]

    return why


async def test_one_founds_of_those_that_are_listed_under_names_which_are_not_their_addresses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found = await first_to_settle(3.0, h1=SEEDS, h2=SEEDS, h3=SEEDS)
    assert list(found) == ["h1"]  # here nobody serves afterwards, whom the others could join
    roster = found["h1"].roster
    assert roster is not None
    assert [m.address for m in roster.members] == ["box-h1:7367"]


async def test_a_node_that_can_only_guess_its_address_is_listed_as_the_seed_at_which_it_met_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found = await first_to_settle(3.0, "0.0.0.0:7367", h1=SEEDS, h2=SEEDS, h3=SEEDS)
    roster = found["h1"].roster
    assert roster is not None
    assert [m.address for m in roster.members] == ["h1:7367"]
    # So it is after the next start, unless it is told otherwise, or that is no seed any more.
    config = NodeConfig(data=Path("/none"), join=SEEDS, listen="0.0.0.0:7367")
    assert listed_address(config, found["h1"], "box:7367") == "h1:7367"
    for other in (replace(config, join=SEEDS[1:]), replace(config, advertise="box:7367")):
        assert listed_address(other, found["h1"], "box:7367") == "box:7367"


async def test_a_node_is_not_listed_under_a_name_that_is_another_to_each(
    autojump_clock: trio.testing.MockClock,
) -> None:
    only = ("localhost:7367",)
    doors = {only[0]: MemoryDoor()}
    config = NodeConfig(data=Path("/none"), name="n", join=only, listen="0.0.0.0:7367")
    found = await settle(config, MemoryStore(), [doors[only[0]]], "box:7367", None, Wired(doors))
    assert found.roster is not None
    assert [m.address for m in found.roster.members] == ["box:7367"]


async def test_who_waits_says_for_what_now_and_then(
    autojump_clock: trio.testing.MockClock, told: Callable[[], list[str]]
) -> None:
    assert not await first_to_settle(100.0, h2=SEEDS)
    assert set(told()) == {"h1:7367 is to found a cluster, and does not answer"}
    assert len(told()) == 4


async def test_who_waits_for_others_than_its_seeds_is_told_what_to_write(
    autojump_clock: trio.testing.MockClock, told: Callable[[], list[str]]
) -> None:
    assert not await first_to_settle(10.0, h1=SEEDS[:2], h2=SEEDS)
    assert len(told()) == 2
    assert all("give all the same --join" in why for why in told())


async def test_what_is_no_answer_of_one_who_waits_is_none(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a release that says less, or of something else that speaks so."""
    original = WaitingRoom._answer_to
    for wrong in ({"node_id": 5}, {"node_id": "zz"}, {"node_id": "00"}, {"seeds": "h1:7367"}, {"seeds": [1]}):

        def answer(self: WaitingRoom, request: Any, wrong: dict[str, Any] = wrong) -> Any:
            found = original(self, request)
            return Report({**found.fields, **wrong}) if isinstance(found, Report) else found

        monkeypatch.setattr(WaitingRoom, "_answer_to", answer)
        assert not await first_to_settle(3.0, h1=SEEDS, h2=SEEDS, h3=SEEDS)


@pytest.mark.parametrize(("destroyed", "error"), [((ME,), BeginAnew), ((), CannotJoin)])
async def test_who_heard_that_it_was_forgotten_begins_anew_and_who_has_left_does_not_start(
    destroyed: tuple[NodeId, ...], error: type[Exception]
) -> None:
    others = (Member(NodeId(b"another-"), "b", "h2:7367"),)
    known = Membership(Identity(ME, 2, 7), bytes(8), "dmq", bytes(32), Roster(4, others, (ME,), destroyed))
    config = NodeConfig(data=Path("/a"), listen="h1:7367", name="a", cluster="dmq")
    me = Member(ME, "a", "h1:7367")
    with pytest.raises(error) as raised:
        await Joining(config, MemoryStore(), [], known, me, None, Wired({})).settle()
    assert not isinstance(raised.value, BeginAnew) or raised.value.seeds == ("h2:7367",)


async def test_who_takes_connections_and_says_nothing_is_waited_for(
    autojump_clock: trio.testing.MockClock, told: Callable[[], list[str]]
) -> None:
    """It may be opening its store, which has everything."""
    doors = {seed: MemoryDoor() for seed in SEEDS}
    found: list[Membership] = []

    async def wait(host: str) -> None:
        config = NodeConfig(data=Path("/none"), name=host, join=SEEDS)
        own = f"{host}:7367"
        found.append(await settle(config, MemoryStore(), [doors[own]], own, None, Wired(doors)))

    async def mute(door: MemoryDoor) -> None:
        kept = []
        while True:
            kept.append(await door.accept())

    with trio.move_on_after(60.0):
        async with trio.open_nursery() as waiting:
            waiting.start_soon(mute, doors[SEEDS[2]])
            waiting.start_soon(wait, "h1")
            waiting.start_soon(wait, "h2")
    assert not found
    assert "h3:7367 takes connections, and does not answer: it may have data" in told()
    del doors[SEEDS[2]]
    with trio.move_on_after(60.0):
        async with trio.open_nursery() as waiting:
            waiting.start_soon(wait, "h1")
            waiting.start_soon(wait, "h2")
    assert [m.roster is not None for m in found] == [True]


@pytest.mark.parametrize(
    "join", [(), ("h1:7367",), ("h1",)], ids=["nobody", "itself", "itself by another name"]
)
async def test_who_has_lost_its_store_waits_for_those_that_it_knew(
    autojump_clock: trio.testing.MockClock, told: Callable[[], list[str]], join: tuple[str, ...]
) -> None:
    doors = {"h1:7367": MemoryDoor()}
    given = tuple("alias:7367" if name == "h1" else name for name in join)
    if given == ("alias:7367",):
        doors["alias:7367"] = doors["h1:7367"]
    config = NodeConfig(data=Path("/none"), name="h1", join=given)
    with trio.move_on_after(30.0):
        await settle(config, MemoryStore(), [doors["h1:7367"]], "h1:7367", None, Wired(doors), lost=SEEDS)
        pytest.fail("it has founded a cluster")
    assert "had a store and has lost it" in told()[-1]
    assert "h2:7367" in told()[-1]
