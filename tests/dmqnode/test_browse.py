"""Looking at messages while they go."""

from __future__ import annotations

import pytest

from dmqnode.batch import encode, parse
from dmqnode.browse import START, browse
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.ids import LogId, PartitionId
from dmqnode.log import StoredBatch
from dmqnode.partition import Partition
from dmqnode.queues import Settings
from dmqnode.reads import Rows
from storage.ops import WriteBatch

LOG = LogId(b"L" * 20)
NOW = Now(1.0, 1000)


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_settled_while_others_are_read_is_not_read_and_not_missed(closed: bool) -> None:
    """A queue's description read one batch after the other of what consumers had held, and acked long ago."""
    partition = Partition(PartitionId(b"p" * 10), Settings(), lambda: LOG, Counters())
    for body in (b"first", b"second", b"third"):
        sent = parse(encode([body]).blob)
        partition.append(NOW, sent, delay=None, producer=b"", sequence=0, floor=0)
        partition.written(partition.collect(NOW, WriteBatch()))
        (log,) = partition.logs.values()
        first = log.end - 1
        partition.show(
            StoredBatch(log, first, first + 1, size=1, sent_at=1000, due=0, batch=sent), [(first, first + 1)]
        )
        partition.take(NOW, first + 1, "", 4.0, 10, 1 << 20)
    looking = browse(partition, NOW.wall, "in-flight", 10, 1 << 20, START)
    assert next(looking).floor == partition.keys.batch(LOG, 0)
    log.dead.add(0, 3)
    if closed:
        partition.closed[LOG] = 3
        del partition.logs[LOG]
    with pytest.raises(StopIteration) as found:
        looking.send(Rows([]))
    assert found.value.value == ([], None)
