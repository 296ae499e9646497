"""Which nodes should hold a partition: weighted rendezvous hashing over the roster, spread over zones.

Every node computes the same answer from the same list of members, with no coordination.  A node's score
for a partition is -weight / ln(u), where u in (0, 1) is a hash of the two ids: the highest scores win, a
node wins in proportion to its weight, and a member that comes or goes moves only what it wins or had
(Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996; the weights after Schindelhauer
and Schomaker, "Weighted Distributed Hash Tables", 2005, section 3, logarithmic method).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from dmqnode.ids import NodeId, PartitionId

_DENOMINATOR = 2.0**64 + 1


class Place(NamedTuple):
    """What placement needs to know of a member."""

    node: NodeId
    zone: str = ""
    weight: float = 1.0
    """Share of the partitions, relative to the others; 0 takes none."""


def score(partition: PartitionId, place: Place) -> float:
    """Return how much `place` wants `partition`; the highest wins."""
    digest = blake2b(place.node, digest_size=8, key=partition).digest()
    uniform = (int.from_bytes(digest, "big") + 1) / _DENOMINATOR
    # u < 1, but ln may round to 0 for the very highest: then nobody wants it more.
    return place.weight / max(-math.log(uniform), 1e-300)


def rank(partition: PartitionId, places: Iterable[Place]) -> list[NodeId]:
    """Return the nodes of a weight above 0, the one that wants `partition` most first; zones do not count."""
    scored = [(-score(partition, p), p.node) for p in places if p.weight > 0]
    return [node for _, node in sorted(scored)]


def homes(partition: PartitionId, places: Iterable[Place], replicas: int) -> tuple[NodeId, ...]:
    """Return the nodes that should hold `partition`, the preferred leader first.

    Arguments:
        places: the members of the roster.
        replicas: R, how many copies are wanted; fewer are returned if there are fewer members.

    No two copies are in one zone while a zone without one is left.
    """
    known = list(places)
    zones = {p.node: p.zone for p in known}
    waiting = rank(partition, known)
    chosen: list[NodeId] = []
    used: dict[str, int] = {}
    while waiting and len(chosen) < replicas:
        fewest = min(used.get(zones[n], 0) for n in waiting)
        node = next(n for n in waiting if used.get(zones[n], 0) == fewest)
        waiting.remove(node)
        chosen.append(node)
        used[zones[node]] = fewest + 1
    return tuple(chosen)
