"""The power goes at every point between two writes: nothing that was answered is lost, undone or doubled.

The scenario below does one of everything.  It is run once to count its write groups, then once for each
group, cut before it is on disk and after, with every number of unsynced writes before it surviving.  What
the scenario knows of each message is where it may be: one place once the request about it was answered,
two while it is under way.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from dmqnode.messages import (
    Ack,
    Browse,
    Browsed,
    DeleteQueue,
    Done,
    Extend,
    Failed,
    Message,
    Nack,
    PurgeQueue,
    Redrive,
    Send,
    SetQueue,
    Settled,
    Stored,
)
from tests.dmqnode.world import Got, PowerCutError, World, got

GONE = "gone"
Places = set[str]


class Keep(random.Random):
    """Decides in a crash that the oldest `count` unsynced writes survive."""

    def __init__(self, count: int) -> None:
        super().__init__(0)
        self._count = count

    def choice(self, seq: Any) -> Any:
        return min(self._count, seq[1])


class Scenario:
    """Does one of everything, and notes what must be true if the power goes now."""

    def __init__(self) -> None:
        self.world = World()
        self.places: dict[bytes, Places] = {}
        self.due: dict[bytes, float] = {}
        self.under_way: tuple[Send, list[bytes]] | None = None
        self.ids: dict[bytes, tuple[bytes, int]] = {}
        self.exists: dict[str, set[bool]] = {}

    # --- one step each -----------------------------------------------------------------------------------

    def _do(self, message: Message, moves: dict[bytes, str]) -> Message:
        """Ask; meanwhile each message of `moves` may be where it was or where it goes."""
        for body, place in moves.items():
            self.places.setdefault(body, {GONE}).add(place)
        answer = self.world.ask(message)
        assert answer is not None
        assert not isinstance(answer, Failed), answer
        for body, place in moves.items():
            self.places[body] = {place}
        return answer

    def send(self, *bodies: bytes, queue: str = "q", delay: float | None = None, **columns: Any) -> None:
        request = self.world.send_request(list(bodies), queue, delay=delay, **columns)
        self.under_way = (request, list(bodies))
        for body in bodies:
            self.due[body] = self.world.time + (delay or 0)
        answer = self._do(request, dict.fromkeys(bodies, queue))
        assert isinstance(answer, Stored)
        ids = [(log, first + n) for log, first, count in answer.runs for n in range(count)]
        self.ids.update(zip(bodies, ids))
        self.under_way = None

    def receive(self, limit: int, *, queue: str = "q") -> list[Got]:
        return self.world.receive(limit, queue)

    def settle(self, message: Message, moves: dict[bytes, str]) -> None:
        assert self._do(message, moves) == Settled([])

    def pass_time(self, seconds: float, moves: dict[bytes, str] | None = None) -> None:
        for body, place in (moves or {}).items():
            self.places[body].add(place)
        self.world.pass_time(seconds)
        for body, place in (moves or {}).items():
            self.places[body] = {place}

    def create(self, queue: str, **settings: Any) -> None:
        self.exists[queue] = {False, True}
        self.world.create(queue, **settings)
        self.exists[queue] = {True}

    # --- the script --------------------------------------------------------------------------------------

    def run(self) -> None:
        self.create("q", visibility=10.0, max_attempts=2, dead_letter="dead")
        self.send(b"a", b"b", b"c")
        self.send(b"later", delay=15.0)
        first = self.receive(2)
        assert [m.body for m in first] == [b"a", b"b"]
        self.settle(Ack([first[0].held]), {b"a": GONE})  # type: ignore[list-item]
        before = self.due[b"b"]
        self.settle(Nack([first[1].held], 5.0, False, ""), {})  # type: ignore[list-item]
        self.due[b"b"] = before + 5
        (third,) = self.receive(1)
        self.settle(Extend([third.held], 60.0), {})  # type: ignore[list-item]
        self.settle(Nack([third.held], 0.0, True, "bad"), {b"c": "dead"})  # type: ignore[list-item]
        self.send(b"named", d="x")
        self.pass_time(5.5)
        assert {m.body for m in self.receive(5) + self.receive(5)} == {b"b", b"named"}
        self.pass_time(12.0, {b"b": "dead"})
        answer = self._do(Redrive("dead", None, 100), {b"b": "q", b"c": "q"})
        assert isinstance(answer, Done)
        assert answer.count == 2
        back = [m for m in self.receive(9) + self.receive(9) if m.body == b"c"]
        self.settle(Ack([back[0].held]), {b"c": GONE})  # type: ignore[list-item]
        self.create("p")
        self.send(b"f", b"g", queue="p")
        self.send(b"h", queue="p", delay=2.0)
        self.receive(1, queue="p")
        self._do(PurgeQueue("p"), {b"f": GONE, b"g": GONE, b"h": GONE})
        self.send(b"i", queue="p")
        self.world.ask(SetQueue("p", {"visibility": 5.0}))
        self.world.restart()
        self.exists["p"] = {False, True}
        self._do(DeleteQueue("p"), {b"i": GONE})
        self.exists["p"] = {False}
        self.create("p")
        self.send(b"j", queue="p", g="one")
        self.pass_time(1.0)

    # --- what must be true -------------------------------------------------------------------------------

    def check(self) -> None:
        """The node is up again: every message is where it may be, once; then all can be had and acked."""
        self._check_places()
        if self.under_way is not None:
            self._repeat()
        self._check_places()
        self._drain()

    def _repeat(self) -> None:
        """The client repeats the send whose outcome it does not know: it appears once (P10)."""
        assert self.under_way is not None
        request, bodies = self.under_way
        answer = self.world.ask(request)
        if request.queue == "p" and isinstance(answer, Failed):
            assert False in self.exists["p"]
            return
        assert isinstance(answer, Stored)
        assert answer.duplicates in (0, len(bodies))
        for body in bodies:
            self.places[body] = {request.queue}

    def _found(self) -> dict[bytes, list[str]]:
        found: dict[bytes, list[str]] = {}
        for queue in ("q", "dead", "p"):
            for state in ("ready", "in-flight", "delayed"):
                answer = self.world.ask(Browse(queue, state, 100, 1 << 20, None))
                if isinstance(answer, Failed):
                    assert self.exists.get(queue, {False}) != {True}, f"queue {queue} is lost"
                    continue
                assert isinstance(answer, Browsed)
                for message in got(answer):
                    found.setdefault(message.body, []).append(queue)
        return found

    def _check_places(self) -> None:
        found = self._found()
        for body, places in self.places.items():
            at = found.pop(body, [GONE])
            assert len(at) == 1, f"{body!r} is twice: {at}"
            assert at[0] in places, f"{body!r} is at {at[0]}, not {places}"
        assert not found, f"nobody sent {found}"

    def _drain(self) -> None:
        """Everything comes out once (P2, P3, P5), not before it is due, and is gone when acked."""
        world, left = self.world, {b for b, at in self._found().items()}
        for _ in range(12):
            for queue in world.broker.registry.queues.copy():
                for message in world.receive(100, queue):
                    assert message.body in left, f"{message.body!r} came although it is gone"
                    if queue != "dead":
                        assert world.time >= self.due[message.body] - 0.002, "early"
                    left.remove(message.body)
                    assert world.ack([message]) == Settled([])
            world.pass_time(10.0)
        assert not left
        assert self._found() == {}
        world.crash()
        assert self._found() == {}, "an acked message came back"


def count_writes() -> int:
    scenario = Scenario()
    scenario.run()
    writes = scenario.world.writes
    scenario.check()
    return writes


WRITES = count_writes()


def test_the_scenario_writes_as_much_as_it_should() -> None:
    assert WRITES > 20


@pytest.mark.parametrize("stored", [False, True], ids=["lost", "stored"])
@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_power_cut(write: int, stored: bool) -> None:
    kept = 0
    while True:
        scenario = Scenario()
        scenario.world.cut = (write, stored)
        with pytest.raises(PowerCutError):
            scenario.run()
        unsynced = len(scenario.world.store._undo)
        scenario.world.crash(Keep(kept))
        scenario.check()
        if kept >= unsynced:
            return
        kept += 1


@pytest.mark.parametrize("write", range(1, WRITES + 1, 3))
def test_two_power_cuts(write: int) -> None:
    scenario = Scenario()
    scenario.world.cut = (write, True)
    with pytest.raises(PowerCutError):
        scenario.run()
    scenario.world.crash()
    scenario.world.crash()
    scenario.check()
