"""Pieces of copying a partition: what travels between homes, and what it does to a copy on disk."""

from __future__ import annotations

import cbor2

from dmqnode.errors import ProtocolError
from dmqnode.ids import LogId
from dmqnode.keys import PartitionKeys
from dmqnode.messages import Blob
from dmqnode.peer_messages import BatchRecord
from dmqnode.port import Port
from dmqnode.ranges import RangeSet
from dmqnode.reads import Procedure, Scan
from dmqnode.records import encode_due, read_batch_head, read_sent_at
from dmqnode.smallrows import (
    NO_STAMP,
    Gaps,
    Rows,
    Stamp,
    decode_gaps,
    decode_stamp,
    describe,
    encode_gaps,
    gaps_key,
    stamp_key,
)
from storage.ops import WriteBatch

FILL_BYTES = 512 << 10
DELETE_ROWS = 1024


def split_own(keys: PartitionKeys, found: dict[bytes, bytes]) -> tuple[Stamp, Gaps, Rows]:
    """Split what `own_ranges` gave into the stamp, the gaps and the small records."""
    size = len(keys.prefix)
    stamp, gaps = found.get(stamp_key(keys)), found.get(gaps_key(keys))
    rows = {k[size:]: v for k, v in found.items() if k[size : size + 1] != b"a"}
    return (
        NO_STAMP if stamp is None else decode_stamp(stamp),
        {} if gaps is None else decode_gaps(gaps),
        rows,
    )


def align_rows(
    keys: PartitionKeys, own: Rows, own_gaps: Gaps, rows: Rows
) -> tuple[WriteBatch, Gaps, dict[LogId, RangeSet]]:
    """Replace a copy's small records by `rows`.

    Returns the write, the gaps that the copy has then, and what became dead of what it held.
    """
    ops = WriteBatch()
    for key in own:
        if key not in rows:
            ops.delete(keys.prefix + key)
    for key, record in rows.items():
        if own.get(key) != record:
            ops.put(keys.prefix + key, record)
    before, after = describe(own), describe(rows)
    gaps: Gaps = {}
    stale: dict[LogId, RangeSet] = {}
    for log in after.logs:
        dead = after.dead.get(log, RangeSet())
        missing = before.missing_from(log, after.end(log), dead, own_gaps)
        if missing.size:
            gaps[log] = missing
    for log in before.logs:
        held = before.end(log)
        known = before.dead.get(log, RangeSet())
        died = RangeSet() if log in after.logs else RangeSet([(0, held)])
        for low, high in after.dead.get(log, ()):
            died.add(low, min(high, held))
        for low, high in known:
            died.remove(low, high)
        if died.size:
            stale[log] = died
    ops.put(gaps_key(keys), encode_gaps(gaps))
    return ops, gaps, stale


def put_batch(keys: PartitionKeys, log: LogId, batch: BatchRecord, ops: WriteBatch) -> int:
    """Write a batch record, and its index entry if it is delayed; return how many messages it has.

    Errors: ProtocolError.
    """
    due, count = read_batch_head(batch.record)
    ops.put(keys.batch(log, batch.first), batch.record)
    if due:
        sent_at = read_sent_at(batch.record)
        ops.put(keys.due(due, log, batch.first), encode_due(count, sent_at, len(batch.record)))
    return count


def read_batches(
    keys: PartitionKeys, log: LogId, low: int, high: int
) -> Procedure[tuple[list[BatchRecord], int]]:
    """Return batches that hold some of messages `low` … `high` - 1, and up to where all are told of."""
    page = yield Scan(keys.batch(log, low), keys.batch(log, high), 512, FILL_BYTES, floor=keys.batch(log, 0))
    batches: list[BatchRecord] = []
    reached = low
    for key, record in page.rows:
        first = keys.first_seq(key)
        try:
            end = first + read_batch_head(record)[1]
        except ProtocolError:
            continue
        if end > low:
            batches.append(BatchRecord(first, Blob(record)))
            reached = max(reached, end)
    return batches, max(reached, low + 1) if page.more else high


def delete_stale(keys: PartitionKeys, stale: dict[LogId, RangeSet], port: Port) -> Procedure[None]:
    """Delete the batches that died while a copy did not follow."""
    for log, dead in stale.items():
        for low, high in dead:
            start = keys.batch(log, low)
            while True:
                page = yield Scan(
                    start,
                    keys.batch(log, high),
                    DELETE_ROWS,
                    floor=keys.batch(log, 0) if start == keys.batch(log, low) else None,
                )
                ops = WriteBatch()
                for key, record in page.rows:
                    start = key + b"\x00"
                    first = keys.first_seq(key)
                    due, count = read_batch_head(record)
                    if dead.covers(first, first + count):
                        ops.delete(key)
                        if due:
                            ops.delete(keys.due(due, log, first))
                if len(ops):
                    port.write(ops, lambda now: None)
                if not page.more:
                    break


def delete_all(keys: PartitionKeys, port: Port) -> Procedure[None]:
    """Delete everything of a partition, a page at a time."""
    start, stop = keys.prefix, keys.prefix + b"\xff"
    while True:
        page = yield Scan(start, stop, DELETE_ROWS)
        ops = WriteBatch()
        for key, _ in page.rows:
            ops.delete(key)
            start = key + b"\x00"
        if len(ops):
            port.write(ops, lambda now: None)
        if not page.more:
            return


def encode_ops(keys: PartitionKeys, ops: WriteBatch) -> bytes:
    """Return writes of one partition as they travel."""
    size = len(keys.prefix)
    return cbor2.dumps([[key[size:], record] for key, record in ops])


def decode_ops(data: bytes) -> list[tuple[bytes, bytes | None]]:
    """Read what `encode_ops` returned.  Errors: ProtocolError."""
    try:
        found = cbor2.loads(data)
        out = [(key, record) for key, record in found]
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError) as error:
        raise ProtocolError(f"an entry is not CBOR: {error}") from error
    if not all(
        type(k) is bytes and k[:1] in b"bdlmnstu" and k and (v is None or type(v) is bytes) for k, v in out
    ):
        raise ProtocolError("an entry is not a list of keys and records")
    return out
