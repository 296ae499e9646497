"""Whether the stores of nodes that have ended hold the same, read from their files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dmqnode.grants import GRANTS, GRANTS_END, Grants
from dmqnode.ids import PARTITION_ID_SIZE, NodeId, PartitionId
from dmqnode.keys import IDENTITY, QUEUES, QUEUES_END, PartitionKeys
from dmqnode.records import decode_identity
from storage.errors import StorageError
from storage.leveldb import LevelStore
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from tests.simulation.likeness import unlike

ALL = b"\xff"


def differences(nodes: dict[str, Path], *, damaged: bool = False) -> list[str]:
    """Return where copies differ, or whose store does not open.

    Arguments:
        nodes: per name the data directory of a node that has ended.
        damaged: whether a batch may have been damaged on all disks: then what leads to no batch in the index
            by time is passed over, for when a batch was due is known to who has it only.
    """
    hosts = {}
    for name, data in nodes.items():
        try:
            node, host = _read(name, data)
        except StorageError as error:
            return [f"{name}: {error}"]
        if damaged:
            host.store.write(_leading_nowhere(host.store), sync=True)
        hosts[node] = host
    world: Any = SimpleNamespace(hosts=hosts)
    return unlike(world)


def _leading_nowhere(store: MemoryStore) -> WriteBatch:
    """Return the write that takes away what leads to no batch in the index by time."""
    ops = WriteBatch()
    for partition in {PartitionId(key[1 : 1 + PARTITION_ID_SIZE]) for key in store._keys if key[:1] == b"p"}:
        keys = PartitionKeys.of(partition)
        for row in store.scan(*keys.due_range(0), limit=1 << 20, max_bytes=1 << 40).rows:
            _, log, first = keys.read_due(row.key)
            if store.get(keys.batch(log, first)) is None:
                ops.delete(row.key)
    return ops


def _read(name: str, data: Path) -> tuple[NodeId, Any]:
    store = LevelStore.open(data)
    try:
        copy = MemoryStore()
        start, more = b"", True
        while more:
            page = store.scan(start, ALL, limit=10_000)
            batch = WriteBatch()
            for row in page.rows:
                batch.put(row.key, row.value)
            copy.write(batch, sync=True)
            more = page.more
            if page.rows:
                start = page.rows[-1].key + b"\x00"
        identity = store.get(IDENTITY)
    finally:
        store.close()
    assert identity is not None
    node = decode_identity(identity)[0].node
    grants = Grants(node, 0.0, lambda *_: True)
    for row in copy.scan(GRANTS, GRANTS_END, limit=1 << 20, max_bytes=1 << 40).rows:
        grants.load(PartitionId(row.key[1 : 1 + PARTITION_ID_SIZE]), row.value)
    queues = [(row.key, row.value) for row in copy.scan(QUEUES, QUEUES_END, limit=1 << 20).rows]
    catalog = SimpleNamespace(digest=repr(queues))
    clustering = SimpleNamespace(cluster=SimpleNamespace(grants=grants), catalog=catalog)
    return node, SimpleNamespace(name=name, store=copy, up=True, rotten=False, clustering=clustering)
