"""Scenes: a world in which nothing goes wrong but what a test does, and clients do as they are told.

Where a bug needs several things at just the right time, chance does not find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop

from dmqnode.batch import encode
from dmqnode.grants import LEASE
from dmqnode.ids import NodeId, partition_id
from dmqnode.messages import Delivered, Receive, Send, Stored
from tests.simulation.clients import Client, Script
from tests.simulation.host import Host
from tests.simulation.likeness import peek, unlike
from tests.simulation.network import PATIENCE
from tests.simulation.operations import create
from tests.simulation.plan import Plan, QueuePlan
from tests.simulation.sent import Sent
from tests.simulation.workload import ack
from tests.simulation.world import World

LINE = QueuePlan("line", {"visibility": 3.0, "ordering": "fifo"})
FAR = 1e6
"""Seconds: until something is mended."""


class Scene:
    """A world with one queue, which a client has opened.

    Arguments:
        seed: of what is left to chance.
        nodes: how many there are.
        queue: of one partition.
        replicas: as many homes has the queue; 0: all nodes.
    """

    def __init__(self, seed: int, nodes: int = 3, queue: QueuePlan = LINE, replicas: int = 0) -> None:
        self.queue = queue
        copies = replicas or nodes
        plan = Plan(nodes=nodes, replicas=copies, queues=(queue,), producers=0, consumers=0)
        plan = plan._replace(write_quorum=min(2, copies))
        self.world = world = World(seed, plan)
        self.hosts = list(world.hosts.values())
        for host in self.hosts:
            host.start()
        for node in world.hosts:
            world.net.born(node)
        world.after(0.8, world.clients.start)
        self._sequence = 0
        self._numbers: dict[int, int] = {}
        self.until(lambda: all(self.queue.name in host.broker.registry.queues for host in self.hosts))
        self._about(queue, self.hosts[0])

    def _about(self, queue: QueuePlan, known_at: Host) -> None:
        """The scene is about a queue from now on."""
        definition = known_at.broker.registry.queues[queue.name].definition
        self.queue = queue
        self.partition = partition_id(definition.id, 0)
        self.homes = [host for host in self.hosts if host.me in definition.homes[0]]

    # --- time ----------------------------------------------------------------------------------------

    def goes(self, enough: Callable[[], bool], seconds: float) -> bool:
        """Go on for some time, or until something is so; tell whether it is."""
        world = self.world
        end = world.now + seconds
        while not enough():
            if not world._heap or world._heap[0][0] > end:
                world.now = end
                return False
            world.now, _, act = heappop(world._heap)
            act()
        return True

    def until(self, enough: Callable[[], bool]) -> None:
        """Go on until something is so."""
        assert self.goes(enough, 30.0), self.world.story(last=25)

    def passes(self, seconds: float) -> None:
        """Let some time pass."""
        self.goes(lambda: False, seconds)

    # --- nodes ---------------------------------------------------------------------------------------

    def leads(self, host: Host) -> bool:
        """Tell whether a node delivers."""
        return host.runs and host.clustering.cluster.leads(self.partition)

    def leader(self) -> Host:
        """Go on until a node delivers; return it."""
        self.until(lambda: any(map(self.leads, self.hosts)))
        return next(filter(self.leads, self.hosts))

    def next_leader(self) -> Host:
        """Have somebody ask for the queue, who takes nothing; go on until a node delivers, and return it."""

        def script() -> Script:
            yield Receive(self.queue.name, 0, 1 << 20, 0.0, None)

        self.do(script(), None)
        return self.leader()

    def want(self, host: Host) -> None:
        """Let a node claim the lease, if it may."""

        def want() -> None:
            clustering = host.clustering
            definition = host.broker.registry.queues[self.queue.name].definition
            clustering.cluster.want(host.now(), self.partition, clustering.first_homes(definition, 0))

        host.happen(want, host.life)

    def claim(self, host: Host) -> None:
        """Go on until a node has the lease, and on disk what it is to lead with; no home follows yet."""

        def begins() -> bool:
            stream = host.clustering.cluster.streams.of(self.partition)
            return stream is not None and not stream.following()

        while not self.goes(begins, 0.2):  # a number that is too low is denied, and the next is not
            self.want(host)

    def offer(self, keeper: Host, leader: Host) -> None:
        """Let a node offer at once what it owes, to the one that it is to take for the leader."""
        clustering = keeper.clustering

        def act() -> None:
            clustering.cluster.leaders[self.partition] = leader.me
            clustering.debts._offered.clear()
            clustering.debts.tick(keeper.now())

        keeper.happen(act, keeper.life)

    def has(self, host: Host, sent: Sent) -> bool:
        """Tell whether a message is on a node's disk."""
        return any(sent.body in record for record in peek(host.store)._records.values())

    def cut(self, host: Host, *others: Host) -> None:
        """Let nothing through any more between a node and others."""
        self.world.ledger.disturbed("cut", host.me, FAR)
        self.world.net.block(_between(host, others), FAR)

    def mend(self, host: Host, *others: Host) -> None:
        """Let everything through again that was cut there, once; go on until they have met."""
        self.world.net._unblock(_between(host, others))
        self.until(lambda: all(host.clustering.reachable(other.me) for other in others))

    def delay(self, sender: Host, receiver: Host, seconds: float) -> None:
        """What is sent in this direction from now on arrives later, in order."""
        connection = self.world.net._connections[min(sender.me, receiver.me), max(sender.me, receiver.me)]
        connection.last[sender.me] = self.world.now + seconds

    def lose(self, host: Host, other: Host) -> None:
        """Break a connection, and let the next be made: what was under way is lost."""
        net = self.world.net
        net.lose(net._connections[min(host.me, other.me), max(host.me, other.me)], host.me)
        net.heal()

    def part(self, host: Host, *others: Host) -> None:
        """Let nothing through between a node and others, and have them know that at once."""
        self.cut(host, *others)
        net = self.world.net
        for other in others:
            connection = net._connections.get((min(host.me, other.me), max(host.me, other.me)))
            for end in (host, other) if connection is not None else ():
                net.lose(connection, end.me)

    def kill(self, host: Host) -> None:
        """Kill a node, until `back`; what stalled on its links is lost, and all links are whole again."""
        host.die("kill", back=FAR)
        self.passes(PATIENCE[1])
        self.world.net.heal()

    def back(self, host: Host) -> None:
        """Start a node again, and wait until it may grant (L1)."""
        host._return()
        self.passes(LEASE + 1.0)

    # --- clients -------------------------------------------------------------------------------------

    def do(self, script: Script, at: Host | None) -> Client:
        """Let a client do something, at one node or at any."""
        client = Client(self.world, "script", script)
        if at is not None:
            client.near = lambda host: host is at
        self.world.clients.add(client)
        return client

    def create(self, queue: QueuePlan, at: Host) -> None:
        """Create one more queue at a node, and be about it."""
        client = self.do(create(self.world, queue), at)
        self.until(lambda: client.over)
        self.world.plan = self.world.plan._replace(queues=(*self.world.plan.queues, queue))
        self._about(queue, at)

    def send(self, at: Host | None = None, size: int = 0, *, producer: bytes = b"p", name: str = "") -> Sent:
        """Begin to send a message, of so many bytes at least, behind those before; it is tried once."""
        self._sequence += 1
        sent = self.world.ledger.new(self.queue, "p", None, None)
        sent.body = sent.body.ljust(size)
        self._numbers[sent.number] = self._sequence
        self.repeat(sent, at, producer=producer, name=name)
        return sent

    def repeat(self, sent: Sent, at: Host | None = None, *, producer: bytes = b"p", name: str = "") -> None:
        """Begin to send a message, once more perhaps.

        Arguments:
            producer: a letter; another one sends it under the same dedup id, or sends it anew.
            name: its dedup id, if it has one.
        """
        ledger, number = self.world.ledger, self._numbers[sent.number]
        blob = encode([sent.body], {"d": (None, {0: name})} if name else {}).blob

        def script() -> Script:
            ledger.attempted([sent])
            answer = yield Send(self.queue.name, producer * 16, number, number, None, False, blob)
            if isinstance(answer, Stored):
                ledger.stored([sent], answer.runs)
            else:
                ledger.unknown([sent])

        self.do(script(), at)

    def stored(self) -> Sent:
        """Send a message, and wait until it is stored."""
        sent = self.send()
        self.until(lambda: sent.outcome == "stored")
        return sent

    def receive(self, at: Host | None = None, *, acks: bool) -> None:
        """Begin to receive, until something has come."""
        world = self.world

        def script() -> Script:
            while True:
                answer = yield Receive(self.queue.name, 1, 1 << 20, 1.0, None)
                if isinstance(answer, Delivered) and answer.parts:
                    break
                yield 0.1
            world.ledger.received(answer)
            if acks:
                yield from ack(world, answer.parts)

        self.do(script(), at)

    def take(self) -> None:
        """Receive a message and ack it."""
        before = self.world.ledger.counts["acked"]
        self.receive(acks=True)
        self.until(lambda: self.world.ledger.counts["acked"] > before)

    def end(self) -> None:
        """Everything is mended: what was stored comes out, behind all else that is left; copies are alike."""
        world = self.world
        world.net.heal()
        for host in self.hosts:
            host._return()
        self.stored()
        world.calm = True
        world.clients.finish()
        self.goes(lambda: world.ledger.settled() and not unlike(world), 60.0)
        if not world.ledger.settled() or unlike(world):
            world.ledger.final(unlike(world))


def _between(host: Host, others: Iterable[Host]) -> list[tuple[NodeId, NodeId]]:
    return [link for other in others for link in ((host.me, other.me), (other.me, host.me))]
