"""P1 of whole nodes: what is on which disks, synced, when a node answers that it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmqnode.batch import parse
from dmqnode.ids import LogId, PartitionId, QueueId
from dmqnode.keys import DEBTS, PartitionKeys
from dmqnode.messages import Stored
from dmqnode.partition import Collected
from dmqnode.roster import quorum
from storage.records import CHECK_SIZE
from tests.simulation.damage import holds, numbers_in
from tests.simulation.disks import numbers_lasting

if TYPE_CHECKING:
    from dmqnode.node import Node
    from tests.simulation.nodes.box import Box
    from tests.simulation.nodes.world import World

LOSE_DISKS = ("wipe", "damage", "rot", "restore", "replace", "twin", "torn", "destroy", "relapse")
"""Faults after which a disk that had a message when that was confirmed may have it no more."""


def watch(box: Box, node: Node) -> None:
    """Look at all disks whenever a new life says that something is stored."""
    broker: Any = node.broker
    make_known = broker.make_known

    def made_known(now: Any, collected: Collected) -> None:
        for reply in collected.then:
            if isinstance(reply.message, Stored):
                _answered(box, node, collected, reply.message)
        make_known(now, collected)

    broker.make_known = made_known
    if node.broker.clustering is None:
        return
    debts: Any = node.broker.clustering.debts
    keep = debts.keep

    def kept(now: Any, partition: PartitionId, request: Any, then: Any) -> bool:
        def told(now: Any, answer: Any) -> None:
            if isinstance(answer, Stored):
                _kept(box, node, partition, answer, request.batch)
            then(now, answer)

        return bool(keep(now, partition, request, told))

    debts.keep = kept


def _answered(box: Box, node: Node, collected: Collected, stored: Stored) -> None:
    """A leader answers a send."""
    partition = collected.partition
    for name, first, count in stored.runs:
        log = partition.logs.get(LogId(name))
        if log is None or log.dead.ranges.overlap(first, first + count):
            continue
        on = _having(box.world, partition.id, LogId(name), first)
        if len(on) < min(_least(node, box.world), _homes(node, partition.id)):
            key = PartitionKeys.of(partition.id).batch(LogId(name), first)
            numbers = numbers_in(box.store._records.get(key, b"")[CHECK_SIZE:])
            _undurable(box, node, partition.id, on, numbers)


def _kept(box: Box, node: Node, partition: PartitionId, stored: Stored, batch: bytes) -> None:
    """A stand-in answers a send.

    Its copies may have been handed over meanwhile, and have died if the send was repeated: others count.
    """
    least = _least(node, box.world)
    for name, first, _ in stored.runs:
        on = _having(box.world, partition, LogId(name), first)
        if len(on) >= least:
            continue
        prefixes = [PartitionKeys.of(partition).batches()[0], DEBTS + partition]
        lasting = {b.name: numbers_lasting(b.store, prefixes) for b in box.world.boxes}
        bodies = [body for body in parse(batch).bodies() if body[:6].isdigit()]
        for number in (int(body[:6]) for body in bodies):
            on = [name for name, numbers in lasting.items() if number in numbers]
            if len(on) < least:
                _undurable(box, node, partition, on, [number])


def _least(node: Node, world: World) -> int:
    """Return how many disks must have what is stored: as many as the node believes."""
    clustering = node.broker.clustering
    if clustering is None:
        return 1
    return quorum(clustering.rosters.current, world.plan.replicas, world.plan.write_quorum)


def _homes(node: Node, partition: PartitionId) -> int:
    """Return how many homes a partition has; fewer than W' where members came since, until it has moved."""
    clustering = node.broker.clustering
    stream = None if clustering is None else clustering.cluster.streams.of(partition)
    return 1 if stream is None else max(len(homes) for homes in stream.record().sets)


def _having(world: World, partition: PartitionId, log: LogId, seq: int) -> list[str]:
    """Return on which machines a message would survive a power cut."""
    return [box.name for box in world.boxes if holds(box.store, partition, log, seq)]


def _undurable(box: Box, node: Node, partition: PartitionId, on: list[str], numbers: list[int]) -> None:
    """Too few disks have what a node says to be stored, unless nobody is to have it any more."""
    accounts = box.world.accounts
    if any(accounts.counts[f"fault {kind}"] for kind in LOSE_DISKS) or box.foreign:
        return
    clustering = node.broker.clustering
    if clustering is not None and clustering.catalog.deleted(QueueId(partition[:8])):
        return
    awaited = [n for n in numbers if n < len(accounts.messages) and accounts.messages[n].acking_at < 0]
    if awaited:
        accounts.undurable(f"{box.name} answers, and only {on} have it on disk", awaited[0])
