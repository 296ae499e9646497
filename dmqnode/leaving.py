"""Deleting the copies of partitions that nobody needs on this node any more."""

from __future__ import annotations

from dmqnode.clock import Now
from dmqnode.copying import delete_all, split_own
from dmqnode.ids import PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.port import Port
from dmqnode.ranges import RangeSet
from dmqnode.smallrows import describe, encode_gaps, gaps_key, own_ranges
from storage.ops import WriteBatch


class Leaving:
    """The partitions whose copies are being deleted: until that is done, nothing of them is written."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._partitions: dict[PartitionId, None] = {}

    def __contains__(self, partition: PartitionId) -> bool:
        return partition in self._partitions

    def begin(self, now: Now, partition: PartitionId) -> None:
        """Delete a copy, a page at a time."""
        self._partitions[partition] = None
        keys = PartitionKeys.of(partition)

        def deleted(now: Now, result: None) -> None:
            del self._partitions[partition]

        def found(now: Now, rows: dict[bytes, bytes]) -> None:
            # Should this node die meanwhile, or be asked: what is left of the copy says that it has nothing.
            described = describe(split_own(keys, rows).rows)
            lacks = {log: RangeSet([(0, described.end(log))]) for log in described.known}
            ops = WriteBatch()
            ops.put(gaps_key(keys), encode_gaps(lacks))
            self._port.write(ops, lambda now: self._port.read(now, delete_all(keys, self._port), deleted))

        # Behind what was under way: else that would be written after it was looked for.
        self._port.boundary(own_ranges(keys), found)
