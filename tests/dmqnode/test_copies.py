"""What a copy does with what leaders send, where it comes at a bad moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from dmqnode.copies import Copies
from dmqnode.ids import PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.messages import Blob, Message
from dmqnode.peer_messages import Align, Aligned, Compare, Compared
from dmqnode.port import Port
from dmqnode.ranges import RangeSet
from dmqnode.smallrows import encode_rows
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from tests.dmqnode.several import Several, id_of

PARTITION = PartitionId(b"P" * 10)
PREFIX = PartitionKeys.of(PARTITION).prefix
DEAD = b"d" + b"L" * 20 + bytes(4)


class Slow:
    """A node whose disk is not read before somebody says so."""

    def __init__(self) -> None:
        self.now = Several("n1").now()
        self.store = MemoryStore()
        self.reads: list[Callable[[], None]] = []
        self.sent: list[Message] = []

    def rows(self, ranges: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, bytes]:
        found = (self.store.scan(start, stop, limit=100).rows for start, stop in ranges)
        return {row.key: row.value for rows in found for row in rows}

    def boundary(self, ranges: Any, then: Any, mark: Callable[[], None] = lambda: None) -> None:
        def read() -> None:
            mark()
            then(self.now, self.rows(ranges))

        self.reads.append(read)

    def write(self, ops: WriteBatch, then: Any, *, sync: bool = True) -> None:
        self.store.write(ops, sync=sync)
        then(self.now)

    def send(self, node: object, message: Message) -> None:
        self.sent.append(message)

    def read(self, now: object, procedure: object, then: object) -> None:
        """What is dead is deleted later."""


def test_of_two_alignments_at_once_the_later_counts() -> None:
    """Or it would follow from the second on, without what came between the two."""
    slow, leader = Slow(), id_of("n3")
    copies = Copies(Several("n1").nodes["n1"].clustering.cluster.grants, cast(Port, slow))
    for seq, end in ((2, 3), (9, 4)):
        rows = encode_rows({DEAD: RangeSet([(0, end)]).encode()})
        assert copies.receive(slow.now, leader, Align(PARTITION, 1, seq, Blob(rows)))
    for read in slow.reads:
        read()
    assert [m.seq for m in slow.sent if isinstance(m, Aligned)] == [9]
    assert slow.rows(((PREFIX, PREFIX + b"\xff"),))[PREFIX + DEAD] == RangeSet([(0, 4)]).encode()


def test_of_two_comparisons_the_later_is_not_ended_by_the_earlier() -> None:
    slow, leader = Slow(), id_of("n3")
    copies = Copies(Several("n1").nodes["n1"].clustering.cluster.grants, cast(Port, slow))
    align, compare = Align(PARTITION, 1, 0, Blob(encode_rows({}))), Compare(PARTITION, 1, 0)
    copies.receive(slow.now, leader, align)
    slow.reads.pop()()
    copies.receive(slow.now, leader, compare)
    copies.receive(slow.now, leader, align)
    assert len(slow.reads) == 2
    slow.reads.pop()()
    copies.receive(slow.now, leader, Compare(PARTITION, 1, 0))
    slow.reads[0]()
    assert copies.copy_of(PARTITION).awaits is not None, "entries wait for the second"
    slow.reads[1]()
    assert copies.copy_of(PARTITION).awaits is None
    assert len([m for m in slow.sent if isinstance(m, Compared)]) == 2
