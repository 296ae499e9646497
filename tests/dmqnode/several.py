"""A cluster of whole brokers on memory disks in one process: virtual time, no shells, nothing at random."""

from __future__ import annotations

import heapq
import math
import random
from itertools import count
from pathlib import Path
from typing import Any

from dmqnode.batch import encode
from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.config import NodeConfig
from dmqnode.disk import look, perform_read, read_ranges
from dmqnode.grants import GRANTS, GRANTS_END
from dmqnode.ids import NodeId, PartitionId, QueueId
from dmqnode.keys import QUEUES, QUEUES_END
from dmqnode.messages import (
    CreateQueue,
    Delivered,
    Explain,
    Hello,
    Message,
    NodeStatus,
    QueueInfo,
    Receive,
    Report,
    Send,
    Stored,
)
from dmqnode.records import Identity
from dmqnode.roster import Member, Roster
from storage.memory import MemoryStore
from tests.dmqnode.world import Got, got

WALL = 1_700_000_000_000
DELAY = 0.001
"""Seconds that a message takes from node to node."""


class Some:
    """One node, and one client of it."""

    def __init__(self, cluster: Several, name: str, roster: Roster, *, silent: float = 0.0) -> None:
        self.cluster = cluster
        self.name = name
        self.me = id_of(name)
        self.store = MemoryStore()
        self.up = True
        self.replies: dict[int, Message] = {}
        self.logged: list[tuple[str, dict[str, object]]] = []
        self._numbers = count(1)
        self._begin(roster, silent)

    def _begin(self, roster: Roster, silent: float) -> None:
        now = self.cluster.now()
        broker = Broker(NodeConfig(data=Path("/nowhere"), name=self.name), Identity(self.me, 1, 7), now)
        self.broker = broker
        broker.surroundings.report = lambda text, found: self.logged.append((text, found))
        broker.registry.load(now)
        self.crank()
        self.clustering = broker.clustering = Clustering(
            broker, roster, random.Random(self.name), now, silent=silent
        )
        hello = Hello(1, 1, f"client of {self.name}", "user", [], 1 << 24)
        self.session = broker.open_session(hello)

    def restart(self) -> None:
        """Begin again with what is on the disk, after `Several.kill`; nothing is linked."""
        self.up = True
        self._begin(self.clustering.rosters.current, 0.0)
        for key, record in read_ranges(self.store, ((GRANTS, GRANTS_END),)).items():
            self.clustering.cluster.grants.load(PartitionId(key[len(GRANTS) :]), record)
        for key, record in read_ranges(self.store, ((QUEUES, QUEUES_END),)).items():
            self.clustering.catalog.load(QueueId(key[len(QUEUES) :]), record)

    def crank(self) -> None:
        """Do all that there is to do at this moment."""
        broker, busy = self.broker, True
        while busy:
            busy = False
            for reply in broker.take_replies():
                answer = reply.message
                if reply.session in broker.sessions:
                    self.replies[reply.number] = answer
                elif isinstance(answer, Delivered):
                    broker.undelivered(self.cluster.now(), answer)
            if broker.clustering is not None:
                for node, message in broker.clustering.take_sent():
                    self.cluster.carry(self, node, message)
            for number, read in broker.reads.take_wanted():
                broker.read_done(self.cluster.now(), number, perform_read(self.store, read))
                busy = True
            if broker.next_deadline() <= self.cluster.time:
                broker.tick(self.cluster.now())
                busy = True
            pending = broker.collect(self.cluster.now())
            if pending is not None:
                self.store.write(pending.batch, sync=pending.sync)
                look(self.store, pending)
                broker.written(self.cluster.now(), pending)
                busy = True

    def request(self, message: Message) -> int:
        """Have the client ask for something; return the number."""
        number = next(self._numbers)
        self.broker.receive(self.cluster.now(), self.session, number, message)
        self.crank()
        return number


class Several:
    """The cluster.

    Arguments:
        names: of its nodes; all of them are linked.
    """

    def __init__(self, *names: str) -> None:
        self.time = 1000.0
        self._under_way: list[tuple[float, int, str, str, Message]] = []
        self._tie = count()
        self._sequence = count(1)
        roster = roster_of(*names)
        self.nodes = {name: Some(self, name, roster) for name in names}
        for name in names:
            self.link(name, *names)

    def now(self) -> Now:
        return Now(self.time, WALL + round(self.time * 1000))

    # --- links ---------------------------------------------------------------------------------------

    def link(self, name: str, *others: str) -> None:
        """Let one node hear that its links to others are up."""
        for other in others:
            if other != name:
                self.nodes[name].clustering.met(self.now(), id_of(other))
        self.nodes[name].crank()

    def join(self, name: str) -> Some:
        """Add a node, of which the others hear at once."""
        old = self.nodes["n1"].clustering.rosters.current
        roster = Roster(old.version + 1, (*old.members, member(name)), old.first_homes)
        node = self.nodes[name] = Some(self, name, roster)
        for other in [n for n in self.nodes.values() if n is not node]:
            other.clustering.rosters.learn(self.now(), roster)
            self.link(other.name, name)
        self.link(name, *self.nodes)
        return node

    def kill(self, name: str) -> None:
        """End a node; the others notice at once."""
        self.nodes[name].up = False
        for node in self.nodes.values():
            if node.up:
                node.clustering.gone(self.now(), id_of(name))
                node.crank()

    def cut(self, name: str) -> None:
        """Break all links of one node, which all notice at once; what is on its way is lost."""
        self._drop(name)
        for other in self.nodes.values():
            if other.name != name:
                other.clustering.gone(self.now(), id_of(name))
                other.crank()
                self.nodes[name].clustering.gone(self.now(), id_of(other.name))
        self.nodes[name].crank()
        self._drop(name)

    def _drop(self, name: str) -> None:
        self._under_way = [item for item in self._under_way if name not in item[2:4]]

    def carry(self, sender: Some, to: NodeId, message: Message) -> None:
        item = (self.time + DELAY, next(self._tie), sender.name, name_of(to), message)
        heapq.heappush(self._under_way, item)

    # --- time ----------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.time + seconds
        while True:
            up = [n for n in self.nodes.values() if n.up]
            at = min(n.broker.next_deadline() for n in up)
            at = min(at, self._under_way[0][0] if self._under_way else math.inf)
            if at > end:
                self.time = end
                return
            self.time = max(self.time, at)
            while self._under_way and self._under_way[0][0] <= self.time:
                _, _, sender, to, message = heapq.heappop(self._under_way)
                if self.nodes[sender].up and self.nodes[to].up:
                    self.nodes[to].clustering.hear(self.now(), id_of(sender), message)
                    self.nodes[to].crank()
            for node in up:
                if node.broker.next_deadline() <= self.time:
                    node.crank()

    def until(self, holds: Any, seconds: float = 30.0) -> None:
        end = self.time + seconds
        while not holds():
            assert self.time < end, "it never came"
            self.run(0.05)

    # --- asking --------------------------------------------------------------------------------------

    def ask(self, name: str, message: Message, seconds: float = 20.0) -> Any:
        """Ask one node; return its answer."""
        node = self.nodes[name]
        number = node.request(message)
        self.until(lambda: number in node.replies, seconds)
        return node.replies.pop(number)

    def create(self, queue: str = "q", **settings: Any) -> None:
        assert isinstance(self.ask("n1", CreateQueue(queue, settings, False)), QueueInfo)

    def send(self, name: str, *bodies: bytes, queue: str = "q", producer: bytes = b"p" * 16) -> Message:
        batch = encode(list(bodies), {}).blob
        answer: Message = self.ask(name, Send(queue, producer, next(self._sequence), 0, None, False, batch))
        return answer

    def stored(self, name: str, *bodies: bytes, **options: Any) -> None:
        answer = self.send(name, *bodies, **options)
        assert isinstance(answer, Stored), answer

    def receive(self, name: str, *, queue: str = "q", limit: int = 10, wait: float = 1.0) -> list[Got]:
        answer = self.ask(name, Receive(queue, limit, 1 << 20, wait, None))
        assert isinstance(answer, Delivered), answer
        return got(answer)

    def explain(self, name: str, queue: str = "q") -> dict[str, Any]:
        answer = self.ask(name, Explain(queue))
        assert isinstance(answer, Report), answer
        return answer.fields

    def overview(self, name: str) -> dict[str, Any]:
        answer = self.ask(name, NodeStatus())
        assert isinstance(answer, Report), answer
        found: dict[str, Any] = answer.fields["overview"]
        return found

    def leader(self, partition: PartitionId) -> Some:
        """Return who leads a partition."""
        (leader,) = [n for n in self.nodes.values() if n.up and n.clustering.cluster.leads(partition)]
        return leader


def id_of(name: str) -> NodeId:
    return NodeId(b"node" + name.encode().ljust(4, b"-"))


def name_of(node: NodeId) -> str:
    return node[4:].rstrip(b"-").decode()


def member(name: str) -> Member:
    return Member(id_of(name), name, f"{name}:1")


def roster_of(*names: str) -> Roster:
    return Roster(1, tuple(member(name) for name in names))
