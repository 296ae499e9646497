"""Pieces of copying a partition: what travels between homes, and what it does to a copy on disk."""

from __future__ import annotations

from typing import NamedTuple

import cbor2

from dmqnode.errors import ProtocolError
from dmqnode.ids import LogId
from dmqnode.keys import HARM, PartitionKeys
from dmqnode.messages import Blob
from dmqnode.peer_messages import BatchRecord
from dmqnode.port import Port
from dmqnode.ranges import RangeSet
from dmqnode.reads import Get, Procedure, Scan
from dmqnode.records import decode_due, encode_due, read_batch_head, read_sent_at
from dmqnode.smallrows import (
    NO_STAMP,
    Gaps,
    Rows,
    Stale,
    Stamp,
    decode_gaps,
    decode_stamp,
    describe,
    encode_gaps,
    gaps_key,
    stale_key,
    stamp_key,
)
from storage.ops import WriteBatch

FILL_BYTES = 128 << 10
DELETE_ROWS = 1024
LACK = b"a"
"""In an entry: what follows is a log, of which the record says what nobody who follows has."""
VOID = b"v"
"""The same of what died and the leader does not hold: whoever does deletes it."""
KINDS = b"abdlmnstuv"
"""How the keys in an entry may begin."""
ANY_END = 1 << 62
"""Behind the last message of any log."""


class Own(NamedTuple):
    """What a node keeps of its copy besides the batches."""

    stamp: Stamp
    gaps: Gaps
    stale: Stale
    rows: Rows
    harmed: frozenset[bytes] = frozenset()
    """Where it is noted which kinds of its records were damaged since it was last aligned."""


def split_own(keys: PartitionKeys, found: dict[bytes, bytes]) -> Own:
    """Split what `own_ranges` gave.

    A copy that has lost small records to damage has followed nobody: what it lacks must not seem to be over.
    """
    size = len(keys.prefix)
    stamp, gaps, stale = (found.get(key(keys)) for key in (stamp_key, gaps_key, stale_key))
    rows = {k[size:]: v for k, v in found.items() if k[size : size + 1] != b"a"}
    mark = keys.prefix + HARM
    harmed = frozenset(k for k in found if k.startswith(mark))
    forgot = mark + b"a" in harmed
    return Own(
        NO_STAMP if stamp is None or harmed - {mark + b"a"} else decode_stamp(stamp),
        {} if gaps is None else decode_gaps(gaps),
        # Where it is not known what was still to be deleted all that is dead is.
        describe(rows).dead if forgot else {} if stale is None else decode_gaps(stale),
        rows,
        harmed,
    )


class Change(NamedTuple):
    """What makes a copy the one that its leader has."""

    ops: WriteBatch
    gaps: Gaps
    """What it lacks then."""
    stale: Stale
    """What died since it followed last: batches of it are to be deleted, once all of each is dead."""
    dead: Stale
    """What is dead."""


def align_rows(keys: PartitionKeys, own: Own, rows: Rows) -> Change:
    """Replace a copy's small records by `rows`."""
    ops = WriteBatch()
    for key in own.rows:
        if key not in rows:
            ops.delete(keys.prefix + key)
    for key, record in rows.items():
        if own.rows.get(key) != record:
            ops.put(keys.prefix + key, record)
    before, after = describe(own.rows), describe(rows)
    gaps: Gaps = {}
    stale: Stale = {log: RangeSet(died) for log, died in own.stale.items()}
    all_dead: Stale = {}
    for log in after.logs:
        dead = after.dead.get(log, RangeSet())
        missing = before.missing_from(log, after.end(log), dead, own.gaps)
        if missing.size:
            gaps[log] = missing
    # Where the record is lost that tells how far its logs went, whatever is dead may be here.
    lost = keys.prefix + HARM + b"s" in own.harmed
    for log in dict.fromkeys((*before.known, *after.logs)) if lost else before.known:
        held = ANY_END if lost else before.end(log)
        # Of a log that is closed nothing is left, also of what was known to be dead.
        known = before.dead.get(log, RangeSet()) if log in after.logs else RangeSet()
        died = RangeSet() if log in after.logs else RangeSet([(0, held)])
        for low, high in after.dead.get(log, ()):
            died.add(low, min(high, held))
        all_dead[log] = RangeSet(died)
        for low, high in known:
            died.remove(low, high)
        for low, high in died:
            stale.setdefault(log, RangeSet()).add(low, high)
    for log, low, high in (*before.state.purges, *after.state.purges):
        if log in before.logs:  # known to be dead, perhaps, and not deleted yet
            stale.setdefault(log, RangeSet()).add(low, high)
    for key in own.harmed:
        ops.delete(key)
    ops.put(gaps_key(keys), encode_gaps(gaps))
    if stale:
        # Deleting takes long, and this node may stop before it is done.
        ops.put(stale_key(keys), encode_gaps(stale))
    return Change(ops, gaps, stale, all_dead)


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


def delete_stale(keys: PartitionKeys, stale: Stale, dead: Stale, port: Port) -> Procedure[None]:
    """Delete the batches that died while a copy did not follow."""
    damaged: dict[tuple[LogId, int], RangeSet] = {}
    for log, died in stale.items():
        gone = dead.get(log, died)
        for low, high in died:
            start = keys.batch(log, low)
            while True:
                page = yield Scan(
                    start,
                    keys.batch(log, high),
                    DELETE_ROWS,
                    floor=keys.batch(log, 0) if start == keys.batch(log, low) else None,
                )
                damaged.update({(log, keys.first_seq(key)): gone for key in page.damaged})
                ops = WriteBatch()
                for key, record in page.rows:
                    start = key + b"\x00"
                    first = keys.first_seq(key)
                    due, count = read_batch_head(record)
                    if gone.covers(first, first + count):
                        ops.delete(key)
                        if due:
                            ops.delete(keys.due(due, log, first))
                if len(ops):
                    port.write(ops, lambda now: None)
                if not page.more:
                    break
    if damaged:
        yield from _delete_due(keys, damaged, port)


def _delete_due(
    keys: PartitionKeys, damaged: dict[tuple[LogId, int], RangeSet], port: Port
) -> Procedure[None]:
    """Delete the index entries of dead batches that are damaged, and do not say any more when they were due.

    Arguments:
        damaged: by log and first seq, what is dead of the log.
    """
    start, stop = keys.due_range(0)
    while True:
        page = yield Scan(start, stop, DELETE_ROWS, leave=True)
        ops = WriteBatch()
        for key, record in page.rows:
            start = key + b"\x00"
            _, log, first = keys.read_due(key)
            gone = damaged.get((log, first))
            if gone is not None and gone.covers(first, first + decode_due(record)[0]):
                ops.delete(key)
        for key in filter(keys.is_due, page.damaged):
            # Another entry, which is damaged: its batch tells what was in it, or comes again with one.
            due, log, first = keys.read_due(key)
            found = yield Get((keys.batch(log, first),))
            if not found.rows:
                ops.delete(key)
            for _, record in found.rows:
                if read_batch_head(record)[0] == due:
                    count, sent_at = read_batch_head(record)[1], read_sent_at(record)
                    ops.put(key, encode_due(count, sent_at, len(record)))
        if len(ops):
            port.write(ops, lambda now: None)
        if not page.more:
            return


def delete_void(keys: PartitionKeys, void: Stale, port: Port) -> Procedure[None]:
    """Delete the batches of messages that died, as far as all of each is dead by this copy's dead sets."""
    dead: Stale = {}
    for log in void:
        known = dead[log] = RangeSet()
        start, stop, more = keys.dead(log, 0), keys.dead(log, 0xFFFFFFFF), True
        while more:
            page = yield Scan(start, stop, DELETE_ROWS)
            for key, record in page.rows:
                start = key + b"\x00"
                for low, high in RangeSet.decode(record):
                    known.add(low, high)
            more = page.more
    yield from delete_stale(keys, void, dead, port)


def delete_all(keys: PartitionKeys, port: Port) -> Procedure[None]:
    """Delete everything of a partition, a page at a time.

    Index entries go first, that none is left which leads nowhere; what the copy lacks goes last, that no part
    of it seems to be the whole.
    """
    index, small, end = (keys.prefix + letter for letter in (b"t", b"a", b"\xff"))
    for start, stop in ((index, end), (small + b"\xff", index), (small, small + b"\xff")):
        more = True
        while more:
            page = yield Scan(start, stop, DELETE_ROWS)
            ops = WriteBatch()
            for key, _ in page.rows:
                ops.delete(key)
                start = key + b"\x00"
            if len(ops):
                port.write(ops, lambda now: None)
            more = page.more


def encode_ops(keys: PartitionKeys, ops: WriteBatch, lacks: Gaps, voids: Stale) -> bytes:
    """Return writes of one partition as they travel; what the receiver lacks, and deletes, from then on."""
    size = len(keys.prefix)
    pairs = [[LACK + log, missing.encode()] for log, missing in lacks.items()]
    pairs += [[VOID + log, died.encode()] for log, died in voids.items()]
    return cbor2.dumps(pairs + [[key[size:], record] for key, record in ops])


def decode_ops(data: bytes) -> list[tuple[bytes, bytes | None]]:
    """Read what `encode_ops` returned.  Errors: ProtocolError."""
    try:
        found: list[tuple[bytes, bytes | None]] = cbor2.loads(data)
        sound = [
            type(key) is bytes and key and key[0] in KINDS and (record is None or type(record) is bytes)
            for key, record in found
        ]
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError) as error:
        raise ProtocolError(f"an entry is not CBOR: {error}") from error
    if not all(sound):
        raise ProtocolError("an entry is not a list of keys and records")
    return found
