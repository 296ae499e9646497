"""Many nodes in a world without sockets or clocks: a heap of events, everything drawn from one seed.

Datagrams may be lost, delayed, doubled and reordered, links cut in any direction, nodes paused, crashed and
started again. What is drawn for a link depends on that link's own traffic only, so that another way to drive
the same cores (`trio_world`) draws the same.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gossip.config import SwimConfig
from gossip.effects import Changed, Event, Joined, PushPull, Remember, SendPacket
from gossip.messages import NO_CLUSTER, ClusterId, Member, NodeId, Status, first_incarnation
from gossip.swim import Swim

CLUSTER = ClusterId(b"the test cluster")
HELD = 200
"""Datagrams that the socket of a paused node keeps."""


@dataclass(slots=True)
class Network:
    """How bad the network is."""

    loss: float = 0.0
    delay: tuple[float, float] = (0.0002, 0.002)
    duplicated: float = 0.0
    late: float = 0.0
    """Share of datagrams that come up to 0.3 s late, so behind later ones."""

    def crossings(self, chance: random.Random) -> list[float]:
        """Return after how long each copy of a datagram arrives."""
        copies = []
        for _ in range(2 if chance.random() < self.duplicated else 1):
            delay = chance.uniform(*self.delay)
            late = chance.uniform(0, 0.3) if chance.random() < self.late else 0.0
            if chance.random() >= self.loss:
                copies.append(delay + late)
        return copies

    def tcp(self, chance: random.Random) -> float:
        """Return how long a handshake, or a request, takes to arrive: what is lost is sent again."""
        total = 0.0
        for _ in range(2):
            total += chance.uniform(*self.delay)
            while chance.random() < self.loss:
                total += 0.2
        return total


def node_id(name: str) -> NodeId:
    """Return the id that the node of this name has unless it is given another."""
    return NodeId(hashlib.blake2b(name.encode(), digest_size=8).digest())


def address_of(name: str) -> str:
    """Return where a node is reached."""
    return f"{name}:7367"


class Seen(NamedTuple):
    """One change of one view."""

    time: float
    observer: str
    member: str
    old: Status | None
    new: Status | None


@dataclass(eq=False)
class Running:
    """One run of one node."""

    name: str
    swim: Swim
    wake: float = math.inf
    paused: bool = False
    held: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass
class Disk:
    """What a node keeps between runs, its settings included."""

    boots: int = 0
    cluster: ClusterId = NO_CLUSTER
    known: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()


class World:
    """A cluster, its network and its time.

    Arguments:
        seed: of everything.
        config: of every node.
        network: may be changed at any time.
    """

    def __init__(self, seed: int, config: SwimConfig | None = None, network: Network | None = None) -> None:
        self.seed = seed
        self.config = config or SwimConfig.lan()
        self.network = network or Network()
        self.time = 0.0
        self.nodes: dict[str, Running] = {}
        self.disks: dict[str, Disk] = {}
        self.seen: list[Seen] = []
        self.events: list[tuple[float, str, Event]] = []
        self.cut: Callable[[str, str], bool] = lambda sender, receiver: False
        """Whether what one address sends to another gets lost."""
        self.cut_udp: Callable[[str, str], bool] = lambda sender, receiver: False
        self.after_event: Callable[[], None] = lambda: None
        self.bytes = 0
        """What the nodes have sent: datagrams and states, without the headers of IP, UDP and TCP."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._links: dict[str, random.Random] = {}
        self._digests: dict[str, Any] = {}

    # --- nodes -----------------------------------------------------------------------------------------

    def start(self, name: str, *, seeds: Iterable[str] = (), **given: Any) -> Running:
        """Start a node with what its disk has; `given` goes to its `Swim`, or (id …) into its `Member`."""
        disk = self.disks.setdefault(name, Disk())
        disk.boots += 1
        disk.seeds = tuple(map(address_of, seeds)) or disk.seeds
        fields = {
            k: given.pop(k) for k in ("id", "zone", "meta", "lowest", "highest", "weight") if k in given
        }
        fields.setdefault("id", node_id(name))
        incarnation = given.pop("incarnation", first_incarnation(disk.boots))
        me = Member(name=name, address=address_of(name), incarnation=incarnation, **fields)
        rng = random.Random(f"{self.seed}/{name}/{disk.boots}")
        settings = {"cluster": disk.cluster, "cluster_name": "test", "known": disk.known, **given}
        swim = Swim(self.config, me, rng, self.time, seeds=disk.seeds, **settings)
        node = self.nodes[name] = Running(name, swim)
        disk.cluster = swim.cluster
        self._perform(node)
        return node

    def cluster(self, count: int, **given: Any) -> list[str]:
        """Start `count` nodes n0 … that know each other's addresses, and wait until all are in company."""
        names = [f"n{i}" for i in range(count)]
        known = tuple(map(address_of, names[: min(count, 5)]))
        for name in names:
            self.start(name, cluster=CLUSTER, known=known, **given)
            self.run(0.0137)
        assert self.until(self.agreed, 60), self.views()
        return names

    def crash(self, name: str) -> None:
        """End a node at once."""
        del self.nodes[name]

    def pause(self, name: str) -> None:
        """Let a node do nothing, until `resume`."""
        self.nodes[name].paused = True

    def resume(self, name: str) -> None:
        """Let a node go on: it finds the time gone by, and afterwards what its socket kept."""
        node = self.nodes[name]
        node.paused = False
        if node.wake <= self.time:
            self._wake(node, node.wake)
        held, node.held = node.held, []
        for sender, data in held:
            self._arrive(node, sender, data)

    def stop(self, name: str) -> None:
        """Stop a node gracefully."""
        node = self.nodes[name]
        node.swim.stop(self.time)
        self._perform(node)
        del self.nodes[name]

    def leave(self, name: str) -> None:
        """Let a node leave for good."""
        node = self.nodes[name]
        node.swim.leave(self.time)
        self._perform(node)
        del self.nodes[name]

    def act(self, name: str, verb: str, *arguments: Any, **named: Any) -> None:
        """Call a verb of a node's core."""
        node = self.nodes[name]
        getattr(node.swim, verb)(self.time, *arguments, **named)
        self._perform(node)

    def split(self, *groups: Iterable[str]) -> None:
        """Let nothing pass between groups of nodes."""
        group = {address_of(name): number for number, names in enumerate(groups) for name in names}
        self.cut = lambda sender, receiver: group.get(sender) != group.get(receiver)

    def heal(self) -> None:
        """Let everything pass."""
        self.cut = self.cut_udp = lambda sender, receiver: False

    # --- looking ---------------------------------------------------------------------------------------

    def status(self, observer: str, member: str) -> Status | None:
        """Return how one node sees another."""
        found = self.nodes[observer].swim.member(node_id(member))
        return None if found is None else found[1]

    def all_see(self, member: str, status: Status | None) -> bool:
        """Tell whether every other running node sees a member so."""
        return all(self.status(name, member) is status for name in self.nodes if name != member)

    def agreed(self) -> bool:
        """Tell whether every node sees exactly those alive that run."""
        running = sorted(node_id(name) for name in self.nodes)
        return all(
            sorted(m.id for m, s in node.swim.members() if s is Status.ALIVE) == running
            for node in self.nodes.values()
        )

    def views(self) -> dict[str, str]:
        """Return what each sees, for people."""
        return {
            name: " ".join(f"{m.name}:{s.name}" for m, s in node.swim.members())
            for name, node in self.nodes.items()
        }

    def deaths(self, of: Iterable[str] | None = None, since: float = 0.0) -> list[Seen]:
        """Return where members were declared dead."""
        names = None if of is None else dict.fromkeys(of)
        return [
            seen
            for seen in self.seen
            if seen.new is Status.DEAD and seen.time >= since and (names is None or seen.member in names)
        ]

    def digest(self) -> str:
        """Return what stands for all that happened: per node, what it sent and told, in order."""
        whole = hashlib.blake2b(digest_size=16)
        for kind in sorted(self._digests):
            whole.update(f"{kind} {self._digests[kind].hexdigest()}\n".encode())
        return whole.hexdigest()

    def note(self, kind: str, name: str, *what: object) -> None:
        """Add to what `digest` stands for."""
        digest = self._digests.setdefault(f"{kind}/{name}", hashlib.blake2b(digest_size=16))
        digest.update(repr(what).encode())

    # --- time ------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.time + seconds
        while self._heap and self._heap[0][0] <= end:
            self.step()
        self.time = end

    def until(self, holds: Callable[[], bool], within: float, every: float = 0.05) -> bool:
        """Let time pass until something holds; tell whether it did within so many seconds."""
        end = self.time + within
        while not holds():
            if self.time >= end:
                return False
            self.run(every)
        return True

    def step(self) -> None:
        """Let the next event happen."""
        self.time, _, act, arguments = heapq.heappop(self._heap)
        act(*arguments)
        self.after_event()

    def _at(self, time: float, act: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, act, arguments))

    # --- effects ---------------------------------------------------------------------------------------

    def chance(self, kind: str, sender: str, receiver: str) -> random.Random:
        """Return the chance of one link in one direction."""
        link = f"{self.seed}/{kind}/{sender}>{receiver}"
        if link not in self._links:
            self._links[link] = random.Random(link)
        return self._links[link]

    def _perform(self, node: Running) -> None:
        own = address_of(node.name)
        for effect in node.swim.take_effects():
            match effect:
                case SendPacket():
                    self._send(node, own, effect.address, effect.data)
                case PushPull():
                    state = node.swim.state_for_push_pull(self.time)
                    self.note("exchange", f"{own}>{effect.address}")
                    wait = self.network.tcp(self.chance("tcp", own, effect.address))
                    self._at(self.time + wait, self._ask, node, effect.address, state)
                case _:
                    self.tell(node.name, effect)
        due = node.swim.next_deadline()
        if due < node.wake:
            node.wake = due
            self._at(due, self._wake, node, due)

    def tell(self, name: str, event: Event) -> None:
        """Take down what a node's layer above is told."""
        self.note("event", name, event)
        self.events.append((self.time, name, event))
        if isinstance(event, Changed):
            self.seen.append(Seen(self.time, name, event.member.name, event.old, event.new))
        elif isinstance(event, Joined):
            self.disks[name].cluster = event.cluster
        elif isinstance(event, Remember):
            self.disks[name].known = event.addresses

    def _send(self, node: Running, own: str, address: str, data: bytes) -> None:
        self.note("send", own, address, data)
        self.bytes += len(data)
        for delay in self.network.crossings(self.chance("udp", own, address)):
            self._at(self.time + delay, self._deliver, own, address, data)

    def _deliver(self, sender: str, address: str, data: bytes) -> None:
        node = self.nodes.get(address.partition(":")[0])
        if node is not None and not self.cut(sender, address) and not self.cut_udp(sender, address):
            self._arrive(node, sender, data)

    def _arrive(self, node: Running, sender: str, data: bytes) -> None:
        if not node.paused:
            node.swim.receive(self.time, sender, data)
            self._perform(node)
        elif len(node.held) < HELD:
            node.held.append((sender, data))

    def _wake(self, node: Running, due: float) -> None:
        if self.nodes.get(node.name) is not node or node.paused or node.wake != due:
            return
        node.wake = math.inf
        node.swim.tick(self.time)
        self._perform(node)

    def _ask(self, node: Running, address: str, state: bytes) -> None:
        own = address_of(node.name)
        other = self.nodes.get(address.partition(":")[0])
        if other is None or other.paused or self.cut(own, address) or self.cut(address, own):
            return
        reply = other.swim.answer(self.time, state)
        self.bytes += len(state) + len(reply)
        self._perform(other)
        wait = self.network.tcp(self.chance("tcp", address, own))
        self._at(self.time + wait, self._merge, node, address, reply)

    def _merge(self, node: Running, address: str, reply: bytes) -> None:
        own = address_of(node.name)
        if self.nodes.get(node.name) is not node or node.paused or self.cut(address, own):
            return
        node.swim.merge(self.time, address, reply)
        self._perform(node)
