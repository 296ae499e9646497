"""A world of whole brokers: the real cores, a heap of events, virtual time, and one seed for everything.

    plan   what the cluster is like, what goes wrong and when      network  links that stall and break
    host   a broker over a simulated disk, its clocks, its deaths  clients  what they ask, and learn
    ledger knows all of it, and says when a promise is broken

First work under faults, then everything is mended and all that was stored must come out, in bounded time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

from dmqnode.greetings import TimeIs, WhatTime
from dmqnode.ids import NodeId
from dmqnode.messages import Message
from dmqnode.roster import Member, Roster
from storage.ops import WriteBatch
from tests.simulation.bounds import Around, excess
from tests.simulation.clients import Clients
from tests.simulation.concerning import Concern, Written
from tests.simulation.host import Host
from tests.simulation.ledger import Broken, Ledger
from tests.simulation.likeness import unlike
from tests.simulation.network import Network
from tests.simulation.plan import Plan, draw_plan
from tests.simulation.sent import Sent
from tests.simulation.telling import story, story_of
from tests.simulation.trouble import Trouble

BEGINNING = 1_700_000_000_000
"""The wall clock at the beginning, ms since 1970."""
CALM_WITHIN = 90.0
"""Seconds after the last fault within which everything that was stored has come out, and copies are equal."""
REST = 2.0
"""Seconds after the last client has gone in which what was kept for it goes, too."""
RESTS = 5
"""How often it is looked again: what stays is kept for ever, what goes was under way."""
WEIGH_EVERY = 5.0
"""Seconds between two looks at what is in memory."""
EVENTS = 400_000
KEPT = 60_000


class World:
    """One run.

    Arguments:
        seed: of everything.
        plan: what happens; None draws it from the seed.
    """

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.plan = draw_plan(self.rng) if plan is None else plan
        self.now = 0.0
        self.calm = False
        """Whether everything is mended: what remains is to come out."""
        self.events = 0
        self.log: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        self._asked: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        """What nodes asked and answered about time: of the digest only."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._weigh_at = WEIGH_EVERY
        members = tuple(Member(NodeId(b"node%04d" % n), f"n{n}", f"h{n}:1") for n in range(self.plan.nodes))
        self.roster = Roster(1, members)
        self.ledger = Ledger(self)
        self.hosts = {m.node: Host(self, m) for m in members}
        self.net = Network(self, self.hosts)
        self.clients = Clients(self)
        self.trouble = Trouble(self)

    # --- events --------------------------------------------------------------------------------------

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Call `act` at a time."""
        self._order += 1
        heappush(self._heap, (time, self._order, act))

    def after(self, delay: float, act: Callable[[], None]) -> None:
        """Call `act` in `delay` seconds."""
        self.at(self.now + delay, act)

    def note(self, *what: Any) -> None:
        """Write a line of the trace."""
        self.log.append((self.now, *what))

    def heard(self, sender: NodeId | str, receiver: NodeId | str, message: Message) -> None:
        """A message between nodes arrives, a request, or an answer leaves: trace it."""
        (self._asked if isinstance(message, WhatTime | TimeIs) else self.log).append(
            (self.now, sender, receiver, message)
        )

    def wrote(self, node: NodeId, batch: WriteBatch) -> None:
        """A node gives its disk a write: the same."""
        self.note(node, Written(batch))

    @property
    def digest(self) -> str:
        """A hash of what went wrong, was said, asked, answered and written, when, and of all disks."""
        digest = blake2b(digest_size=8)
        for lines in (self.log, self._asked):
            for line in lines:
                digest.update(repr(line).encode())
        for host in self.hosts.values():
            digest.update(repr((host.me, sorted(host.store._records.items()))).encode())
        return digest.hexdigest()

    # --- running -------------------------------------------------------------------------------------

    def run(self) -> World:
        """Run to the end.  Errors: Broken."""
        try:
            self._run()
        except Broken:
            raise
        except Exception as error:
            # Whatever a core raises is a finding: say of which seed.
            error.add_note(f"seed {self.seed}: {self.plan}, at {self.now:.4f}")
            raise
        return self

    def _run(self) -> None:
        for host in self.hosts.values():
            host.start()
        for node in self.hosts:
            self.net.born(node)
        self.after(0.8, self.clients.start)
        self.after(2.0, self.trouble.begin)
        if any(queue.expires for queue in self.plan.queues):
            self.after(2.0, self.ledger.look)
        end = 2.0 + self.plan.seconds
        self._until(end)
        self.calm = True
        self.note("calm")
        self.trouble.end()
        self.clients.finish()
        self._until(end + CALM_WITHIN, enough=self._finished)
        self.ledger.final(unlike(self))
        self.clients.vanish()
        wrong = ""
        for _ in range(RESTS + round(RESTS * self.plan.late)):  # what reads go on with comes late, too
            self._until(self.now + REST)
            wrong = self._excess(rest=True)
            if not wrong:
                return
        self.ledger.unbounded(wrong)

    def _excess(self, *, rest: bool = False) -> str:
        """Return what a node holds more in memory than it may (P8); of made-up queues it is not known."""
        if not self.plan.queues:
            return ""
        partitions = [max(q.settings.get("partitions", 1), *q.grows, 1) for q in self.plan.queues]
        deleted = self.ledger.counts["delete"] + 1
        queues, of_all = len(partitions) + deleted, sum(partitions) + deleted * max(partitions)
        busy = self.clients.count + sum(m.acked_at < 0 for m in self.ledger.messages)
        known = (
            k.partitions for host in self.hosts.values() for k in host.clustering.catalog._known.values()
        )
        around = Around(len(self.hosts), queues, of_all + sum(known), busy)
        for host in self.hosts.values():
            if host.up and (wrong := excess(host.broker, around, rest=rest)):
                return f"{host.name}{' at rest' if rest else ''}: {'; '.join(wrong)}"
        return ""

    def _until(self, end: float, enough: Callable[[], bool] = lambda: False) -> None:
        look = self.now
        while self._heap and self._heap[0][0] <= end:
            self.now, _, act = heappop(self._heap)
            self.events += 1
            if self.events > EVENTS:
                raise Broken(f"endless: more than {EVENTS} events")
            act()
            if self.now >= self._weigh_at:
                self._weigh_at = self.now + WEIGH_EVERY
                if wrong := self._excess():
                    self.ledger.unbounded(wrong)
            if self.now >= look:
                look = self.now + 0.25
                if enough():
                    return
        self.now = max(self.now, end)

    def _finished(self) -> bool:
        return self.ledger.settled() and self.clients.idle and not unlike(self)

    # --- telling -------------------------------------------------------------------------------------

    def story(self, about: bytes = b"", last: int = 60, since: float = 0.0, until: float = 1e9) -> str:
        """Return the last lines of the trace, of the messages that have `about` in them."""
        return story(self.log, about, last, since, until)

    def story_of(self, message: Sent) -> str:
        """Return the lines of the trace that concern a message."""
        return story_of(self.log, Concern(message.number, message.body, message.ids))
