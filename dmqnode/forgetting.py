"""Deletions of queues that nobody needs to remember any more, because every member has done them.

    the first of the members, which has more than `KEPT` deletions, and links to all others
        ──MayForget(ids)──> each, itself included: has done all of these, and nothing of the queues is left
                            <──Forgettable── once that is on its disk
    all have said so, and `SETTLED` seconds have passed in which no link broke
        ──Forgotten(ids)──> each, itself included: the records go, and what was promised of their partitions

A deletion is remembered so that nobody who comes back brings the queue back (T3).  Once all members have it
on disk no disk has the definition; the time that passes then is for definitions that are still on their way
between two others.  Who is away holds everything up until it is back or is a member no more, and begins anew
if it comes after that (I2, M2); who misses the last message goes on remembering, and tells the others again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.greetings import Forgettable, Forgotten, MayForget
from dmqnode.ids import NodeId, QueueId
from dmqnode.messages import Message
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

KEPT = 1000
"""Deletions that are kept in any case."""
AGE = 600.0
"""Seconds for which a deletion is kept in any case."""
AT_ONCE = 4096
"""Deletions that are forgotten together."""
SETTLED = 60.0
"""Seconds for which all links must last behind the last answer: nothing is under way as long as that."""
PATIENCE = 120.0
"""Seconds for which to wait for the answers."""
AGAIN = 60.0
"""Seconds from the end of one round to the next."""
STALE = 10.0
"""Seconds after which it is begun anew to count for how long a queue has been unknown."""
UNKNOWN = 120.0
"""Seconds for which all members are there and none knows a queue, until what is owed of it is dropped."""


class _Round:
    __slots__ = ("agreed_at", "began", "ids", "members", "nonce", "sure")

    def __init__(self, nonce: int, began: float, members: frozenset[NodeId], ids: list[QueueId]) -> None:
        self.nonce = nonce
        self.began = began
        self.members = members
        """The others."""
        self.ids = ids
        self.sure: dict[NodeId, None] = {}
        self.agreed_at = math.inf


class Forgetting:
    """One node's part in it."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._nonce = broker.identity.first_question
        self._round: _Round | None = None
        self._next = -math.inf

    # --- deciding ------------------------------------------------------------------------------------

    def step(self, now: Now) -> None:
        """Begin a round, end one, or give it up."""
        if self._round is not None:
            self._go_on(now, self._round)
        elif now.run >= self._next:
            self._begin(now)

    def _begin(self, now: Now) -> None:
        clustering, deletions = self._clustering, self._clustering.catalog.deletions
        if len(deletions) <= KEPT:
            return
        self._next = now.run + AGAIN
        members = _others(self._clustering)
        if any(node < clustering.me for node in members) or members != clustering.linked.keys():
            return
        if clustering.walls.silent:
            return  # which deletions are old is not known
        spare = len(deletions) - KEPT
        old = [id_ for id_, at in deletions.items() if at <= now.wall - AGE * 1000]
        if not old:
            return
        self._nonce += 1
        self._round = _Round(self._nonce, now.run, members, old[: min(spare, AT_ONCE)])
        for node in (clustering.me, *members):
            clustering.send(node, MayForget(self._nonce, list(self._round.ids)))

    def _go_on(self, now: Now, round_: _Round) -> None:
        clustering = self._clustering
        members = _others(self._clustering)
        lasting = {node for node, since in clustering.linked.items() if since <= round_.began}
        broken = members != round_.members or members != lasting or members != clustering.linked.keys()
        if broken or (round_.agreed_at == math.inf and now.run - round_.began >= PATIENCE):
            self._end(now)
        elif now.run - round_.agreed_at >= SETTLED:
            self._end(now)
            for node in (clustering.me, *members):
                clustering.send(node, Forgotten(list(round_.ids)))

    def _end(self, now: Now) -> None:
        self._round = None
        self._next = now.run + AGAIN

    def _is_sure(self, now: Now, sender: NodeId, nonce: int) -> None:
        found = self._round
        if found is None or found.nonce != nonce:
            return
        found.sure[sender] = None
        if found.sure.keys() >= {self._clustering.me, *found.members}:
            found.agreed_at = min(found.agreed_at, now.run)

    # --- answering -----------------------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a message of another node, or of this one; tell whether it was one of these."""
        match message:
            case MayForget():
                self._answer(sender, message)
            case Forgettable():
                self._is_sure(now, sender, message.nonce)
            case Forgotten():
                catalog = self._clustering.catalog
                ids = [id_ for id_ in _known(message.ids) if catalog.deleted(id_)]
                catalog.forget(ids, self._broker.registry.damaged)
                self._clear(set(ids))
            case _:
                return False
        return True

    def _clear(self, queues: set[QueueId]) -> None:
        """Nobody claims a partition of these queues any more: what was promised of them need not be kept."""
        cluster, ops = self._clustering.cluster, WriteBatch()
        known = (cluster.copies.by_partition, cluster.leaders, cluster.leases.seen)
        for partition in [p for p, _ in cluster.grants if QueueId(p[:8]) in queues]:
            ops.extend(cluster.grants.forget(partition))
        for table in known:
            for partition in [p for p in table if QueueId(p[:8]) in queues]:
                del table[partition]
        if len(ops):
            self._broker.write_meta(ops, lambda now: None)

    def _answer(self, sender: NodeId, asked: MayForget) -> None:
        """Say so, once it is on disk, if all these queues are deleted here and nothing of them is left.

        Who does not know one of them asks for it, and says nothing: it will be asked again.
        """
        clustering = self._clustering
        ids = _known(asked.ids)
        if lacking := [id_ for id_ in ids if not clustering.catalog.deleted(id_)]:
            clustering.catalog.want(sender, lacking)
            return
        owed = {QueueId(partition[:8]) for partition in clustering.debts.by_partition()}
        if any(id_ in owed or id_ in self._broker.registry.reclaiming for id_ in ids):
            return
        nonce = asked.nonce
        clustering.catalog.confirm(ids[:1], lambda now: clustering.send(sender, Forgettable(nonce)))


class Bygone:
    """Queues of which something is left, and that are not known here: whether they were deleted once.

    Nobody may remember that any more; but whoever knew one of them would have said so, if all members have
    been there and linked for a while.
    """

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._unknown: dict[QueueId, tuple[float, float]] = {}
        """When each was asked about last, and for how long before that everybody had been there."""
        self._looked_at = -math.inf

    def is_over(self, now: Now, queue: QueueId) -> bool:
        """Tell whether what is left of a queue that is not known here may go; to be asked again and again."""
        clustering = self._clustering
        if clustering.catalog.deleted(queue):
            self._unknown.pop(queue, None)
            return True
        if now.run != self._looked_at:
            # Each partition of a queue asks; who has not asked for a while has nothing left.
            self._looked_at = now.run
            self._unknown = {q: asked for q, asked in self._unknown.items() if now.run - asked[0] < STALE}
        at, passed = self._unknown.get(queue, (now.run, 0.0))
        links = [clustering.linked.get(node, math.inf) for node in _others(self._clustering)]
        # A definition may be there, but damaged, or refused for the time at which it was made.
        refused = any(now.run - at < UNKNOWN for at in clustering.catalog.refused.values())
        unsure = refused or queue in self._broker.registry.damaged or clustering.walls.silent
        if unsure or any(since > at for since in links):
            passed = 0.0
        else:
            passed += min(now.run - at, 1.0)  # of a time in which it stood still nobody said anything
        self._unknown[queue] = now.run, passed
        return passed >= UNKNOWN

    def is_known(self, queue: QueueId) -> None:
        """A queue is known after all."""
        self._unknown.pop(queue, None)


def _others(clustering: Clustering) -> frozenset[NodeId]:
    """Return the other members."""
    return frozenset(clustering.rosters.current.nodes) - {clustering.me}


def _known(ids: Iterable[bytes]) -> list[QueueId]:
    return [QueueId(id_) for id_ in ids]
