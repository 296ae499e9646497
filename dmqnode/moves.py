"""Moves between queues: into the dead-letter queue, and back out of it (redrive).

A move appends to the target under a dedup id made of the original's id and marks the original dead;
here both are in one write group, so that after a crash a message is in one of the two.  The dedup id
makes a move that is repeated harmless where the two are not on one disk (rule N3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmqnode.batch import Batch, encode_rows, parse
from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import DMQError, InvalidRequest, Refused
from dmqnode.exhausted import Step
from dmqnode.ids import LogId, message_id
from dmqnode.log import Segment
from dmqnode.messages import Delivered, Done, Part, Redrive, Send
from dmqnode.partition import Partition
from dmqnode.queue import Queue
from dmqnode.reads import Get, Procedure, Rows
from dmqnode.records import Unreadable, decode_batch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.surroundings import Session

REASON = "dmq.reason"
SOURCE = "dmq.source"
SOURCE_ID = "dmq.source-id"
ATTEMPTS = "dmq.attempts"
MOVE_AT_ONCE = 1024
"""Messages moved in one step."""
MOVE_BYTES = 4 << 20
"""Bytes of the batches that one step reads, if there is more than one."""
MAX_REDRIVE = 4096
Rows_ = list[tuple[bytes, dict[str, Any]]]


class Moves:
    """The moves under way."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    # --- into the dead-letter queue ------------------------------------------------------------------

    def bury(self, now: Now, partition: Partition) -> None:
        """Move what a partition gave up on to its dead-letter queue; one step at a time per partition."""
        if partition.exhausted.step is not None or not partition.exhausted:
            return
        step = partition.exhausted.take(MOVE_AT_ONCE, MOVE_BYTES)
        self._broker.reads.start(
            now,
            _bodies(partition, [s for s, _ in step]),
            lambda now, rows: self._bury_read(now, partition, step, rows),
        )

    def _bury_read(self, now: Now, partition: Partition, step: Step, rows: Rows) -> None:
        broker = self._broker
        name = partition.exhausted.to or partition.settings.dead_letter
        if partition.exhausted.step is not step:
            return  # purged or deleted meanwhile
        source = broker.registry.by_partition[partition.id]
        if name is None:
            # The dead-letter queue was taken away meanwhile: deliver again.
            partition.unbury([s for s, _ in step])
            broker.touched(now, partition)
            return
        if broker.clustering is not None:
            broker.clustering.crossings.bury(now, source, partition, name, step, rows)
            return
        target = broker.registry.queues.get(name) or broker.registry.create_default(
            now, name, source.definition.owner
        )
        broker.when_open(
            now,
            target,
            lambda now: self._bury_open(now, source, partition, target, step, rows),
            lambda now, error: self._bury_read(now, partition, step, rows),
        )

    def _bury_open(
        self, now: Now, source: Queue, partition: Partition, target: Queue, step: Step, rows: Rows
    ) -> None:
        broker = self._broker
        if partition.exhausted.step is not step:
            return
        out = buried_rows(source, partition, step, rows)
        broker.counters.lost += sum(len(s) for s, _ in step) - len(out)
        partitions = self._append(now, target, out) if out else []
        broker.counters.dead_lettered += len(out)
        partition.buried([s for s, _ in step])
        for touched in (*partitions, partition):
            broker.touched(now, touched)
        broker.deliveries.serve(now, source)

    def _append(self, now: Now, target: Queue, rows: Rows_) -> list[Partition]:
        batch = encode_rows(rows)
        _, _, partitions = target.send(
            now, Send(target.name, b"", 0, 0, None, False, batch.blob), batch, moved=True
        )
        return partitions

    # --- redrive -------------------------------------------------------------------------------------

    def redrive(self, now: Now, session: Session, number: int, request: Redrive) -> None:
        """Move ready messages of a dead-letter queue to where they came from, or to `to`; answer with Done.

        Errors: Refused and its kinds.
        """
        broker = self._broker
        source = broker.registry.find(request.queue)
        if not 1 <= request.limit <= MAX_REDRIVE:
            raise InvalidRequest(f"a redrive of {request.limit} messages is outside 1 and {MAX_REDRIVE}")
        if request.to is not None:
            broker.registry.find(request.to)
            if request.to == request.queue:
                raise InvalidRequest("a queue cannot be redriven to itself; name another with --to")

        def taken(now: Now, delivered: Delivered) -> None:
            self._redrive(now, session, number, request, delivered)

        def gone(now: Now, error: DMQError) -> None:
            broker.refuse(session.id, number, error)

        broker.deliveries.take_for(now, source, request.limit, f"redrive by {session.client}", taken, gone)

    def _redrive(
        self, now: Now, session: Session, number: int, request: Redrive, delivered: Delivered
    ) -> None:
        broker = self._broker

        def refused(now: Now, error: DMQError) -> None:
            broker.deliveries.take_back(now, delivered)
            broker.refuse(session.id, number, error)

        targets: dict[str, list[Part]] = {}
        try:
            for part in delivered.parts:
                batch = parse(part.batch)
                for i in range(part.count):
                    to = self._target(request, part, i, batch.attributes(i).get(SOURCE))
                    piece = Part(
                        part.partition,
                        part.delivery,
                        part.log,
                        part.first + i,
                        1,
                        0,
                        0,
                        batch.part(i, i + 1).blob,
                    )
                    targets.setdefault(to, []).append(piece)
            queues = [broker.registry.find(name) for name in targets]
            if broker.clustering is not None:
                broker.clustering.crossings.redrive(now, session, number, delivered, targets)
                return
        except Refused as error:
            refused(now, error)
            return
        self._when_all_open(
            now, queues, lambda now: self._redriven(now, session, number, delivered, targets), refused
        )

    @staticmethod
    def _target(request: Redrive, part: Part, index: int, came_from: str | None) -> str:
        to = request.to or came_from
        if to is None or to == request.queue:
            raise Refused(
                f"message {message_id(part.log, part.first + index)} does not say "
                "where it came from; name a queue with --to"
            )
        return to

    def _when_all_open(
        self,
        now: Now,
        queues: list[Queue],
        then: Callable[[Now], None],
        gone: Callable[[Now, DMQError], None],
    ) -> None:
        closed = next((q for q in queues if not q.open), None)
        if closed is None:
            then(now)
            return
        self._broker.when_open(now, closed, lambda now: self._when_all_open(now, queues, then, gone), gone)

    def _redriven(
        self, now: Now, session: Session, number: int, delivered: Delivered, targets: dict[str, list[Part]]
    ) -> None:
        """Every target is open: append there what is still ours, and mark it dead here."""
        broker = self._broker
        touched: dict[Partition, None] = {}
        moved = 0
        for name, pieces in targets.items():
            out: Rows_ = []
            for piece in pieces:
                source = broker.registry.by_partition.get(piece.partition)
                if source is None:
                    continue  # deleted meanwhile
                partition = source.at(int.from_bytes(piece.partition[8:], "big"))
                if partition is None:
                    continue
                held = partition.holds.settle(piece.delivery, piece.log, piece.first, piece.first + 1)
                if partition.kill(held):
                    out.append(moved_row(piece))
                    touched[partition] = None
            if out:
                moved += len(out)
                touched.update(dict.fromkeys(self._append(now, broker.registry.queues[name], out)))
        broker.counters.redriven += moved
        if not touched:
            broker.reply(session.id, number, Done(0, more=False))
            return
        next(iter(touched)).after_write(Reply(session.id, number, Done(moved, more=moved > 0)))
        for partition in touched:
            broker.touched(now, partition)


def redriven_rows(partition: Partition, step: Step, rows: Rows) -> Rows_:
    """Return messages of a dead-letter queue as rows for another; what cannot be read is left out."""
    out: Rows_ = []
    batches = _decoded(partition, rows)
    for segment, _ in step:
        batch = batches.get((segment.stored.log.id, segment.stored.first))
        if batch is None:
            continue
        for seq in _alive(segment):
            out.append(_row(batch, seq - segment.stored.first, segment.stored.log.id, seq, None))
    return out


def moved_row(piece: Part) -> tuple[bytes, dict[str, Any]]:
    """Return a message of a dead-letter queue as a row for another queue."""
    return _row(parse(piece.batch), 0, piece.log, piece.first, None)


def buried_rows(source: Queue, partition: Partition, step: Step, rows: Rows) -> Rows_:
    """Return what is given up as messages of the dead-letter queue; what cannot be read is left out."""
    out: Rows_ = []
    batches = _decoded(partition, rows)
    for segment, reason in step:
        batch = batches.get((segment.stored.log.id, segment.stored.first))
        if batch is None:
            continue
        for seq in _alive(segment):
            extra = {REASON: reason, SOURCE: source.name, ATTEMPTS: str(segment.attempt)}
            out.append(_row(batch, seq - segment.stored.first, segment.stored.log.id, seq, extra))
    return out


def unreadable(partition: Partition, step: Step, rows: Rows) -> Step:
    """Return what of a step lives and is not here: another home may have it; it is a gap from now on."""
    batches = _decoded(partition, rows)
    missing: Step = []
    for segment, reason in step:
        log = segment.stored.log
        if (log.id, segment.stored.first) in batches or not _alive(segment):
            continue
        missing.append((segment, reason))
        for low, high in log.dead.ranges.gaps(segment.low, segment.high):
            log.gaps.add(low, high)
    return missing


def _alive(segment: Segment) -> list[int]:
    """Return the messages of a segment that did not die meanwhile."""
    pieces = segment.stored.log.dead.ranges.gaps(segment.low, segment.high)
    return [seq for low, high in pieces for seq in range(low, high)]


def _bodies(partition: Partition, segments: list[Segment]) -> Procedure[Rows]:
    keys = {partition.keys.batch(s.stored.log.id, s.stored.first): None for s in segments}
    rows = yield Get(tuple(keys))
    return rows


def _decoded(partition: Partition, rows: Rows) -> dict[tuple[LogId, int], Batch]:
    found: dict[tuple[LogId, int], Batch] = {}
    for key, record in rows.rows:
        try:
            batch = decode_batch(record)[2]
        except Unreadable:
            continue
        found[LogId(key[-28:-8]), partition.keys.first_seq(key)] = batch
    return found


def _row(
    batch: Batch, index: int, log: LogId, seq: int, extra: dict[str, str] | None
) -> tuple[bytes, dict[str, Any]]:
    """Return a message as a row for its new queue, with `extra` attributes; None: without those of a move."""
    attributes = batch.attributes(index)
    id_ = message_id(log, seq)
    if extra is None:
        attributes = {k: v for k, v in attributes.items() if not k.startswith("dmq.")}
    else:
        attributes = {**attributes, **extra, SOURCE_ID: id_}
    row: dict[str, Any] = {"d": f"move:{id_}"}
    if attributes:
        row["a"] = attributes
    if (group := batch.value("g", index)) is not None:
        row["g"] = group
    return batch.body(index), row
