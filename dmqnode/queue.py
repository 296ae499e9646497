"""A queue in use: its partitions in memory, and the receivers that wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Set

from dmqnode.batch import Batch
from dmqnode.clock import Now
from dmqnode.counters import Counters
from dmqnode.dedup import Dedup, Runs, join_runs
from dmqnode.errors import DMQError, LimitExceeded, Refused
from dmqnode.ids import LogId, partition_id
from dmqnode.loading import load
from dmqnode.messages import Delivered, Part, Receive, Send
from dmqnode.partition import Partition
from dmqnode.queues import Definition
from dmqnode.readahead import ReadAhead
from dmqnode.reads import Reads
from dmqnode.spreading import split
from storage.ops import WriteBatch

MAX_WAITERS = 10_000
"""Receivers that may wait for one queue."""


class Waiter:
    """A receive that waits for its first message."""

    __slots__ = ("deadline", "holder", "number", "request", "session", "visibility")

    def __init__(
        self, session: int, number: int, request: Receive, holder: str, visibility: float, deadline: float
    ):
        self.session = session
        self.number = number
        self.request = request
        self.holder = holder
        self.visibility = visibility
        self.deadline = deadline


class Queue:
    """One queue of this node.

    Partitions are opened at the first use and closed when nothing needs them; until all are open,
    what is asked of the queue waits in `pending`.
    """

    def __init__(
        self,
        definition: Definition,
        new_log: Callable[[], LogId],
        counters: Counters,
        reads: Reads,
        woken: Callable[[Queue], None],
        *,
        base: int = 0,
        key: str = "",
    ) -> None:
        self.definition = definition
        self.key = key or definition.name
        """The name under which requests find it; a shard of a queue has one of its own."""
        self._base = base
        self.partitions: list[Partition] = []
        self.readers: list[ReadAhead] = []
        self.waiters: deque[Waiter] = deque()
        self.pending: list[tuple[Callable[[Now], None], Callable[[Now, DMQError], None]]] = []
        """What waits for the partitions: what to do then, and what if the queue is deleted first."""
        self.opening = 0
        self.damaged: list[bytes] = []
        """Keys of records that could not be read when the partitions were opened."""
        self.used_at = 0.0
        self._new_log = new_log
        self._counters = counters
        self._reads = reads
        self._woken = woken
        self._turn = 0
        self._resting: dict[int, dict[bool, tuple[LogId, int]]] = {}

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def open(self) -> bool:
        return bool(self.partitions) and not self.opening and not self._outgrown

    @property
    def _outgrown(self) -> bool:
        """Whether it is in memory and has got more partitions meanwhile."""
        return 0 < len(self.partitions) < self.definition.settings.partitions

    def redefine(self, definition: Definition) -> None:
        """Take over changed settings."""
        self.definition = definition
        for partition in self.partitions:
            partition.settings = definition.settings

    def at(self, index: int) -> Partition | None:
        """Return partition `index` of the queue, None if it is not here."""
        index -= self._base
        return self.partitions[index] if 0 <= index < len(self.partitions) else None

    # --- opening and closing ---------------------------------------------------------------------

    def start_opening(
        self, now: Now, opened: Callable[[Now, WriteBatch], None], *, alone: bool = False
    ) -> None:
        """Begin to load the partitions that are not in memory.

        Arguments:
            opened: called for each with what is to be written.
            alone: whether there are no other copies.
        """
        there, count = len(self.partitions), self.definition.settings.partitions
        self.opening += count - there
        for index in range(there, count):
            id_ = partition_id(self.definition.id, self._base + index)
            partition = Partition(id_, self.definition.settings, self._new_log, self._counters)
            partition.appends.resting = self._resting.pop(index, {})
            self.partitions.append(partition)
            self.readers.append(ReadAhead(partition, self._reads, lambda: self._woken(self)))
        for partition in self.partitions[there:]:
            self._reads.start(
                now,
                load(partition, now, self.damaged, alone=alone),
                lambda now, ops, p=partition: self._loaded(now, p, ops, opened),  # type: ignore[misc]
            )

    def _loaded(
        self, now: Now, partition: Partition, ops: WriteBatch, opened: Callable[[Now, WriteBatch], None]
    ) -> None:
        if partition in self.partitions:
            self.opening -= 1
            opened(now, ops)

    @property
    def idle(self) -> bool:
        """Whether the partitions may be closed: they can be loaded again as they are."""
        return (
            self.open
            and not self.waiters
            and not self.pending
            and all(p.idle for p in self.partitions)
            and not any(r.busy for r in self.readers)
        )

    @property
    def quiet(self) -> bool:
        """Whether nothing of its partitions is being written, read or moved."""
        if self.opening or any(r.busy for r in self.readers):
            return False
        return not any(p.unsaved or p.holds.unsaved or p.writing or p.exhausted for p in self.partitions)

    def rest(self) -> None:
        """Close while nobody uses it; remember the logs of this run, to append to them when it is used again.

        Each opening would begin logs of its own otherwise, and of every log a record stays for ever.
        """
        self._resting = {n: p.appends.rest() for n, p in enumerate(self.partitions)}
        self.close()

    def close(self) -> None:
        """Forget the partitions, be they open or being opened."""
        self.opening = 0
        self.damaged = []
        self.partitions = []
        self.readers = []

    @property
    def cached(self) -> int:
        """Bytes of message bodies in memory."""
        return sum(p.ready.cached for p in self.partitions)

    def drop_cache(self) -> None:
        """Let go of what was read ahead; it is read again when somebody receives."""
        for partition in self.partitions:
            for log, low in partition.ready.clear(again=False).items():
                log.rewind(low)

    # --- sending ---------------------------------------------------------------------------------

    def send(
        self, now: Now, request: Send, batch: Batch, *, moved: bool = False
    ) -> tuple[Runs, int, list[Partition]]:
        """Take in a send; return where its messages are, how many were duplicates, the partitions concerned.

        Arguments:
            moved: the messages come from another queue of this node, which took them: they are not refused.

        Errors: InvalidRequest, LimitExceeded, Refused; then nothing was taken.
        """
        self.definition.check_send(0 if moved else batch.longest(), request.delay)
        pieces = split(self.definition, request, batch)
        for index in pieces if not moved else ():
            self._check_dedup(self.partitions[index].dedup, request, batch)
        placed: dict[int, tuple[LogId, int]] = {}
        runs: Runs = []
        duplicates = 0
        for index, chosen in pieces.items():
            part = batch if len(pieces) == 1 else batch.select(chosen)
            runs, known = self.partitions[index].append(
                now,
                part,
                delay=request.delay,
                producer=request.producer,
                sequence=request.sequence,
                floor=request.floor,
            )
            duplicates += known
            if len(pieces) > 1:
                seqs = ((log, first + n) for log, first, count in runs for n in range(count))
                placed.update(zip(chosen, seqs, strict=True))
        if len(pieces) > 1:
            runs = join_runs([placed[i] for i in range(batch.count)])
        return runs, duplicates, [self.partitions[i] for i in pieces]

    @staticmethod
    def _check_dedup(dedup: Dedup, request: Send, batch: Batch) -> None:
        if "d" in batch.metadata and dedup.full:
            raise LimitExceeded(
                "this queue remembers as many dedup ids as it can; send slower or use more partitions",
                retryable=True,
            )
        if not request.producer:
            return
        if dedup.settled(request.producer, request.sequence):
            raise Refused("this send was settled before; a repetition comes too late to be recognised")
        if dedup.crowded(request.producer, request.sequence, request.floor):
            raise LimitExceeded(
                "too many sends of this producer are not settled; raise the floor of what is", retryable=True
            )

    # --- receiving -------------------------------------------------------------------------------

    def serve(
        self, now: Now, new_delivery: Callable[[], int], blocked: Set[int] = frozenset()
    ) -> Iterator[tuple[Waiter, Delivered | None]]:
        """Give what is ready to those who wait, first come, first served, except to `blocked` sessions.

        Those who only watch are given None, that something is ready.
        """
        while not self.definition.settings.paused:
            waiter = next((w for w in self.waiters if w.session not in blocked), None)
            if waiter is None:
                return
            if not waiter.request.max_messages:
                if not any(p.ready for p in self.partitions):
                    return
                self.waiters.remove(waiter)
                yield waiter, None
                continue
            parts = self._take(now, waiter, new_delivery)
            if not parts:
                return
            self.waiters.remove(waiter)
            yield waiter, Delivered(self.name, waiter.visibility, parts)

    def _take(self, now: Now, waiter: Waiter, new_delivery: Callable[[], int]) -> list[Part]:
        parts: list[Part] = []
        left, room = waiter.request.max_messages, waiter.request.max_bytes
        count = len(self.partitions)
        for n in range(count):
            partition = self.partitions[(self._turn + n) % count]
            if not partition.ready:
                continue
            got, size = partition.take(
                now, new_delivery(), waiter.holder, waiter.visibility, left, room, first=not parts
            )
            parts += got
            room -= size
            left -= sum(p.count for p in got)
            if left <= 0 or room <= 0:
                break
        self._turn = (self._turn + 1) % count
        return parts

    def fill(self, now: Now) -> None:
        """Read ahead where consumers have taken, or wait."""
        for reader in self.readers:
            reader.fill(now)
