"""Messages as a consumer has them, and how many of them are named in few words again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from dmqnode.batch import Batch, parse
from dmqnode.errors import DMQError, PartlyFailed, StaleReceipt, UsageError, failure
from dmqnode.ids import LogId, PartitionId, Receipt, message_id, parse_receipt
from dmqnode.messages import Held, Part, Settled

HELD_AT_ONCE = 1000
"""Ranges of messages in one ack, nack or extend: such a frame is short enough for any node."""


class Origin:
    """What the messages of one part of a delivery share."""

    __slots__ = ("attempt", "batch", "client", "delivery", "first", "log", "partition", "queue", "sent_at")

    def __init__(self, client: Any, queue: str, part: Part, batch: Batch) -> None:
        self.client = client
        self.queue = queue
        self.batch = batch
        self.partition: PartitionId = part.partition
        self.delivery = part.delivery
        self.log: LogId = part.log
        self.first = part.first
        self.attempt = part.attempt
        self.sent_at = part.sent_at / 1000


class Received:
    """One message; `body` is what was sent.  Its other fields are read when they are asked for."""

    __slots__ = ("__weakref__", "body", "index", "origin", "settled")

    def __init__(self, origin: Origin, index: int, body: bytes) -> None:
        self.origin = origin
        self.index = index
        self.body = body
        self.settled = False
        """Whether an ack or nack was asked for."""

    @property
    def id(self) -> str:
        """The message's id, for ever the same."""
        return message_id(self.origin.log, self.origin.first + self.index)

    @property
    def queue(self) -> str:
        """The queue that it was received from."""
        return self.origin.queue

    @property
    def attributes(self) -> dict[str, str]:
        """A new dict of its attributes."""
        return self.origin.batch.attributes(self.index)

    @property
    def group(self) -> str | None:
        """The group within which messages are kept in order."""
        group: str | None = self.origin.batch.value("g", self.index)
        return group

    @property
    def ttl(self) -> float | None:
        """Seconds from `sent_at` after which it is dropped."""
        found = self.origin.batch.value("t", self.index)
        return None if found is None else found / 1000

    @property
    def dedup_id(self) -> str | None:
        """The dedup id that it was sent with."""
        name: str | None = self.origin.batch.value("d", self.index)
        return name

    @property
    def attempt(self) -> int:
        """How often it has been delivered, this time included."""
        return self.origin.attempt

    @property
    def sent_at(self) -> float:
        """When it was taken in, seconds since 1970 by the node's clock."""
        return self.origin.sent_at

    @property
    def receipt(self) -> str | None:
        """What names this delivery to ack, nack and extend; None where it was only looked at."""
        o = self.origin
        if not o.delivery:
            return None
        return str(Receipt(o.partition, o.delivery, o.log, o.first + self.index))

    def __repr__(self) -> str:
        size = f"{len(self.body)} bytes"
        return f"<{type(self).__name__} {self.id} of {self.queue!r}, {size}, attempt {self.attempt}>"


M = TypeVar("M", bound=Received)


def unpack(cls: type[M], client: Any, queue: str, parts: list[Part]) -> list[M]:
    """Make the messages of a delivery.

    Arguments:
        cls: the kind of message that the client gives out.
        client: what their methods ask.

    Errors: ProtocolError for a batch that is none.
    """
    messages: list[M] = []
    for part in parts:
        batch = parse(part.batch)
        origin = Origin(client, queue, part, batch)
        messages += [cls(origin, i, body) for i, body in enumerate(batch.bodies())]
    return messages


# --- ack, nack, extend -----------------------------------------------------------------------------------

Named = Received | str
"""A message, or the receipt of one."""


class Naming:
    """Messages or receipts, as the ranges that a request names them by.

    Neighbouring messages of one delivery are one range, so that an ack of thousands is a short frame.

    Arguments:
        named: one message or receipt, or many.

    Errors: UsageError for what is neither.
    """

    def __init__(self, named: Named | Iterable[Named]) -> None:
        items = many(named)
        self.held: list[Held] = []
        self._starts: list[int] = []
        """Which of the items is the first of each range."""
        self.count = len(items)
        partition, delivery, log, low, high, start = b"", 0, b"", 0, 0, 0
        for n, item in enumerate(items):
            if isinstance(item, Received):
                o = item.origin
                p, d, g, seq = o.partition, o.delivery, o.log, o.first + item.index
                if not d:
                    raise UsageError(f"message {item.id} was only looked at; receive it to ack or nack it")
            elif isinstance(item, str):
                p, d, g, seq = parse_receipt(item)
            else:
                raise UsageError(f"a message or a receipt is expected, not {type(item).__name__}")
            if seq == high and d == delivery and g == log and p == partition:
                high += 1
                continue
            if n:
                self._add(start, partition, delivery, log, low, high)
            partition, delivery, log, low, high, start = p, d, g, seq, seq + 1, n
        if items:
            self._add(start, partition, delivery, log, low, high)

    def _add(self, start: int, partition: bytes, delivery: int, log: bytes, low: int, high: int) -> None:
        self._starts.append(start)
        self.held.append((PartitionId(partition), delivery, LogId(log), low, high - low))

    def pieces(self) -> Iterator[tuple[int, list[Held]]]:
        """Yield (index of its first range, ranges) for each request that is needed."""
        for at in range(0, len(self.held), HELD_AT_ONCE):
            yield at, self.held[at : at + HELD_AT_ONCE]

    def singly(self, failed: Sequence[Failure]) -> tuple[list[Held], list[int]]:
        """Return the messages of the ranges that failed one by one, and which item each is."""
        held: list[Held] = []
        places: list[int] = []
        for at, _ in failed:
            partition, delivery, log, low, count = self.held[at]
            held += [(partition, delivery, log, low + n, 1) for n in range(count)]
            places += range(self._starts[at], self._starts[at] + count)
        return held, places

    def failures(self, failed: Sequence[Failure]) -> list[Failure]:
        """Return (which item, why) for each message of the ranges that failed."""
        found: list[Failure] = []
        for at, error in failed:
            start = self._starts[at]
            found += [(start + n, error) for n in range(self.held[at][4])]
        return found


Failure = tuple[int, DMQError]
"""(which range or item, why)."""


def failures_of(settled: Settled, offset: int) -> list[Failure]:
    """Return what an answer says failed, by range, counted from `offset` on."""
    return [(offset + at, failure(code, why)) for at, code, why in settled.failed]


def outcome_of(count: int, failures: Sequence[Failure]) -> DMQError | None:
    """Return the error for `count` messages of which some failed: None, that of the only one, or both's."""
    if not failures:
        return None
    if count == 1:
        return failures[0][1]
    first = failures[0][1]
    open_ended = any(why.stored == "unknown" for _, why in failures)
    what = "were refused, or have no known outcome" if open_ended else "were refused"
    return PartlyFailed(f"{len(failures)} of {count} messages {what}; the first: {first}", failures)


def many(messages: Named | Iterable[Named]) -> list[Named]:
    """Return one or many as a list."""
    return [messages] if isinstance(messages, Received | str) else list(messages)


@contextmanager
def settling(messages: list[Named]) -> Iterator[None]:
    """Note of messages that they are settled, unless that failed for a reason beyond them."""
    try:
        yield
    except StaleReceipt:
        _note_settled(messages)
        raise
    except PartlyFailed as error:
        beyond = {at for at, why in error.failures if not isinstance(why, StaleReceipt)}
        _note_settled([m for at, m in enumerate(messages) if at not in beyond])
        raise
    _note_settled(messages)


def _note_settled(messages: list[Named]) -> None:
    for message in messages:
        if isinstance(message, Received):
            message.settled = True
