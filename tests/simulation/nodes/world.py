"""Whole nodes in one process: real shells on simulated machines, real clients, one seed, no real time.

found ──> work, with one fault behind the other ──> calm: all is healed ──> alike within a bounded time

All time is virtual (MockClock).
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

from dmqnode import logs
from dmqnode.belonging import Belonging
from dmqnode.comparing import IDLE_EVERY
from dmqnode.errors import DMQError
from dmqnode.homesets import MAX_HOMES
from dmqnode.ids import NodeId
from dmqnode.messages import Message
from dmqnode.roster import ROSTER
from storage.ops import WriteBatch
from tests.simulation.concerning import Concern, Numbers, Written
from tests.simulation.likeness import home_set, unlike
from tests.simulation.nodes.accounts import Accounts, Broken, Sent
from tests.simulation.nodes.box import PORT, Box, Journal
from tests.simulation.nodes.chores import Chores
from tests.simulation.nodes.edges import Edge
from tests.simulation.nodes.errands import Errands, one_client
from tests.simulation.nodes.labours import Labours
from tests.simulation.nodes.loop import run_alike
from tests.simulation.nodes.plan import Plan, draw_plan
from tests.simulation.nodes.weighing import weigh, weigh_at_rest
from tests.simulation.nodes.wires import Net
from tests.simulation.telling import story, story_of

FOUNDED = 30.0
"""Seconds within which a cluster is there."""
RESUMED = 20.0
"""Seconds within which messages come through again, once faults have ended."""
SETTLED = 60.0
"""Seconds within which everything is as it should be, once faults have ended."""
TRACE = 60_000


class World:
    """One run.

    Arguments:
        seed: everything is drawn from it.
        plan: what to do; drawn where it is None.
    """

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.plan = plan or draw_plan(self.rng)
        self.net: Net
        self.nursery: trio.Nursery
        self.accounts = Accounts(self)
        self.boxes: list[Box] = []
        self.calm = False
        self.edge: Edge | None = None
        """Where a node is to die between two effects."""
        self.resting = False
        """Whether clients do little, for a fault takes long."""
        self.forgiven: list[tuple[float, float]] = []
        """Times in which what was acked may come again: those who knew of it were forgotten."""
        self.starts = (0.0, 0.0, 0.3, 3.0)
        """Seconds from the start of one of the first nodes to that of the next: one of these."""
        self.settled_in = -1.0
        """Seconds from the end of the faults until everything was as it should be."""
        self.views_in = -1.0
        """Seconds from the end of a long cut until all saw the same members, all alive."""
        self._trace: deque[tuple[Any, ...]] = deque(maxlen=TRACE)
        self._events: list[tuple[Any, ...]] = []
        """The lines of the trace that say what happened to nodes and wires."""
        self._numbers = 0

    def run(self) -> World:
        """Run to the end.  Errors: Broken."""
        try:
            with self._told():
                run_alike(self.seed, self._main)
        except BaseExceptionGroup as group:
            broken = group.subgroup(Broken)
            cause: BaseException = broken or group
            while isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
            if isinstance(cause, Broken):
                raise cause from None
            cause.add_note(f"seed {self.seed}: {self.plan}\n{self.story()}")
            raise cause from None
        return self

    # --- telling -------------------------------------------------------------------------------------

    def note(self, *what: object) -> None:
        """Put something into the trace."""
        line = (trio.current_time(), *what)
        self._trace.append(line)
        if not isinstance(what[-1], Message | Written | Numbers) and what[0] != "log":
            self._events.append(line)

    def wrote(self, box: Box, batch: WriteBatch) -> None:
        """A node gives its disk a write: put it into the trace."""
        self.note(box.name, Written(batch))

    @property
    def digest(self) -> str:
        """A hash of what went over wires, happened, was written, and of all disks, and when."""
        digest = self.net.digest.copy()
        for line in self._trace:
            if not isinstance(line[-1], Message) and line[1] != "log":
                digest.update(repr([line[0], *map(str, line[1:])]).encode())
        for box in self.boxes:
            digest.update(repr((box.name, sorted(box.store._records.items()))).encode())
        return digest.hexdigest()

    def story(self, last: int = 80) -> str:
        """Return the last lines of the trace; with 0, all that happened to nodes and wires."""
        return story(self._trace, last=last) if last else story(self._events, last=1000)

    def story_of(self, message: Sent) -> str:
        """Return the lines of the trace that concern a message."""
        return story_of(self._trace, Concern(message.number, message.body, message.ids))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Have what nodes log and tell one another in the trace."""
        heard, ration, journal = Belonging.heard, logs._ration.take, Journal(self)
        names: dict[NodeId, str] = {}

        def listen(belonging: Belonging, node: NodeId, messages: list[Message]) -> None:
            for box in self.boxes:
                if box.up:
                    names[box.me] = box.name
            for message in messages:
                self.note(names.get(node, node), belonging._me.name, message)
            heard(belonging, node, messages)

        patched: Any = Belonging
        patched.heard = listen
        unrationed: Any = logs._ration
        unrationed.take = lambda message, now: 0
        level, propagate = logs.log.level, logs.log.propagate
        logs.log.addHandler(journal)
        logs.log.setLevel(logging.INFO)
        logs.log.propagate = False
        try:
            yield
        finally:
            patched.heard = heard
            unrationed.take = ration
            logs.log.removeHandler(journal)
            logs.log.setLevel(level)
            logs.log.propagate = propagate

    # --- the run -------------------------------------------------------------------------------------

    def add(self, name: str = "", join: tuple[str, ...] = ()) -> Box:
        """Put up one more machine."""
        self._numbers += 1
        box = Box(self, self._numbers, name or f"n{self._numbers}", join)
        self.boxes.append(box)
        return box

    async def _main(self) -> None:
        from tests.simulation.nodes.forming import Forming

        self.net = Net(random.Random(self.rng.getrandbits(64)))
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            nursery.start_soon(self.net.run)
            await self._found()
            kind = Labours if self.plan.labours else Chores if self.plan.chores else Errands
            errands: Errands = kind(self)
            await errands.create()
            for n in range(self.plan.producers):
                nursery.start_soon(errands.produce, n)
            for n in range(self.plan.consumers):
                nursery.start_soon(errands.consume, n)
            if isinstance(errands, Chores):
                nursery.start_soon(errands.operate)
            await trio.sleep(1.0)
            trouble = Forming(self)
            for fault in self.plan.faults:
                await trio.sleep(self.rng.choice((0.0, 1.0, 6.0)))
                weigh(self, errands)
                await trouble.make(fault)
            await trio.sleep(max(0.0, self.plan.seconds - trio.current_time()))
            await trouble.heal()
            await self._go_on()
            await self._end(errands)
            nursery.cancel_scope.cancel()

    async def _found(self) -> None:
        addresses = tuple(f"10.0.0.{n + 1}:{PORT}" for n in range(self.plan.nodes))
        if self.plan.founding == "names":
            self.net.names = {f"n{n + 1}": f"10.0.0.{n + 1}" for n in range(self.plan.nodes)}
            addresses = tuple(f"{name}:{PORT}" for name in self.net.names)
        for n in range(self.plan.nodes):
            first = n == 0 and self.plan.founding == "one"
            self.add(join=() if first else addresses)
        order = list(self.boxes)
        self.rng.shuffle(order)
        for box in order:
            await trio.sleep(self.rng.choice(self.starts))
            box.start()
        await self.until(lambda: not self.strange(), FOUNDED, "P7", "no cluster")
        await self.until(self._members_everywhere, FOUNDED, "P7", "no cluster")
        self.note("founded")

    def _members_everywhere(self) -> bool:
        """Tell whether the list has all the homes that it may have: before, some deaths are one too many."""
        if len(self.boxes) == 1:
            return True
        record = home_set(self, ROSTER)  # type: ignore[arg-type]
        homes = min(len(self.boxes), MAX_HOMES)
        return record is not None and record.committed and len(record.new) == homes

    async def until(self, holds: Any, seconds: float, promise: str, word: str) -> None:
        """Wait until something holds.  Errors: Broken."""
        deadline = trio.current_time() + seconds
        while not holds():
            if trio.current_time() >= deadline:
                self.accounts.broken(promise, word, "; ".join(self.strange()[:6]) or "it never came")
            await trio.sleep(0.1)

    @property
    def wanted(self) -> list[Box]:
        """The machines whose nodes should be members."""
        return [b for b in self.boxes if b.wanted]

    @property
    def hosts(self) -> dict[NodeId, Box]:
        """The running nodes by id."""
        return {b.me: b for b in self.wanted if b.up}

    def strange(self) -> list[str]:
        """Return in what the members do not agree that they all are there."""
        wrong = [f"{b.name} does not run: {b.why}" for b in self.wanted if not b.up]
        if wrong:
            return wrong
        wanted = {b.me: b.address for b in self.wanted}
        for box in self.wanted:
            clustering = box.node.broker.clustering
            if clustering is None:
                if len(wanted) > 1:
                    wrong.append(f"{box.name} is alone")
                continue
            listed = {m.node: m.address for m in clustering.rosters.current.members}
            if listed != wanted:
                names = [m.name for m in clustering.rosters.current.members]
                wrong.append(f"{box.name} has version {clustering.rosters.current.version}: {names}")
            if set(clustering.linked) != set(wanted) - {box.me}:
                lacks = [b.name for b in self.wanted if b is not box and b.me not in clustering.linked]
                wrong.append(f"{box.name} is not linked with {lacks}")
            for other in self.wanted:
                seen = box.node.belonging._gossip.status(other.me)
                if seen != "alive":
                    wrong.append(f"{box.name} sees {other.name} as {seen}")
        clusters = {b.node.broker.surroundings.cluster for b in self.wanted}
        if len(clusters) > 1:
            wrong.append(f"there are {len(clusters)} clusters")
        return wrong

    async def _go_on(self) -> None:
        """All faults are over: wait until messages come through again, and enough in all.  Errors: Broken."""
        counts = self.accounts.counts
        goals = {name: max(10, counts[name] + 1) for name in ("stored", "acked")}
        await self.until(lambda: all(counts[n] >= goals[n] for n in goals), RESUMED, "P0", "idle")

    async def _end(self, errands: Errands) -> None:
        self.calm, self.edge = True, None  # a node that died late may have been given another
        self.note("calm")
        began = trio.current_time()
        await self.until(lambda: not self.strange(), SETTLED, "P7", "views")
        self.note("views are equal")
        # A send may be under way still, and be stored behind the rest: it has to come, too.
        await self.until(lambda: not errands.producing, SETTLED, "P2", "stuck")
        self.note("to come", *map(str, self.accounts.left()[:3]))
        await self.until(lambda: not self.accounts.coming(), SETTLED + self.accounts.patience, "P2", "stuck")
        self.note("all came")
        await self.settle_copies()
        self.settled_in = trio.current_time() - began
        errands.done = True
        await self.until(lambda: not errands.consuming, SETTLED, "P7", "stuck")
        await self._use(errands)
        self.accounts.final()
        await weigh_at_rest(self, errands)

    async def settle_copies(self) -> None:
        """Wait until all copies are there, and in the end also alike.  Errors: Broken."""
        began = trio.current_time()
        # What nobody reads or changes is looked at now and then only.
        idle = IDLE_EVERY if any(box.rotten for box in self.wanted) else 0.0
        patience = SETTLED + self.accounts.patience + idle
        while True:
            wrong = [] if len(self.wanted) == 1 or not self.calm else unlike(self)  # type: ignore[arg-type]
            wrong = wrong or await self._unhealthy()
            if not wrong:
                return
            self.note("not yet", "; ".join(wrong[:2]))
            passed = trio.current_time() - began
            if passed >= patience:
                self.accounts.broken("P7", "unlike", "; ".join(wrong[:4]))
            await trio.sleep(0.5 if passed < SETTLED else 5.0)

    def _lossy(self, overview: dict[str, Any]) -> bool:
        """Tell whether what is wrong may be that what only disks had that rot or are gone counts as lost."""
        awry = any(overview[name] for name in ("leaderless", "under_replicated", "hints", "moving"))
        gone = self.accounts.counts["destroyed"] or any(box.rotten for box in self.wanted)
        return not awry and bool(gone)

    async def _unhealthy(self) -> list[str]:
        wrong = []
        for box in self.wanted:
            async with one_client(self, box.address) as client:
                try:
                    overview = (await client.status()).get("overview")
                    queues = await client.queues(counts=True)
                except DMQError as error:
                    wrong.append(f"{box.name}: {error}")
                    continue
            if overview is not None and not (overview["healthy"] or self._lossy(overview)):
                wrong.append(f"{box.name} says {overview}")
            elif overview is not None and self.calm and len(self.wanted) > 1 and overview["set_aside"]:
                wrong.append(f"{box.name} says that {overview['set_aside']} damaged records are missed")
            wrong += (
                []
                if not self.calm
                else [
                    f"{q['name']}: {k} is {q[k]}"
                    for q in queues
                    for k in ("ready", "delayed", "in_flight")
                    if q.get(k) and not (k == "delayed" and self.accounts.never_due(q["name"]))
                ]
            )
        return wrong

    async def _use(self, errands: Errands) -> None:
        """Send and receive through every node.  Errors: Broken."""
        for box in self.wanted:
            async with one_client(self, box.address) as client:
                for queue in errands.queues:
                    body = b"last of %s" % box.name.encode()
                    try:
                        await client.send(queue, body)
                        self.accounts.extra.add(body)
                        messages = await client.receive(queue, wait=5.0)
                        if [bytes(m.body) for m in messages] != [body]:
                            self.accounts.broken("P7", "stuck", f"{box.name}: {queue} gave {messages}")
                        await client.ack(messages)
                    except DMQError as error:
                        self.accounts.broken("P7", "unusable", f"{box.name}: {queue}: {error}")
