"""How the whole cluster is: what every member says of itself, put together by the one that was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmqnode.clock import Now
from dmqnode.greetings import StateIs, WantState
from dmqnode.ids import PARTITION_ID_SIZE, NodeId, PartitionId, partition_id
from dmqnode.messages import Message
from dmqnode.roster import ROSTER
from dmqnode.version import VERSION

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

PATIENCE = 1.0
"""Seconds that a member has to say how it is."""
MAX_ASKING = 1000
Fields = dict[str, Any]


class _Asking:
    def __init__(self, then: Callable[[Now, Fields], None], wanted: set[NodeId]) -> None:
        self.then = then
        self.wanted = wanted
        self.states: list[StateIs] = []


class Overview:
    """Tells how the cluster is, as far as its members answer."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._asking: dict[int, _Asking] = {}
        self._nonce = 0

    # --- asking --------------------------------------------------------------------------------------

    def ask(self, now: Now, then: Callable[[Now, Fields], None]) -> None:
        """Call `then` with the figures of the cluster, once the members that answer have said theirs."""
        self._nonce += 1
        nonce = self._nonce
        asking = _Asking(then, set(self._clustering.linked))
        asking.states.append(self._own(nonce))
        self._asking[nonce] = asking
        for node in self._clustering.linked:
            self._clustering.send(node, WantState(nonce))
        if len(self._asking) > MAX_ASKING:
            self._end(now, min(self._asking))
        self._clustering.later(now, PATIENCE, lambda now: self._end(now, nonce))
        if not asking.wanted:
            self._end(now, nonce)

    def _end(self, now: Now, nonce: int) -> None:
        asking = self._asking.pop(nonce, None)
        if asking is not None:
            asking.then(now, self._sum(asking))

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these."""
        match message:
            case WantState():
                self._clustering.send(sender, self._own(message.nonce))
            case StateIs():
                asking = self._asking.get(message.nonce)
                if asking is not None and sender in asking.wanted:
                    asking.wanted.discard(sender)
                    asking.states.append(message)
                    if not asking.wanted:
                        self._end(now, message.nonce)
            case _:
                return False
        return True

    # --- figures -------------------------------------------------------------------------------------

    def _own(self, nonce: int) -> StateIs:
        clustering, broker = self._clustering, self._broker
        led, lacking, moving = [], [], 0
        for stream in clustering.cluster.streams:
            if not clustering.cluster.leads(stream.partition):
                continue
            # The list of members is no queue, but until it has its copies, too, nobody may be lost.
            if stream.partition != ROSTER:
                led.append(stream.partition)
            wanted = clustering.wanted(stream.partition)
            complete = {f.node for f in stream.followers.values() if stream.complete(f)} | {clustering.me}
            moving += set(stream.record().members) != set(wanted)
            homes = stream.record().new
            whole = len(complete & set(homes)) >= len(wanted)
            if not whole or clustering.hosted.missing(stream.partition):
                lacking.append(stream.partition)
        return StateIs(
            nonce,
            b"".join(led),
            b"".join(lacking),
            clustering.debts.count,
            broker.surroundings.set_aside,
            not broker.counters.lost,
            moving,
        )

    def _sum(self, asking: _Asking) -> Fields:
        clustering = self._clustering
        states = asking.states
        led = {p for s in states for p in _cut(s.led)}
        lacking = {p for s in states for p in _cut(s.under_replicated)}
        leaderless = partitions = 0
        moving = sum(s.moving for s in states)
        for id_, members in self._partitions():
            partitions += 1
            if id_ in led:
                continue
            alive = [n for n in members if clustering.reachable(n)]
            leaderless += 2 * len(alive) <= len(members)
            wanted = clustering.wanted(id_)
            moving += set(members) != set(wanted)
            if len(alive) < len(wanted):
                lacking.add(id_)
        nodes = clustering.rosters.current.nodes
        alive = [n for n in nodes if clustering.reachable(n)]
        figures = {
            "partitions": partitions,
            "leaderless": leaderless,
            "under_replicated": len(lacking),
            "hints": sum(s.hints for s in states),
            "set_aside": sum(s.set_aside for s in states),
        }
        well = all(s.healthy for s in states) and len(states) == len(nodes) == len(alive)
        return {
            "members": len(nodes),
            "alive": len(alive),
            **figures,
            "moving": moving,
            "healthy": well and not any(v for k, v in figures.items() if k != "partitions"),
        }

    def _partitions(self) -> list[tuple[PartitionId, tuple[NodeId, ...]]]:
        clustering = self._clustering
        found = []
        for queue in self._broker.registry.every():
            definition = queue.definition
            for index in range(definition.settings.partitions):
                id_ = partition_id(definition.id, index)
                first = clustering.first_homes(definition, index)
                found.append((id_, clustering.cluster.homes(id_, first).members))
        return found

    def homes_here(self) -> int:
        """Return of how many partitions this node is a home, the list of members among them."""
        clustering, me = self._clustering, self._clustering.me
        roster = clustering.cluster.homes(ROSTER, clustering.rosters.first).members
        return sum(me in members for _, members in self._partitions()) + (me in roster)

    def members(self) -> list[Fields]:
        """Return the members as this node sees them."""
        clustering, around = self._clustering, self._broker.surroundings
        releases = around.releases()
        found = []
        for member in clustering.rosters.current.members:
            release = VERSION if member.node == clustering.me else releases.get(member.node, "")
            found.append(
                {
                    "name": member.name,
                    "node_id": member.node.hex(),
                    "address": member.address,
                    "state": self._state(member.node),
                    "zone": member.zone,
                    "version": release,
                    "weight": member.weight,
                }
            )
        return found

    def _state(self, node: NodeId) -> str:
        """Return how a member is to be shown: alive while linked, dead if gossip does not know better."""
        if self._clustering.reachable(node):
            return "alive"  # It was heard a moment ago; only others, or UDP, may have missed it.
        told = self._broker.surroundings.gossip(node)
        return "dead" if told in (None, "dead") else "suspect"

    def name_of(self, node: NodeId) -> str:
        """Return how a node is called, its id if it is no member."""
        member = self._clustering.rosters.current.find(node)
        return node.hex() if member is None else member.name


def _cut(ids: bytes) -> list[PartitionId]:
    """Cut a row of partition ids."""
    return [PartitionId(ids[at : at + PARTITION_ID_SIZE]) for at in range(0, len(ids), PARTITION_ID_SIZE)]
