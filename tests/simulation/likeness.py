"""Whether all homes of every partition hold the same, key by key, and nobody else holds anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.homesets import HomeSet
from dmqnode.ids import PARTITION_ID_SIZE, NodeId, PartitionId
from dmqnode.keys import DEBTS, DEBTS_END, PartitionKeys
from dmqnode.smallrows import describe
from storage.memory import MemoryStore

if TYPE_CHECKING:
    from tests.simulation.world import World

FENCE = b"\xff" * 8


def unlike(world: World) -> list[str]:
    """Return where copies differ."""
    wrong: list[str] = []
    for host in world.hosts.values():
        if not host.up:
            return [f"{host.name} is down"]
        if debts := peek(host.store).scan(DEBTS, DEBTS_END, limit=10).rows:
            wrong.append(f"{host.name} still owes {len(debts)} batches")
    if len({host.clustering.catalog.digest for host in world.hosts.values()}) > 1:
        wrong.append("nodes know different queues")
    partitions = {
        PartitionId(key[1 : 1 + PARTITION_ID_SIZE])
        for host in world.hosts.values()
        for key in host.store._keys
        if key[:1] == b"p"
    }
    for partition in sorted(partitions):
        record = home_set(world, partition)
        if record is None:
            continue
        wrong += _compare(world, partition, record)
    return wrong


def home_set(world: World, partition: PartitionId) -> HomeSet | None:
    """Return the newest home set that anybody knows of a partition."""
    found = [
        promise.record
        for host in world.hosts.values()
        if (promise := host.clustering.cluster.grants.find(partition)) is not None
    ]
    return max(found, key=lambda record: (record.age, record.committed), default=None)


def _compare(world: World, partition: PartitionId, record: HomeSet) -> list[str]:
    name = partition.hex()
    if not record.committed:
        return [f"{name}: its home set is not committed"]
    wrong: list[str] = []
    shown: dict[NodeId, tuple[dict[bytes, bytes], object]] = {}
    for node, host in world.hosts.items():
        rows, meaning = picture(host.store, partition)
        if node in record.new:
            shown[node] = (rows, meaning)
        elif rows:
            wrong.append(f"{name}: {host.name} is no home and has {len(rows)} records")
    first = next((node for node in shown if not world.hosts[node].rotten), next(iter(shown)))
    for node in shown:
        a, b = shown[first][0], shown[node][0]
        if world.hosts[node].rotten:
            # Of a log whose record was damaged a disk does not know what is dead, nor when a batch was due.
            b = {k: v for k, v in b.items() if k in a or k[:1] not in (b"b", b"t")}
        if (a, shown[first][1]) == (b, shown[node][1]):
            continue
        keys = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
        where = [f"{k[:1].decode()} {k[1:].hex()}: {k in a} {k in b}" for k in keys[:4]]
        names = world.hosts[first].name, world.hosts[node].name
        what = where or [f"{shown[first][1]} {shown[node][1]}"]
        wrong.append(f"{name}: {names[0]} and {names[1]} differ: {'; '.join(what)}")
    return wrong


def peek(store: MemoryStore) -> MemoryStore:
    """Return what is on a disk as the accountant sees it, for whom reading never fails."""
    seen = MemoryStore()
    seen._records, seen._keys, seen._undo = store._records, store._keys, store._undo
    return seen


def picture(store: MemoryStore, partition: PartitionId) -> tuple[dict[bytes, bytes], object]:
    """Return the records of a copy, its own stamp and gaps aside, and what its small records mean."""
    keys = PartitionKeys.of(partition)
    size = len(keys.prefix)
    rows: dict[bytes, bytes] = {}
    small: dict[bytes, bytes] = {}
    for row in peek(store).scan(keys.prefix, keys.prefix + b"\xff", limit=1 << 30, max_bytes=1 << 40).rows:
        key = row.key[size:]
        if key[:1] == b"a" or key[-8:] == FENCE:
            continue
        if key[:1] in (b"l", b"d", b"s"):
            small[key] = row.value
        else:
            rows[key] = row.value
    described = describe(small)
    dead = {log: list(ranges) for log, ranges in described.dead.items()}
    return rows, (described.logs, described.closed, dead, described.state.ends)
