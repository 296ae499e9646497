"""Asking who leads: for copies that no home needs, and where what is believed of a leader may be wrong.

    a copy here, which placement does not want ──WhoLeads──> its homes ──Dropped──> deleted (C1)
                                                                ├─ nobody leads: the first of them claims
                                                                └─ they were formed anew: it becomes a home,
                                                                   and shows what it has, until they change
    not in order, though somebody is believed to lead ──WhoLeads──> it ──LedBy: nobody──> claimed

A leader tells former homes that they are none any more, but a link may be down then, the next change may be
made before it is up again, and a copy that was begun for a home that then was not wanted is no former home's.
So who holds a copy asks by itself, until it is told.

Homes formed anew by a decision (M4) have what was left: not all, perhaps, and a copy elsewhere may be the
only one that has the rest.  So its holder becomes a home, as any other, until they change again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.grants import NOBODY
from dmqnode.homesets import MAX_HOMES, HomeSet, read_home_set
from dmqnode.ids import NodeId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.messages import Message
from dmqnode.peer_messages import Committed, Dropped, LedBy, WhoLeads
from dmqnode.reads import Procedure, Rows, Scan
from dmqnode.roster import ROSTER

if TYPE_CHECKING:
    from dmqnode.clustering import Clustering

ASK_AT_ONCE = 50
"""Partitions asked about, and looked for on disk, in one step."""
MOST_LOOKED = 100_000
"""Partitions remembered as looked for, deleted ones among them; beyond it all are looked for anew."""

OFFERED = 30.0
"""Seconds for which a copy counts as offered; who has one asks again before."""


class Strays:
    """What this node asks others about who leads, and answers them.

    Arguments:
        unled: called with a partition that nobody is found to lead.
    """

    def __init__(self, clustering: Clustering, unled: Callable[[Now, PartitionId], None]) -> None:
        self._clustering = clustering
        self._unled = unled
        self._looked: dict[PartitionId, None] = {}
        """Partitions of which it was seen, since the start, whether something is on disk."""
        self._unsure: dict[PartitionId, None] | None = None
        """Partitions of which something may be on disk since before the start; None: not known so far."""
        self._offered: dict[PartitionId, dict[NodeId, float]] = {}
        """Who has a copy that homes formed anew may not know, and until when to believe it."""
        self._left = 0

    def begin(self, now: Now) -> None:
        """A step begins: so many questions may be asked in it."""
        self._left = ASK_AT_ONCE
        if self._unsure is None:
            self._unsure = dict.fromkeys(partition for partition, _ in self._clustering.cluster.grants)
        for partition, offers in list(self._offered.items()):
            for node in [n for n, end in offers.items() if end <= now.run]:
                del offers[node]
            if not offers:
                del self._offered[partition]

    # --- asking --------------------------------------------------------------------------------------

    def holds(self, now: Now, partition: PartitionId) -> bool:
        """Tell whether something of a partition is here, as far as that is known by now."""
        if self._clustering.cluster.copies.find(partition) is not None:
            return True
        if partition not in self._looked and self._left > 0:
            self._left -= 1
            if len(self._looked) >= MOST_LOOKED:
                self._looked.clear()
            self._looked[partition] = None
            self._look_on_disk(now, partition)
        return False

    def may_hold(self, now: Now, partition: PartitionId) -> bool:
        """Tell whether something of a partition is here, or was before the start and was not looked for."""
        if self._unsure is None or partition in self._unsure:
            self.holds(now, partition)
            return True
        return self._clustering.cluster.copies.find(partition) is not None

    def _look_on_disk(self, now: Now, partition: PartitionId) -> None:
        def seen(now: Now, page: Rows) -> None:
            if self._unsure is not None:
                self._unsure.pop(partition, None)
            if page.rows or page.damaged:
                self._clustering.cluster.copies.copy_of(partition)

        prefix = PartitionKeys.of(partition).prefix
        self._clustering.read(now, _page(Scan(prefix, prefix + b"\xff", 1)), seen)

    def ask(self, partition: PartitionId, record: HomeSet, nodes: Iterable[NodeId]) -> None:
        """Ask nodes who leads a partition."""
        if self._left <= 0:
            return
        self._left -= 1
        for node in dict.fromkeys(nodes):
            if node != self._clustering.me:
                self._clustering.send(node, WhoLeads(partition, record.fields()))

    # --- answering -----------------------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a question or an answer; tell whether it was one.  Errors: ProtocolError."""
        match message:
            case WhoLeads():
                self._answer(now, sender, message)
            case LedBy():
                self._believe(now, sender, message)
            case _:
                return False
        return True

    def _answer(self, now: Now, sender: NodeId, question: WhoLeads) -> None:
        clustering, partition = self._clustering, question.partition
        cluster = clustering.cluster
        leads = cluster.leads(partition)
        holder = clustering.me if leads else cluster.holder(partition) or NOBODY
        clustering.send(sender, LedBy(partition, holder))
        known = read_home_set(question.record)
        record = cluster.homes(partition, known)
        if record.committed and sender not in record.new:
            if record.newer_than(known):
                # It grants nothing by this, for it is no home: lease 0 is nobody's.
                clustering.send(sender, Committed(partition, 0, record.fields()))
            if leads and sender not in clustering.wanted(partition):
                self._give_back(now, partition, record, sender)
        if holder == NOBODY:
            self._unled(now, partition)

    def _give_back(self, now: Now, partition: PartitionId, record: HomeSet, holder: NodeId) -> None:
        """Tell who holds a copy that it is not needed, unless it is, or may be if these homes crash now."""
        cluster = self._clustering.cluster
        # Of the list of members every node has the latest that it heard of, whatever its homes have.
        if record.formed_anew and partition != ROSTER:
            offers = self._offered.setdefault(partition, {})
            if holder in offers or len(offers) < MAX_HOMES:
                offers[holder] = now.run + OFFERED
        elif cluster.leases.known(partition) and cluster.streams.whole(partition, {}):
            number = cluster.streams.number(partition)
            self._clustering.send(holder, Dropped(partition, number.n))

    def wanted(self, partition: PartitionId) -> tuple[NodeId, ...]:
        """Return where a partition led here should be: where placement wants it; of homes formed anew also
        where a copy is offered, and there is room for one at least; empty: as it is."""
        clustering = self._clustering
        wanted = clustering.wanted(partition)
        promise = clustering.cluster.grants.find(partition)
        if partition not in self._offered or promise is None or not promise.record.formed_anew:
            return wanted
        wanted = wanted or promise.record.new
        offered = [n for n in self._offered[partition] if n not in wanted and clustering.reachable(n)]
        offered = offered[: max(1, MAX_HOMES - len(wanted))]
        return (*wanted[: MAX_HOMES - len(offered)], *offered)

    def _believe(self, now: Now, sender: NodeId, led: LedBy) -> None:
        """Somebody says who leads: of itself it knows."""
        clustering, partition = self._clustering, led.partition
        leaders, holder = clustering.cluster.leaders, NodeId(led.holder)
        if leaders.get(partition) != sender or holder == sender:
            return
        del leaders[partition]
        if holder in (NOBODY, clustering.me):
            self._unled(now, partition)
        else:
            leaders[partition] = holder


def _page(scan: Scan) -> Procedure[Rows]:
    return (yield scan)
