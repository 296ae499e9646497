"""How the whole cluster is: what every member says of itself, put together by the one that was asked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from dmqnode.clock import Now
from dmqnode.greetings import StateIs, WantState
from dmqnode.homesets import HomeSet
from dmqnode.ids import PARTITION_ID_SIZE, NodeId, PartitionId, QueueId, partition_id
from dmqnode.messages import Message
from dmqnode.roster import ROSTER
from dmqnode.standing import MAX_MOVES, move_of
from dmqnode.version import VERSION

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

PATIENCE = 1.0
"""Seconds that a member has to say how it is."""
MAX_ASKING = 1000
MAX_OWED = 1000
"""Partitions for which a node says how many debts it keeps."""
RATED = ("sent", "delivered", "acked", "requests", "synced_writes")
"""The counters that members tell one another."""
USED = ("memory_bytes", "store_bytes", "free_bytes", "connections")
"""What they use of their machines, as they tell one another."""
Fields = dict[str, Any]


class _Asking:
    def __init__(
        self, then: Callable[[Now, list[tuple[NodeId, StateIs]]], None], wanted: set[NodeId]
    ) -> None:
        self.then = then
        self.wanted = wanted
        self.states: list[tuple[NodeId, StateIs]] = []


class Overview:
    """Tells how the cluster is, as far as its members answer."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        clustering.rosters.struck_off.spared = self.spared
        self._asking: dict[int, _Asking] = {}
        self._nonce = broker.identity.first_question

    # --- asking --------------------------------------------------------------------------------------

    def ask(self, now: Now, then: Callable[[Now, Fields], None]) -> None:
        """Call `then` with the figures of the cluster, once the members that answer have said theirs."""
        self._ask(now, lambda now, states: then(now, self._sum(states)))

    def owed(self, now: Now, then: Callable[[Now, dict[PartitionId, int]], None]) -> None:
        """Call `then` with how many debts the members that answer keep for each partition."""

        def told(now: Now, states: list[tuple[NodeId, StateIs]]) -> None:
            then(now, _owed(states))

        self._ask(now, told)

    def _ask(self, now: Now, then: Callable[[Now, list[tuple[NodeId, StateIs]]], None]) -> None:
        self._nonce += 1
        nonce = self._nonce
        asking = _Asking(then, set(self._clustering.linked))
        asking.states.append((self._clustering.me, self._own(nonce)))
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
            asking.then(now, asking.states)

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these."""
        match message:
            case WantState():
                self._clustering.send(sender, self._own(message.nonce))
            case StateIs():
                asking = self._asking.get(message.nonce)
                if asking is not None and sender in asking.wanted:
                    asking.wanted.discard(sender)
                    asking.states.append((sender, message))
                    if not asking.wanted:
                        self._end(now, message.nonce)
            case _:
                return False
        return True

    # --- figures -------------------------------------------------------------------------------------

    def _own(self, nonce: int) -> StateIs:
        clustering, broker = self._clustering, self._broker
        led, lacking, moves = [], [], []
        for stream in clustering.cluster.streams:
            if not clustering.cluster.leads(stream.partition):
                continue
            # The list of members among them: until it has its copies, too, nobody may be lost.
            led.append(stream.partition)
            wanted = clustering.wanted(stream.partition)
            complete = {f.node for f in stream.followers.values() if stream.complete(f)} | {clustering.me}
            move = move_of(clustering, stream)
            if move is not None:
                moves.append(move)
            homes = stream.record().new
            whole = len(complete & set(homes)) >= len(wanted)
            if not whole or clustering.hosted.missing(stream.partition):
                lacking.append(stream.partition)
        return StateIs(
            nonce,
            b"".join(led),
            b"".join(lacking),
            clustering.debts.count,
            broker.surroundings.unmended,
            not broker.counters.lost,
            len(moves),
            moves[:MAX_MOVES],
            list(clustering.debts.by_partition().items())[:MAX_OWED],
            clustering.debts.handed_over,
            self._figures(sum(partition != ROSTER for partition in led)),
        )

    def _figures(self, led: int) -> Fields:
        broker = self._broker
        around = broker.surroundings
        used = (around.memory, around.store_bytes, around.free_disk, around.connections)
        counted = {name: getattr(broker.counters, name) for name in RATED}
        return {"leads": led, **dict(zip(USED, used)), **counted}

    def _sum(self, told: list[tuple[NodeId, StateIs]]) -> Fields:
        clustering = self._clustering
        states = [state for _, state in told]
        led = {p for s in states for p in _cut(s.led)}
        lacking = {p for s in states for p in _cut(s.under_replicated)}
        leaderless = partitions = 0
        moving = sum(s.moving for s in states)
        moves = [self._move(*move) for s in states for move in s.moves or ()]
        roster = clustering.cluster.homes(ROSTER, clustering.rosters.first).members
        # Who is no home of it does not know better than when it was told last.
        listed = [(ROSTER, roster)] if clustering.me in roster else []
        for id_, members in self._partitions() + listed:
            partitions += id_ != ROSTER
            if id_ in led:
                continue
            alive = [n for n in members if clustering.reachable(n)]
            leaderless += 2 * len(alive) <= len(members)
            wanted = clustering.wanted(id_)
            if set(members) != set(wanted):
                moving += 1
                moves.append(self._waiting_move(id_, members, wanted))
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
        wrong = any(figures[name] for name in ("leaderless", "under_replicated", "hints"))
        return {
            "members": len(nodes),
            "alive": len(alive),
            **figures,
            "moving": moving,
            "moves": moves[:MAX_MOVES],
            "hand_off": [self._hand_off(*owed) for owed in list(_owed(told).items())[:MAX_MOVES]],
            "handed_over": sum(s.handed_over for s in states),
            "nodes": [{"name": self.name_of(node), **(state.figures or {})} for node, state in told],
            "healthy": well and not wrong,
        }

    # --- for people ----------------------------------------------------------------------------------

    def _move(self, partition: PartitionId, old: list[bytes], new: list[bytes], done: int, of: int) -> Fields:
        """Describe what moves: messages that are there, of those that are to be."""
        names = [[self.name_of(NodeId(node)) for node in nodes] for nodes in (old, new)]
        return {**self._place(partition), "from": names[0], "to": names[1], "done": done, "of": of}

    def _waiting_move(
        self, partition: PartitionId, there: tuple[NodeId, ...], wanted: tuple[NodeId, ...]
    ) -> Fields:
        """Describe what is to move and that nobody leads: how much it is, its next leader will know."""
        away, to = [n for n in there if n not in wanted], [n for n in wanted if n not in there]
        names = [[self.name_of(node) for node in nodes] for nodes in (away, to)]
        return {**self._place(partition), "from": names[0], "to": names[1], "done": 0, "of": None}

    def _hand_off(self, partition: PartitionId, hints: int) -> Fields:
        return {**self._place(partition), "hints": hints}

    def _place(self, partition: PartitionId) -> Fields:
        """Name a partition; the list of members is the one of no queue."""
        definition = self._broker.registry.definition_of(QueueId(partition[:8]))
        index = int.from_bytes(partition[8:], "big")
        return {"queue": definition.name if definition is not None else None, "partition": index}

    def spared(self, away: Collection[NodeId]) -> bool:
        """Tell whether every partition has a majority of the homes that this node knows without these."""
        clustering = self._clustering
        records = [
            clustering.cluster.homes(ROSTER, clustering.rosters.first),
            *(r for _, r in self._records()),
        ]
        return all(r.has_majority([n for n in r.members if n not in away]) for r in records)

    def _partitions(self) -> list[tuple[PartitionId, tuple[NodeId, ...]]]:
        return [(id_, record.members) for id_, record in self._records()]

    def _records(self) -> list[tuple[PartitionId, HomeSet]]:
        clustering = self._clustering
        found = []
        for queue in self._broker.registry.every():
            definition = queue.definition
            for index in range(definition.settings.partitions):
                id_ = partition_id(definition.id, index)
                first = clustering.first_homes(definition, index)
                found.append((id_, clustering.cluster.homes(id_, first)))
        return found

    def homes_here(self, now: Now) -> int:
        """Return of how many partitions this node is a home, or holds a copy, the list of members among them.

        Until it is told that its copy is not needed, it may be the only one that knows of the new homes.
        """
        clustering, me = self._clustering, self._clustering.me
        roster = clustering.cluster.homes(ROSTER, clustering.rosters.first).members
        strays = clustering.mender.strays
        every = (*self._partitions(), (ROSTER, roster))
        return sum(me in members or strays.may_hold(now, id_) for id_, members in every)

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


def of_one(status: Fields) -> Fields:
    """Return how a cluster is of one node, of the report of which this is."""
    counted = ("partitions", "leaderless", "under_replicated", "hints", "healthy")
    node = {"name": status["name"], "leads": status["partitions"]}
    return {
        "members": 1,
        "alive": 1,
        "moving": 0,
        "moves": [],
        "hand_off": [],
        "handed_over": 0,
        "nodes": [{**node, **{name: status[name] for name in (*USED, *RATED)}}],
        **{name: status[name] for name in counted},
        "set_aside": status["unmended"],
    }


def _owed(states: list[tuple[NodeId, StateIs]]) -> dict[PartitionId, int]:
    """Return how many debts there are for each partition; each is kept by several nodes."""
    owed: dict[PartitionId, int] = {}
    for _, state in states:
        for partition, count in state.owed or ():
            owed[partition] = owed.get(partition, 0) + count
    return owed


def _cut(ids: bytes) -> list[PartitionId]:
    """Cut a row of partition ids."""
    return [PartitionId(ids[at : at + PARTITION_ID_SIZE]) for at in range(0, len(ids), PARTITION_ID_SIZE)]
