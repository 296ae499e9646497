"""How partitions stand, for people: who leads one, until when, who holds how much of it, and what moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmqnode.following import Follower, Stage, Stream
from dmqnode.ids import NodeId, PartitionId, QueueId
from dmqnode.partition import Partition
from dmqnode.queues import Definition

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

Fields = dict[str, Any]
Move = tuple[PartitionId, list[bytes], list[bytes], int, int]
"""A partition, who gives it up, who gets it, messages that are there, messages that are to be there."""
MAX_MOVES = 100
"""Moves that are told one by one."""


# --- one partition -----------------------------------------------------------------------------------------


def standing(broker: Broker, partition: Partition) -> Fields:
    """Return how a partition stands that this node leads."""
    clustering = broker.clustering
    ready, delayed, in_flight = partition.counts()
    name = broker.config.name
    fields: Fields = {
        "index": int.from_bytes(partition.id[8:], "big"),
        "leader": name,
        "homes": [name],
        "lease": None,
        "lease_seconds": None,
        "copies": [{"home": name, "state": "leads", "lacking": 0}],
        "logs": len(partition.logs),
        "missing": [],
        "hints": 0,
        "ready": ready,
        "delayed": delayed,
        "in_flight": in_flight,
        "bytes": partition.state.bytes if ready or delayed or in_flight else 0,
    }
    definition = broker.registry.definition_of(QueueId(partition.id[:8]))
    if clustering is None or definition is None:
        return fields
    fields["homes"] = _homes(clustering, definition, partition.id)
    fields["missing"] = clustering.hosted.absent.missing_of(partition.id)
    stream = next((s for s in clustering.cluster.streams if s.partition == partition.id), None)
    if stream is not None:
        fields["lease"] = stream.number.n
        fields["lease_seconds"] = round(clustering.cluster.lease_left(partition.id), 3)
        fields["copies"] = _copies(clustering, stream)
    return fields


def leaderless(clustering: Clustering, definition: Definition, partition: PartitionId) -> Fields:
    """Return how a partition stands that nobody leads, or whose leader does not answer."""
    first = clustering.first_homes(definition, int.from_bytes(partition[8:], "big"))
    members = clustering.cluster.homes(partition, first).members
    state = {True: "waits", False: "away"}
    name = clustering.overview.name_of
    return {
        "index": int.from_bytes(partition[8:], "big"),
        "leader": None,
        "homes": [name(node) for node in members],
        "lease": None,
        "lease_seconds": None,
        "copies": [
            {"home": name(node), "state": state[clustering.reachable(node)], "lacking": None}
            for node in members
        ],
        "logs": None,
        "missing": [],
        "hints": 0,
        "ready": None,
        "delayed": None,
        "in_flight": None,
        "bytes": None,
    }


def why_leaderless(partition: Fields) -> str:
    """Return a sentence about what `leaderless` returned."""
    away = [copy["home"] for copy in partition["copies"] if copy["state"] == "away"]
    homes = len(partition["homes"])
    if 2 * (homes - len(away)) > homes:
        return f"partition {partition['index']} has no leader at the moment; look again in a few seconds"
    return (
        f"partition {partition['index']} has no leader: {', '.join(away)} of its {homes} homes "
        f"do{'es' if len(away) == 1 else ''} not answer, and a majority is needed"
    )


def _homes(clustering: Clustering, definition: Definition, partition: PartitionId) -> list[str]:
    first = clustering.first_homes(definition, int.from_bytes(partition[8:], "big"))
    members = clustering.cluster.homes(partition, first).members
    return [clustering.overview.name_of(node) for node in members]


def _copies(clustering: Clustering, stream: Stream) -> list[Fields]:
    """Return what the leader knows of the copies: of homes, and of nodes that are to become homes."""
    nodes = dict.fromkeys((*stream.record().members, *stream.followers))
    return [{"home": clustering.overview.name_of(node), **_copy(clustering, stream, node)} for node in nodes]


def _copy(clustering: Clustering, stream: Stream, node: NodeId) -> Fields:
    if node == clustering.me:
        lacking = sum(ranges.size for ranges in clustering.hosted.missing(stream.partition).values())
        return {"state": "leads", "lacking": lacking}
    follower = stream.followers.get(node)
    if not clustering.reachable(node):
        return {"state": "away", "lacking": None}
    if follower is None or follower.stage is not Stage.FOLLOWING:
        return {"state": "behind", "lacking": None}
    return {"state": "follows", "lacking": lacks(follower)}


def lacks(follower: Follower) -> int:
    """Return how many messages a home that follows lacks; some of them may be dead already."""
    return sum(ranges.size for ranges in follower.gaps.values())


# --- what moves --------------------------------------------------------------------------------------------


def move_of(clustering: Clustering, stream: Stream) -> Move | None:
    """Return how far a partition led here is on its way to other homes, None if it is where it should be."""
    record, wanted = stream.record(), clustering.wanted(stream.partition)
    if set(record.members) == set(wanted):
        return None
    old = record.new if record.committed else record.old
    away = [bytes(node) for node in old if node not in wanted]
    to = [node for node in wanted if node not in old]
    shard = clustering.hosted.shards.get(stream.partition)
    living = sum(sum(p.counts()) for p in shard.partitions) if shard is not None else 0
    there = 0
    for node in to:
        follower = stream.followers.get(node)
        if follower is not None and follower.stage is Stage.FOLLOWING:
            there += max(0, living - lacks(follower))
    return stream.partition, away, [bytes(node) for node in to], there, living * len(to)
