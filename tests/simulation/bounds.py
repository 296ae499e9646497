"""P8: what may be in memory, and how much of it, at rest and at work.

At rest, with all settled and all clients gone, every container is empty but those of `KEPT`, which says of
each how much may stay, and for what.  One that somebody adds is empty at rest, or gets a line here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dmqnode.dedup import MAX_NAMES, MAX_TOLD, MAX_UNSETTLED
from dmqnode.duetimes import MAX_CACHED
from dmqnode.polls import MOST_ASIDE
from dmqnode.renewals import ROUNDS
from dmqnode.roster import MAX_DESTROYED
from dmqnode.unmended import MOST as MISSED
from tests.simulation.memory import Walk

NODE, MEMBER, QUEUE, PARTITION, COPY = "node", "member", "queue", "partition", "copy"
PRODUCER, RECENT, HEAP = "producer", "recent", "heap"


class Around(NamedTuple):
    """What a node has to do with."""

    members: int
    """Nodes that are or were members."""
    queues: int
    """That are there, or were, and whose deletion is kept; or may be there twice under one name."""
    partitions: int
    """Of all these queues."""
    busy: int = 0
    """Messages that are not settled, and clients that are connected."""

    def units(self, walk: Walk) -> dict[str, int]:
        """Return how often there is what limits are for."""
        producers = walk.instances["Producer"]
        return {
            NODE: 1,
            MEMBER: self.members,
            QUEUE: self.queues,
            PARTITION: self.partitions + 1,  # and the list of members
            COPY: (self.partitions + 1) * self.members,
            PRODUCER: producers,
            RECENT: producers + walk.entries["Dedup._names"] + self.partitions,
            HEAP: walk.instances["Deadlines"],
        }


class Limit(NamedTuple):
    """So many entries for each of these."""

    most: float
    per: str


def _each(per: str, names: str, most: float = 1) -> dict[str, Limit]:
    return {name: Limit(most, per) for name in names.split()}


KEPT: dict[str, Limit] = {
    # --- of members and links
    **_each(MEMBER, "Broker.sessions FrontEnd._peers FrontEnd._peer_sessions Clustering.linked"),
    **_each(MEMBER, "Renewals._listed Renewals._confirmed Walls._clocks Walls._asked Catalog.refused"),
    **_each(MEMBER, "Grants._held_by Hearing.absent Acquaintances.met Candidates._parting Node._sessions"),
    **_each(MEMBER, "Members._entries Members._list Peers._known Meeting._known Meeting._answers"),
    **_each(MEMBER, "Doors.sessions Meeting._own Gossiping._elsewhere Exchange._told Rebuffs._said"),
    **_each(MEMBER, "Members._round Meeting._round Prober._probes Prober._relays _Probe.nacks", 3),
    **_each(MEMBER, "Renewals._rounds", ROUNDS + 1),
    # --- of queues and partitions
    **_each(QUEUE, "Catalog._known Catalog.deletions Registry._by_id"),
    **_each(QUEUE, "Merging._since Growth._under_way"),
    **_each(QUEUE, "Catalog._named", 2),
    **_each(QUEUE, "Registry._doubles", 3),
    **_each(PARTITION, "Registry.by_partition Queue.partitions Queue.readers Hosted.shards Hosted._serving"),
    **_each(PARTITION, "Cluster.leaders Grants._promises Copies.by_partition Leases._held Leases.seen"),
    **_each(PARTITION, "Comparing._due Comparing._done Comparing._running Comparing._streams Missing._led"),
    **_each(
        PARTITION,
        "Strays._looked Strays._offered Strays._unsure Rosters._placed Renewals._moments Orphans._inquiries",
    ),
    **_each(
        PARTITION,
        "Orphans._missed Missing._seen Missing._blocking Leases._effects Debts._offered Cluster.outnumbered",
    ),
    **_each(PARTITION, "Registry.queues Hosted._unanswered Appends._current", 3),
    **_each(PARTITION, "Clustering._later", 4),
    **_each(
        COPY, "Stream.followers Missing._claims Lease.agreed Lease.barred Lease.untold Comparison.others"
    ),
    **_each(COPY, "PairSet._pairs", 2),
    **_each(COPY, "_Inquiry.missing"),
    **_each(COPY, "Looking._reached", 8),
    **_each(COPY, "Copy.gaps _Seen.gaps _Claim.gaps Log.gaps Follower.gaps Stream.missing", 8),
    # --- of logs: one more with each start of a node and each change of leaders
    **_each(PARTITION, "Appends._logs State.ends DeadSet.ranges", 32),
    **_each(NODE, "Partition.closed", math.inf),  # C4
    # --- of producers, for some minutes (C5)
    **_each(PRODUCER, "Producer.runs", 8),
    **_each(PRODUCER, "Producer.told", MAX_TOLD),
    **_each(PRODUCER, "Producer.kept Producer.inherited", MAX_UNSETTLED),
    **_each(PARTITION, "Dedup._names", MAX_NAMES),
    **_each(RECENT, "Dedup._producers Dedup._keys", 4),
    # --- room that is used again
    **_each(PARTITION, "DueTimes._near", MAX_CACHED + 1024),
    **_each(PARTITION, "Holds._free", 64),
    **_each(HEAP, "Deadlines._heap", 64 + 16),
    **_each(NODE, "Deadlines._current Deadlines._keys Agenda._heap", 16),
    # --- a round that is under way, be all else at rest
    **_each(MEMBER, "_Round.sure _Round.members"),
    **_each(QUEUE, "_Round.ids"),
    **_each(PARTITION, "Space._spans Space._left Space._under_way", 3),
    # --- until it is looked at again
    **_each(COPY, "Pacing._under_way"),
    **_each(PARTITION, "Leases._not_before Fetching._asked"),
    # --- of the process
    **_each(NODE, "StruckOff._until", MAX_DESTROYED),
    **_each(NODE, "Doors._listeners Doors._accepting", 4),
    **_each(NODE, "Polls._aside", MOST_ASIDE),
    **_each(NODE, "Unmended._missed Unmended._mended", MISSED),
}
AT_WORK, SOME = 12, 256
"""Entries of one container for each message and client at most while there is work, and besides."""


def excess(root: object, around: Around, *, rest: bool) -> list[str]:
    """Return of what a node holds more than it may.

    Arguments:
        root: the broker or node.
        rest: whether all is settled and all clients are gone.
    """
    walk = Walk().look(root)
    units, wrong = around.units(walk), []
    for name, entries in walk.entries.items():
        limit = KEPT.get(name)
        most = 0.0 if limit is None else limit.most * units[limit.per]
        if name.endswith(" tasks"):
            most = 8 + 4 * units[MEMBER]
        if not rest:
            most += SOME + AT_WORK * (around.busy + units[COPY])
        if entries > most:
            wrong.append(f"{name} holds {entries}, at most {most:.0f}")
    return wrong
