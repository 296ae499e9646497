"""Nodes that hold leases of one another: the real cores, and no time but what a test lets pass."""

from __future__ import annotations

import random

from dmqnode.grants import GRANTS, LEASE, Grants
from dmqnode.homesets import HomeSet
from dmqnode.ids import NodeId, PartitionId
from dmqnode.lease_effects import Acquired, Effect, Persist, ToPeer
from dmqnode.leases import Leases
from dmqnode.messages import Message

A, B, C, D = (NodeId(bytes([n]) * 8) for n in range(1, 5))
P, Q = (PartitionId(bytes([n]) * 10) for n in (1, 2))
ABC = HomeSet.first((A, B, C))


class Nodes:
    """Nodes without a network between them: a message is there at once, unless its receiver is away."""

    def __init__(self) -> None:
        self.now = 100.0
        self.grants = {n: Grants(n, -1.0, lambda *_: True) for n in (A, B, C, D)}
        self.leases = {n: self.start(n) for n in (A, B, C, D)}
        self.away: set[NodeId] = set()
        self.lost: set[tuple[NodeId, type[Message]]] = set()
        """Messages of which kinds do not get to whom."""
        self.disks: dict[NodeId, dict[bytes, bytes]] = {n: {} for n in (A, B, C, D)}
        self.seen: list[Effect] = []
        self.sent: list[tuple[NodeId, NodeId, Message]] = []

    def start(self, node: NodeId) -> Leases:
        return Leases(node, self.grants[node], random.Random(node[0]), lambda _: 0)

    def restart(self, node: NodeId) -> None:
        """Forget all but the promises on disk."""
        self.grants[node] = Grants(node, self.now + LEASE, lambda *_: True)
        for key, record in self.disks[node].items():
            self.grants[node].load(PartitionId(key[len(GRANTS) :]), record)
        self.leases[node] = self.start(node)

    def want(self, node: NodeId, record: HomeSet = ABC, partition: PartitionId = P) -> None:
        self.leases[node].want(self.now, partition, record)
        self.settle()

    def settle(self) -> None:
        for _ in range(1000):
            effects = [(n, e) for n in self.leases for e in self.leases[n].take_effects()]
            if not effects:
                return
            for node, effect in effects:
                self._do(node, effect)
        raise AssertionError("the nodes talk without end")

    def _do(self, node: NodeId, effect: Effect) -> None:
        self.seen.append(effect)
        match effect:
            case ToPeer():
                self._send(node, effect)
            case Persist():
                self.disks[node].update((key, record) for key, record in effect.ops if record is not None)
                for message in effect.then:
                    self._send(node, message)
            case Acquired():
                self.leases[node].merged(self.now, effect.partition, effect.number)
            case _:
                pass

    def _send(self, node: NodeId, to: ToPeer) -> None:
        self.sent.append((node, to.node, to.message))
        if (to.node, type(to.message)) in self.lost:
            return
        if node not in self.away and (to.node not in self.away or to.node == node):
            assert self.leases[to.node].receive(self.now, self.now, node, to.message)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            for leases in self.leases.values():
                if self.now >= leases.next_deadline():
                    leases.tick(self.now)
            self.settle()

    def leads(self, node: NodeId, partition: PartitionId = P) -> bool:
        lease = self.leases[node].held(self.now, partition)
        return lease is not None and self.leases[node].leads(self.now, partition, lease.number)
