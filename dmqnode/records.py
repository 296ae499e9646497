"""The records behind the keys of `keys`, except queue definitions (`queues`).

FORMAT 1.  To change what is stored: (1) raise the number in the record's first byte or, in CBOR maps,
add keys with a default; (2) keep the reader of what the last release wrote; (3) add a golden record
written by that release to the tests and never edit one.  Times on disk are wall-clock milliseconds:
they must survive a restart.  Checksums are the store's business.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cbor2

from dmqnode.batch import Batch, parse
from dmqnode.errors import ProtocolError
from dmqnode.ids import LogId, NodeId

_BATCH = struct.Struct("<B7xQQ")
BATCH_FORMAT = 1


class Unreadable(Exception):
    """A record whose checksum holds does not mean anything: written by something else."""


def encode_batch(sent_at: int, due: int, batch: Batch) -> bytes:
    """Return a log record: format, when sent, when due (0: at once), and the batch as it came."""
    return _BATCH.pack(BATCH_FORMAT, sent_at, due) + batch.blob


def decode_batch(record: bytes) -> tuple[int, int, Batch]:
    """Return (sent_at, due, batch).

    Errors: Unreadable.
    """
    try:
        format_, sent_at, due = _BATCH.unpack_from(record)
        if format_ != BATCH_FORMAT:
            raise Unreadable(f"a batch record has format {format_}; this release reads {BATCH_FORMAT}")
        return sent_at, due, parse(record[_BATCH.size :])
    except (struct.error, ProtocolError) as error:
        raise Unreadable(f"a batch record is not whole: {error}") from error


BATCH_HEAD = _BATCH.size + 12
"""Bytes of a log record before its table of lengths."""
_COUNT = struct.Struct("<I")


def read_batch_head(record: bytes) -> tuple[int, int]:
    """Return (due, count) of a log record without reading the rest.

    Errors: ProtocolError.
    """
    if len(record) < BATCH_HEAD or record[0] != BATCH_FORMAT:
        raise ProtocolError("a batch record has no head")
    count = int(_COUNT.unpack_from(record, _BATCH.size + 4)[0])
    return int.from_bytes(record[16:24], "little"), count


def read_sent_at(record: bytes) -> int:
    """Return when a log record's messages were sent, ms."""
    return int.from_bytes(record[8:16], "little")


class Identity(NamedTuple):
    """Who a node is in this run (rule I1)."""

    node: NodeId
    boot: int
    nonce: int

    @property
    def first_question(self) -> int:
        """Where this run begins to number what it asks: a late answer to an earlier run is none to it."""
        return self.nonce << 24


def encode_identity(identity: Identity, cluster: bytes) -> bytes:
    """Return the record of a node's identity and its cluster's id."""
    return cbor2.dumps(
        {"node": identity.node, "boot": identity.boot, "nonce": identity.nonce, "cluster": cluster}
    )


def decode_identity(record: bytes) -> tuple[Identity, bytes]:
    """Return (identity, cluster id)."""
    found = cbor2.loads(record)
    return Identity(NodeId(found["node"]), found["boot"], found["nonce"]), found["cluster"]


def encode_log(opened_at: int, *, delayed: bool, end: int | None = None) -> bytes:
    """Return the record of a log; `end` once it is closed and all its messages are dead (rule C4)."""
    return cbor2.dumps([opened_at, delayed, end])


def decode_log(record: bytes) -> tuple[int, bool, int | None]:
    """Return (opened_at, delayed, end)."""
    opened_at, delayed, end = cbor2.loads(record)
    return opened_at, delayed, end


@dataclass(slots=True)
class State:
    """What else is known of a partition."""

    bytes: int = 0
    """Bytes of its batch records."""
    due_low: int = 0
    """No delayed batch is due earlier (ms)."""
    sent_low: int = 0
    """Nothing is remembered of earlier minutes."""
    ends: dict[LogId, int] = field(default_factory=dict)
    """Where each log ends, but closed empty ones; written with every append, so a start need not search."""
    purges: list[tuple[LogId, int, int]] = field(default_factory=list)
    """Batches of (log, first seq, end) are dead and still to be deleted."""
    purged_at: int = 0
    """What was accepted up to this time (ms) is dead, also what a stand-in brings later (T3)."""


def encode_state(state: State) -> bytes:
    """Return the record of a partition's state."""
    found: dict[str, Any] = {
        "bytes": state.bytes,
        "due": state.due_low,
        "sent": state.sent_low,
        "ends": state.ends,
    }
    if state.purges:
        found["purges"] = state.purges
    if state.purged_at:
        found["purged"] = state.purged_at
    return cbor2.dumps(found)


def decode_state(record: bytes) -> State:
    """Read what `encode_state` wrote."""
    found = cbor2.loads(record)
    purges = [(LogId(log), low, high) for log, low, high in found.get("purges", ())]
    ends = {LogId(log): end for log, end in found["ends"].items()}
    return State(found["bytes"], found["due"], found["sent"], ends, purges, found.get("purged", 0))


class NotedSegment(NamedTuple):
    """One segment of a note: its batch's coordinates, then its own."""

    log: LogId
    first: int
    messages: int
    size: int
    sent_at: int
    due: int
    low: int
    high: int
    attempt: int
    group: str | None


@dataclass(slots=True)
class Note:
    """What is written of a delivery, or of messages that wait to be delivered again (design, N1)."""

    counter: int
    """Of two notes that speak of one message the one with the higher counter holds."""
    delivery: int
    """0: no consumer has them."""
    until: int
    """Hidden until, ms; 0: ready."""
    holder: str
    """With delivery 0: why they are to move to another queue; empty: they are not."""
    segments: list[NotedSegment]
    remaining: int = 0
    """For how long they were to be hidden when this was written, ms: however clocks are set, not longer."""

    to: str = ""
    """With delivery 0: another queue to which they are to move instead."""

    @property
    def given_up(self) -> bool:
        """Whether the messages are to move to another queue (N3)."""
        return not self.delivery and bool(self.holder)


def encode_note(note: Note) -> bytes:
    """Return a note's record: the segments' logs in a table, their numbers flat, as C encodes fastest."""
    logs: dict[LogId, int] = {}
    flat: list[int] = []
    groups: dict[int, str] = {}
    for n, s in enumerate(note.segments):
        log = logs.setdefault(s.log, len(logs))
        flat += (log, s.first, s.messages, s.size, s.sent_at, s.due, s.low, s.high, s.attempt)
        if s.group is not None:
            groups[n] = s.group
    head = [note.counter, note.delivery, note.until, note.holder]
    return cbor2.dumps([*head, list(logs), flat, groups, note.remaining, *([note.to] if note.to else ())])


def decode_note(record: bytes) -> Note:
    """Read what `encode_note` wrote."""
    found: list[Any] = cbor2.loads(record)
    counter, delivery, until, holder, logs, flat, groups, *rest = found
    segments = [
        NotedSegment._make((LogId(logs[flat[i]]), *flat[i + 1 : i + 9], groups.get(i // 9)))
        for i in range(0, len(flat), 9)
    ]
    return Note(counter, delivery, until, holder, segments, *rest)


def encode_due(count: int, sent_at: int, size: int) -> bytes:
    """Return the value of a delayed batch's index entry."""
    return cbor2.dumps([count, sent_at, size])


def decode_due(record: bytes) -> tuple[int, int, int]:
    """Return (count, sent_at, size)."""
    count, sent_at, size = cbor2.loads(record)
    return count, sent_at, size
