"""What two nodes know of the leases that one holds from the other, kept so that renewing costs little.

A renewal names no leases: it carries a hash of their list.  The hash is the sum of the hashes of the pairs,
so that both sides keep it up with each lease that comes or goes, and 10,000 idle leases cost one addition.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from hashlib import blake2b

from dmqnode.homesets import majority
from dmqnode.ids import NodeId, PartitionId
from dmqnode.lease_effects import ToPeer
from dmqnode.peer_messages import Renew, Renewed

ROUNDS = 16
"""Renewals whose answers are still waited for, per peer."""
_DIGEST_SIZE = 16


class PairSet:
    """The leases, as pairs of partition and number, that one node holds from another."""

    __slots__ = ("_pairs", "_sum")

    def __init__(self) -> None:
        self._pairs: dict[PartitionId, int] = {}
        self._sum = 0

    def put(self, partition: PartitionId, n: int) -> None:
        """Add a lease, in the place of an earlier one of the same partition."""
        self.drop(partition)
        self._pairs[partition] = n
        self._sum += _hash(partition, n)

    def drop(self, partition: PartitionId) -> None:
        """Remove a partition's lease; nothing happens if there is none."""
        n = self._pairs.pop(partition, None)
        if n is not None:
            self._sum -= _hash(partition, n)

    def pairs(self) -> list[tuple[PartitionId, int]]:
        """Return all pairs."""
        return list(self._pairs.items())

    @property
    def digest(self) -> bytes:
        """The hash of the pairs, whatever their order."""
        return (self._sum % (1 << 8 * _DIGEST_SIZE)).to_bytes(_DIGEST_SIZE, "big")

    def __iter__(self) -> Iterator[PartitionId]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)


def _hash(partition: PartitionId, n: int) -> int:
    digest = blake2b(n.to_bytes(8, "big"), digest_size=_DIGEST_SIZE, key=partition).digest()
    return int.from_bytes(digest, "big")


class Renewals:
    """The holder's side: which leases to renew with whom, and what was confirmed.

    Arguments:
        rng: for nonces.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._listed: dict[NodeId, PairSet] = {}
        self._rounds: dict[NodeId, dict[int, float]] = {}
        self._confirmed: dict[NodeId, float] = {}
        """Per node the latest renewal that it answered, by when it left."""
        self._moments: dict[tuple[NodeId, ...], float] = {}

    def add(self, node: NodeId, partition: PartitionId, n: int) -> None:
        """Renew a lease with `node` from now on."""
        self._listed.setdefault(node, PairSet()).put(partition, n)

    def remove(self, node: NodeId, partition: PartitionId) -> None:
        """Renew a lease with `node` no longer."""
        listed = self._listed.get(node)
        if listed is not None:
            listed.drop(partition)
            if not listed:
                del self._listed[node]
                self._rounds.pop(node, None)

    def due(self, fast: float) -> list[ToPeer]:
        """Return one renewal for each node of which anything is held."""
        return [self._with(fast, node, listed, named=False) for node, listed in self._listed.items()]

    def named(self, fast: float, node: NodeId) -> list[ToPeer]:
        """Return the renewal that names all leases, for a node that did not know their hash."""
        listed = self._listed.get(node)
        return [] if listed is None else [self._with(fast, node, listed, named=True)]

    def _with(self, fast: float, node: NodeId, listed: PairSet, *, named: bool) -> ToPeer:
        nonce = self._rng.getrandbits(48)
        rounds = self._rounds.setdefault(node, {})
        rounds[nonce] = fast
        while len(rounds) > ROUNDS:
            del rounds[next(iter(rounds))]
        return ToPeer(node, Renew(nonce, listed.digest, listed.pairs() if named else []))

    def left_at(self, sender: NodeId, renewed: Renewed) -> float | None:
        """Return, once, when the renewal left that is answered here; None for one that is not waited for."""
        return self._rounds.get(sender, {}).pop(renewed.nonce, None)

    def confirm(self, node: NodeId, left_at: float) -> None:
        """Take note that `node` renewed what was listed when the renewal left."""
        if left_at > self._confirmed.get(node, -math.inf):
            self._confirmed[node] = left_at
            self._moments.clear()

    def moment(self, homes: tuple[NodeId, ...], barred: dict[NodeId, float]) -> float:
        """Return the latest moment for which a majority of `homes` has confirmed.

        Arguments:
            barred: per node up to when its confirmations do not count.
        """
        if barred:
            return self._majority_moment(homes, barred)
        known = self._moments.get(homes)
        if known is None:
            known = self._moments[homes] = self._majority_moment(homes, barred)
        return known

    def _majority_moment(self, homes: tuple[NodeId, ...], barred: dict[NodeId, float]) -> float:
        times = []
        for node in homes:
            moment = self._confirmed.get(node, -math.inf)
            times.append(moment if moment > barred.get(node, -math.inf) else -math.inf)
        times.sort()
        return times[-majority(homes)]
