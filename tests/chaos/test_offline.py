"""The stores of nodes that have ended are compared key by key: each difference is told, and by its key."""

from __future__ import annotations

from pathlib import Path

import cbor2

from dmqnode.grants import GRANTS
from dmqnode.homesets import NO_LEASE, HomeSet
from dmqnode.ids import LOG_ID_SIZE, NODE_ID_SIZE, PARTITION_ID_SIZE, LogId, NodeId, PartitionId
from dmqnode.keys import IDENTITY, PartitionKeys
from dmqnode.records import Identity, encode_identity
from storage.leveldb import LevelStore
from storage.ops import WriteBatch
from tests.chaos.offline import differences

PARTITION = PartitionId(b"P" * PARTITION_ID_SIZE)
KEYS = PartitionKeys.of(PARTITION)
LOG = LogId(b"L" * LOG_ID_SIZE)
BATCH, DUE = KEYS.batch(LOG, 1), KEYS.due(1000, LOG, 1)
HOMES = tuple(NodeId(bytes([n]) * NODE_ID_SIZE) for n in (1, 2, 3))


def ended(directory: Path, *keys: tuple[bytes, ...]) -> dict[str, Path]:
    """Make the stores of three homes of one partition, and give each some of its records."""
    nodes = {}
    for home, held in zip(HOMES, keys, strict=True):
        data = directory / f"n{home[0]}"
        data.mkdir()
        ops = WriteBatch()
        ops.put(IDENTITY, encode_identity(Identity(home, 1, bytes(4)), b"c" * 8))
        ops.put(GRANTS + PARTITION, cbor2.dumps([NO_LEASE.n, NO_LEASE.node, HomeSet.first(HOMES).fields()]))
        for key in held:
            ops.put(key, b"a record")
        store = LevelStore.open(data)
        store.write(ops, sync=True)
        store.close()
        nodes[data.name] = data
    return nodes


def test_what_one_home_lacks_is_told(tmp_path: Path) -> None:
    both = BATCH, DUE
    (told,) = differences(ended(tmp_path, both, both, (DUE,)))
    assert f"n1 and n3 differ: b {BATCH[-28:].hex()}: True False" in told


def test_all_have_the_same(tmp_path: Path) -> None:
    assert not differences(ended(tmp_path, (BATCH, DUE), (BATCH, DUE), (BATCH, DUE)))


def test_an_entry_by_time_that_leads_nowhere_is_passed_over_where_batches_were_damaged_on_all(
    tmp_path: Path,
) -> None:
    nodes = ended(tmp_path, (), (DUE,), ())
    assert len(differences(nodes)) == 1
    assert not differences(nodes, damaged=True)


def test_a_batch_is_missed_also_where_batches_were_damaged_on_all(tmp_path: Path) -> None:
    (told,) = differences(ended(tmp_path, (BATCH, DUE), (BATCH, DUE), (DUE,)), damaged=True)
    assert "n1 and n3 differ" in told


def test_a_store_that_does_not_open_is_told(tmp_path: Path) -> None:
    (told,) = differences({"n1": tmp_path / "nowhere"})
    assert told.startswith("n1: the store in ")
