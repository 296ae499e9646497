"""The broker against a naive model of a queue, under every kind of request, crash and passing time.

The model holds each message as one object in a dict; it knows what may be delivered, not what must be
next, except where order is promised.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dmqnode.messages import (
    Browse,
    Browsed,
    Cancel,
    DeleteQueue,
    Delivered,
    Done,
    GetQueue,
    PurgeQueue,
    QueueInfo,
    Receive,
    Redrive,
    SetQueue,
    Settled,
    Stored,
)
from tests.dmqnode.known import Known
from tests.dmqnode.world import Got, World, got

Id = tuple[bytes, int]
VISIBILITY = 30.0


class QueueMachine(RuleBasedStateMachine):
    """One queue of one node, one client."""

    ordering = "standard"
    partitions = 1

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.known: dict[Id, Known] = {}
        self.dead: set[Id] = set()
        self.numbers = 0
        self.groups: dict[bytes, str | None] = {}
        self.unknown: set[bytes] = set()

    @initialize(max_attempts=st.sampled_from([None, 2, 5]))
    def create(self, max_attempts: int | None) -> None:
        settings: dict[str, Any] = {
            "visibility": VISIBILITY,
            "retention": 100_000.0,
            "ordering": self.ordering,
        }
        settings["partitions"] = self.partitions
        self.max_attempts = max_attempts
        if max_attempts:
            settings |= {"max_attempts": max_attempts, "dead_letter": "dead"}
        self.world.create("q", **settings)

    # --- what is done ----------------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 5),
        delay=st.sampled_from([None, None, None, 5.0, 40.0]),
        ttl=st.sampled_from([None, None, 20_000]),
        group=st.sampled_from([None, None, "a", "b"]),
    )
    def send(self, count: int, delay: float | None, ttl: int | None, group: str | None) -> None:
        if self.ordering == "fifo":
            delay = None
        bodies = [self._body() for _ in range(count)]
        columns: dict[str, Any] = {}
        if ttl:
            columns["t"] = ttl
        if group:
            columns["g"] = group
        ids = self.world.send(*bodies, delay=delay, **columns)
        assert len(set(ids)) == count
        for id_, body in zip(ids, bodies):
            assert id_ not in self.known, "an id was given twice"
            due = self.world.time + (delay or 0)
            expires = self.world.time + ttl / 1000 if ttl else 10**12
            key = group if group is not None else ("" if self.ordering == "fifo" else None)
            self.known[id_] = Known(body, due, expires, key)

    def _body(self) -> bytes:
        self.numbers += 1
        return b"m%d" % self.numbers

    @rule(count=st.integers(1, 7), visibility=st.sampled_from([None, 3.0]))
    def receive(self, count: int, visibility: float | None) -> None:
        now = self.world.time
        messages = self.world.receive(count, visibility=visibility)
        assert len(messages) <= count
        busy = {k.group for i, k in self.known.items() if self._held(i) and k.group is not None}
        for each in messages:
            assert each.id not in self.dead, "a dead message was delivered"
            known = self.known[each.id]
            assert each.body == known.body
            assert known.due <= now + 0.002, "delivered early"
            assert known.hidden_until <= now + 0.002, "delivered although another consumer has it"
            assert known.expires > now - 0.002, "delivered after its time to live"
            if known.exact:
                assert each.attempt == known.attempt + 1
            known.attempt, known.exact = each.attempt, True
            if known.group is not None:
                assert known.group not in busy, "two of a group are in flight"
                busy.add(known.group)
                self._check_order(each.id, known)
            known.held = each
            known.hide(now + (VISIBILITY if visibility is None else visibility))
        if not messages and self.ordering == "standard":
            missed = [i for i in self._ready() if self.known[i].group is None]
            assert not missed, f"ready and not delivered: {missed}"

    def _check_order(self, id_: Id, known: Known) -> None:
        earlier = [
            i
            for i, k in self.known.items()
            if k.group == known.group and i[0] == id_[0] and i[1] < id_[1] and i not in self.dead
        ]
        now = self.world.time
        waiting = [i for i in earlier if self.known[i].due == known.due or self.ordering == "fifo"]
        waiting = [i for i in waiting if self.known[i].expires > now and not self._gone(i)]
        assert not waiting, "an earlier message of the group was passed over"

    def _gone(self, id_: Id) -> bool:
        """The message may be in the dead-letter queue."""
        known = self.known[id_]
        return self.max_attempts is not None and known.attempt >= self.max_attempts

    def _held(self, id_: Id) -> bool:
        known = self.known[id_]
        return id_ not in self.dead and known.held is not None and known.hidden_until > self.world.time

    def _ready(self) -> list[Id]:
        now = self.world.time
        return [
            i
            for i, k in self.known.items()
            if i not in self.dead
            and k.free_from < now - 0.002
            and k.due < now - 0.002
            and k.expires > now + 0.002
            and not self._gone(i)
        ]

    def _holding(self) -> list[Id]:
        return [i for i in self.known if self._held(i)]

    @precondition(lambda self: self._holding())
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self._holding()), unique=True, min_size=1))
        answer = self.world.ack([self._got(i) for i in chosen])
        assert answer == Settled([])
        self.dead.update(chosen)

    def _got(self, id_: Id) -> Got:
        held = self.known[id_].held
        assert held is not None
        return held

    @precondition(lambda self: self._holding())
    @rule(data=st.data(), delay=st.sampled_from([0.0, 4.0]))
    def nack(self, data: st.DataObject, delay: float) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self._holding()), unique=True, min_size=1))
        assert self.world.nack([self._got(i) for i in chosen], delay) == Settled([])
        for id_ in chosen:
            self.known[id_].held = None
            self.known[id_].hide(self.world.time + delay)
            self._bury(id_)

    def _bury(self, id_: Id) -> None:
        if self._gone(id_):
            self.dead.add(id_)

    @precondition(lambda self: self._holding())
    @rule(data=st.data(), seconds=st.sampled_from([1.0, 60.0]))
    def extend(self, data: st.DataObject, seconds: float) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self._holding()), unique=True, min_size=1))
        assert self.world.extend([self._got(i) for i in chosen], seconds) == Settled([])
        for id_ in chosen:
            self.known[id_].hide(self.world.time + seconds)

    @precondition(lambda self: any(k.held is not None for k in self.known.values()))
    @rule(data=st.data())
    def ack_stale(self, data: st.DataObject) -> None:
        stale = [i for i, k in self.known.items() if k.held is not None and not self._held(i)]
        if not stale:
            return
        id_ = data.draw(st.sampled_from(stale))
        if self.known[id_].hidden_until > self.world.time - 0.002 and id_ not in self.dead:
            return
        answer = self.world.ack([self._got(id_)])
        assert isinstance(answer, Settled)
        assert [(n, code) for n, code, _ in answer.failed] == [(0, "stale-receipt")]

    @rule(seconds=st.sampled_from([0.005, 1.0, 5.5, 31.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        for id_, known in self.known.items():
            if known.hidden_until <= self.world.time and known.held is not None:
                self._bury(id_)

    @rule()
    def pause(self) -> None:
        """A paused queue takes messages and hands none out; resumed, it wakes whoever waits."""
        self.world.ask(SetQueue("q", {"paused": True}))
        assert self.world.receive(5) == []
        number = self.world.request(Receive("q", 3, 1 << 20, 10.0, VISIBILITY))
        self.world.run()
        assert number not in self.world.replies
        ready = self._ready()
        self.world.ask(SetQueue("q", {"paused": False}))
        if self.ordering == "standard" and [i for i in ready if self.known[i].group is None]:
            assert number in self.world.replies, "nobody was woken"
        if number in self.world.replies:
            answer = self.world.replies.pop(number)
            assert isinstance(answer, Delivered)
            assert self.world.nack(got(answer)) == Settled([])
            for each in got(answer):
                known = self.known[each.id]
                known.attempt = each.attempt
                known.held = None
                known.hide(self.world.time)
                self._bury(each.id)
        else:
            self.world.ask(Cancel(), number)

    @precondition(lambda self: len(self.known) > 10)
    @rule()
    def delete(self) -> None:
        """A queue that is deleted and made again has nothing of the old one, on disk either."""
        assert self.world.ask(DeleteQueue("q")) == Done(1)
        left = self.world.store.scan(b"p", b"q", limit=1000).rows
        others = {q.definition.id for q in self.world.broker.registry.queues.values()}
        assert not [row.key for row in left if row.key[1:9] not in others]
        self._note_groups()
        self.known.clear()
        self.dead.clear()
        self.create(self.max_attempts)

    @precondition(lambda self: self.max_attempts is not None)
    @rule()
    def redrive(self) -> None:
        """What is in the dead-letter queue comes back under a new id, its attempts counted anew."""
        self._note_groups()
        before = len(self.world.living("q")) + len(self.world.living("dead"))
        while True:
            answer = self.world.ask(Redrive("dead", None, 100))
            assert isinstance(answer, Done)
            if not answer.more:
                break
        assert self.world.living("dead") == []
        after = self.world.living("q")
        assert len(after) == before, "a move lost or doubled a message"
        for id_, body in after:
            if id_ not in self.known:
                self.known[id_] = Known(body, self.world.time, 10**12, self.groups[body])

    def _note_groups(self) -> None:
        self.groups.update((known.body, known.group) for known in self.known.values())

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule(seed=st.integers(0, 99))
    def crash(self, seed: int) -> None:
        """Power goes: unsynced notes may be lost, so what is in flight may come again at once."""
        self.world.crash(random.Random(seed))
        self._crashed()

    @rule(sequences=st.integers(1, 3), count=st.integers(1, 3))
    def repeat(self, sequences: int, count: int) -> None:
        """A send whose outcome the client did not learn is repeated, over a crash too: it appears once."""
        bodies = [self._body() for _ in range(count)]
        request = self.world.send_request(bodies)
        first = None
        for n in range(sequences + 1):
            answer = self.world.ask(request)
            assert isinstance(answer, Stored)
            assert first is None or answer.runs == first
            assert answer.duplicates == (count if n else 0)
            first = answer.runs
            if n == 0:
                self.world.crash()
                self._crashed()
        assert first is not None
        ids = [(log, seq + n) for log, seq, many in first for n in range(many)]
        group = "" if self.ordering == "fifo" else None
        for id_, body in zip(ids, bodies):
            self.known[id_] = Known(body, self.world.time, 10**12, group)

    def _crashed(self) -> None:
        for known in self.known.values():
            known.exact = False
            known.free_from = known.longest
            if known.held is not None:
                known.hidden_until = max(known.due, min(known.hidden_until, self.world.time))
                known.held = None

    @rule(name=st.sampled_from(["x", "y"]))
    def send_named(self, name: str) -> None:
        """A dedup id makes of several sends one, for five minutes."""
        body = self._body()
        ids = self.world.send(body, d=name)
        again = self.world.send(b"again", d=name)
        assert again == ids
        if ids[0] not in self.known:
            self.known[ids[0]] = Known(body, self.world.time, 10**12, "" if self.ordering == "fifo" else None)

    @precondition(lambda self: len(self.known) > 3)
    @rule()
    def purge(self) -> None:
        answer = self.world.ask(PurgeQueue("q"))
        assert isinstance(answer, Done)
        self.dead.update(self.known)

    @rule(state=st.sampled_from(["ready", "in-flight", "delayed"]))
    def browse(self, state: str) -> None:
        cursor, seen = None, []
        while True:
            answer = self.world.ask(Browse("q", state, 3, 1 << 20, cursor))
            assert isinstance(answer, Browsed)
            seen += [(p.log, p.first + n) for p in answer.parts for n in range(p.count)]
            cursor = answer.cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)), "seen twice"
        assert not self.dead & set(seen), "a dead message was seen"
        if state == "ready":
            missing = set(self._ready()) - set(seen)
            assert not missing, f"ready and not seen: {missing}"
        if state == "in-flight":
            assert set(self._holding()) <= set(seen)

    @invariant()
    def counts_add_up(self) -> None:
        answer = self.world.ask(GetQueue("q"))
        assert isinstance(answer, QueueInfo)
        living = len([i for i in self.known if i not in self.dead])
        certain = len(
            [i for i, k in self.known.items() if i not in self.dead and k.expires > self.world.time + 0.01]
        )
        total = answer.info["ready"] + answer.info["delayed"] + answer.info["in_flight"]
        if all(k.exact for k in self.known.values()) or self.max_attempts is None:
            assert certain <= total <= living, (certain, total, living, answer.info)

    def teardown(self) -> None:
        """Everything that lives can be received and acked; then nothing is left, in memory or on disk."""
        if not hasattr(self, "max_attempts"):
            return
        for _ in range(40):
            self.world.pass_time(101.0)
            while messages := self.world.receive(1000):
                for each in messages:
                    assert each.id not in self.dead
                    self.dead.add(each.id)
                assert self.world.ack(messages) == Settled([])
            if self.world.figures() == (0, 0, 0):
                break
        left = {
            i for i, k in self.known.items() if i not in self.dead and k.expires > 10**9 and not self._gone(i)
        }
        if all(k.exact for k in self.known.values()) or self.max_attempts is None:
            assert not left, f"lost: {left}"
        assert self.world.figures() == (0, 0, 0)
        answer = self.world.ask(GetQueue("q"))
        assert isinstance(answer, QueueInfo)
        assert answer.info["bytes"] == 0
        assert not self.world.on_disk(), "something of a dead message is still on disk"


class FifoMachine(QueueMachine):
    ordering = "fifo"


class PartitionedMachine(QueueMachine):
    partitions = 3


TestQueue = QueueMachine.TestCase
TestFifo = FifoMachine.TestCase
TestPartitioned = PartitionedMachine.TestCase
for _case in (TestQueue, TestFifo, TestPartitioned):
    _case.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30)
