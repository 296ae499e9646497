"""Whether a node still knows who it is among others: if it does not, it is another one (rule I2).

What it has promised, and whom it has met, others rely on.  So when any of these records cannot be read, the
whole store is put aside and a new one begun, with a new id: the node joins anew, and gets its copies from the
others.  A node without others has nobody to get them from: it keeps what it has.

The functions block; call them in a worker thread.
"""

from __future__ import annotations

from typing import NamedTuple

from dmqnode import roster as rosters
from dmqnode.copying import split_own
from dmqnode.disk import read_ranges
from dmqnode.errors import DMQError, ProtocolError
from dmqnode.grants import GRANTS, GRANTS_END
from dmqnode.ids import QueueId, partition_id
from dmqnode.keys import IDENTITY, QUEUES, QUEUES_END, PartitionKeys
from dmqnode.membership import ACQUAINTANCES, CLUSTER
from dmqnode.queues import decode_definition
from dmqnode.ranges import RangeSet
from dmqnode.roster import RECORD, ROSTER, ROSTER_KEY, Roster
from dmqnode.smallrows import describe, own_ranges
from storage.errors import Corrupt
from storage.store import Store


class BeginAnew(DMQError):
    """The members do not take this node for the one that it was: it comes again, as a new one.

    They have forgotten it while it was away, or have met a later run of it than the one its data is of.

    Arguments:
        seeds: where the others are.
    """

    code = "cannot-start"

    def __init__(self, why: str, seeds: tuple[str, ...]) -> None:
        super().__init__(why)
        self.seeds = seeds


NAMES = {
    IDENTITY: "its identity",
    CLUSTER: "its cluster",
    ROSTER_KEY: "the list of members",
    ACQUAINTANCES: "whom it has met",
}


class Lost(NamedTuple):
    """What a node does not know any more, and where others may be."""

    what: str
    seeds: tuple[str, ...]


def lost_memory(store: Store, *, incomplete: bool) -> Lost | None:
    """Return what a node that was one of several has lost, None if nothing.  Changes nothing.

    Arguments:
        incomplete: whether the store is known to be only a part of what it was.

    Errors: StorageError when the disk fails.
    """
    read: dict[bytes, bytes] = {}
    damaged: list[str] = []
    for key, name in NAMES.items():
        try:
            value = store.get(key)
        except Corrupt:
            damaged.append(name)
            continue
        if value is not None:
            read[key] = value
    roster = _roster(read.get(ROSTER_KEY))
    promised, forgotten = _promises(store)
    if forgotten:
        damaged.append("what it has promised")
    alone = roster is not None and len(roster.members) == 1
    if alone or not (roster or promised or forgotten or NAMES[ACQUAINTANCES] in damaged):
        return None
    damaged += [
        name
        for key, name in NAMES.items()
        if key != ACQUAINTANCES and key not in read and name not in damaged
    ]
    if not damaged and not incomplete:
        return None
    roster = roster or _copy_of_roster(store)
    seeds = () if roster is None else tuple(m.address for m in roster.members)
    return Lost(", ".join(damaged) or "a part of its store", seeds)


def _promises(store: Store) -> tuple[bool, bool]:
    """Return whether promises can be read, and whether some cannot."""
    start, promised = GRANTS, False
    while True:
        page = store.scan(start, GRANTS_END, limit=4096)
        promised = promised or bool(page.rows)
        if page.damaged or not page.more:
            return promised, bool(page.damaged)
        start = page.rows[-1].key + b"\x00"


def _copy_of_roster(store: Store) -> Roster | None:
    """Return the list of members as this node has it for being a home of it: old, perhaps, but an address."""
    try:
        return _roster(store.get(PartitionKeys.of(ROSTER).prefix + RECORD))
    except Corrupt:
        return None


def _roster(record: bytes | None) -> Roster | None:
    try:
        return None if record is None else rosters.decode(record)
    except ProtocolError:
        return None


def left_behind(store: Store) -> int:
    """Return how many messages live in the copies of a node, as far as it knows: these stay behind.

    Reads the small records only, never the messages.

    Errors: StorageError when the disk fails.
    """
    living = 0
    for key, record in read_ranges(store, ((QUEUES, QUEUES_END),)).items():
        queue = QueueId(key[len(QUEUES) :])
        definition = decode_definition(queue, record)
        partitions = 0 if definition is None else definition.settings.partitions
        living += sum(_living(store, PartitionKeys.of(partition_id(queue, i))) for i in range(partitions))
    return living


def _living(store: Store, keys: PartitionKeys) -> int:
    own = split_own(keys, read_ranges(store, own_ranges(keys)))
    try:
        described = describe(own.rows)
    except ProtocolError:
        return 0
    living = 0
    for log in described.logs:
        end, dead, gaps = described.end(log), described.dead.get(log, RangeSet()), own.gaps.get(log)
        held = end if gaps is None else end - gaps.overlap(0, end)
        living += max(0, held - dead.overlap(0, end))
    return living
