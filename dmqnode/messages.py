"""Every message of the protocol: frozen, tagged, append-only.

Never reuse or renumber a tag; add fields only at the end, with a default.  How they become bytes is
in `wire`; what each means is in dmq-protocol(7).  Durations are seconds from arrival (clocks differ,
durations do not); `sent_at` is the acceptor's wall clock in milliseconds since 1970.
A `Blob` is one message batch as in `batch`; it travels behind the CBOR head of its frame, uncopied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NewType, TypeVar

from dmqnode.ids import LogId, PartitionId

Blob = NewType("Blob", bytes)

_M = TypeVar("_M", bound="type[Message]")
BY_TAG: dict[int, type[Message]] = {}


@dataclass(frozen=True, slots=True)
class Message:
    """What every protocol message is."""


def message(tag: int) -> Callable[[_M], _M]:
    """Register a message class under its number on the wire."""

    def register(cls: _M) -> _M:
        assert tag not in BY_TAG, f"tag {tag} is taken by {BY_TAG[tag].__name__}"
        BY_TAG[tag] = cls
        return cls

    return register


# --- the connection itself ---------------------------------------------------------------------------


@message(1)
@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Opens a connection; the first frame of the side that dialled."""

    lowest: int
    highest: int
    client: str
    """Names the program to operators, as `explain` shows it: host:pid, say."""
    user: str
    capabilities: list[str]
    max_frame: int
    """The longest frame that the sender will read, bytes."""
    token: str | None = None


@message(2)
@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """Answers Hello."""

    version: int
    cluster: str
    node: str
    capabilities: list[str]
    max_frame: int
    credit: int
    """Bytes of unanswered request frames that the client may have under way."""
    keepalive: float
    """A side that was silent this long is sent a Ping; silent for three times as long, it is gone."""


@message(3)
@dataclass(frozen=True, slots=True)
class Ping(Message):
    """Are you there?  Answered by Pong with the same number."""


@message(4)
@dataclass(frozen=True, slots=True)
class Pong(Message):
    """I am."""


@message(5)
@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """Give up the request of this frame's number; it is still answered, perhaps with Cancelled."""


@message(6)
@dataclass(frozen=True, slots=True)
class Cancelled(Message):
    """The request was given up and did nothing."""


@message(7)
@dataclass(frozen=True, slots=True)
class Credit(Message):
    """Changes how many bytes of unanswered requests the client may have under way."""

    credit: int


@message(8)
@dataclass(frozen=True, slots=True)
class Goodbye(Message):
    """The sender will close: answers under way still come, new requests are refused."""

    code: str
    reason: str


@message(9)
@dataclass(frozen=True, slots=True)
class Failed(Message):
    """The request was not done, or (stored="unknown") perhaps done."""

    code: str
    message: str
    retryable: bool
    stored: str = "no"


# --- sending -----------------------------------------------------------------------------------------


@message(16)
@dataclass(frozen=True, slots=True)
class Send(Message):
    """Stores one batch.

    `producer` and `sequence` name this send for ever: a repetition is answered as the first was.
    Every send of this producer with a sequence below `floor` is settled and may be forgotten.
    """

    queue: str
    producer: bytes
    sequence: int
    floor: int
    delay: float | None
    """None: the queue's own delay."""
    create: bool
    batch: Blob


@message(17)
@dataclass(frozen=True, slots=True)
class Stored(Message):
    """The batch is on disk.  `runs`, in batch order: (log, first seq, count)."""

    runs: list[tuple[LogId, int, int]]
    duplicates: int


# --- receiving ---------------------------------------------------------------------------------------


@message(18)
@dataclass(frozen=True, slots=True)
class Receive(Message):
    """Asks for at most `max_messages`, waiting at most `wait` seconds for the first."""

    queue: str
    max_messages: int
    max_bytes: int
    wait: float
    visibility: float | None
    holder: str = ""
    """Who takes them, as `explain` shows it; empty: the client's name."""


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring messages of one log: ids (log, first) … (log, first + count - 1)."""

    partition: PartitionId
    delivery: int
    """0 where nothing was delivered (Browsed)."""
    log: LogId
    first: int
    count: int
    attempt: int
    sent_at: int
    batch: Blob


@message(19)
@dataclass(frozen=True, slots=True)
class Delivered(Message):
    """What a Receive got; empty after its wait."""

    queue: str
    visibility: float
    """Seconds that these deliveries stay hidden, from the answer on."""
    parts: list[Part]


Held = tuple[PartitionId, int, LogId, int, int]
"""(partition, delivery, log, first seq, count): neighbouring messages of one delivery."""


@message(20)
@dataclass(frozen=True, slots=True)
class Ack(Message):
    """These are done.  `again`: this repeats a request whose answer was lost; what is gone counts as done."""

    held: list[Held]
    again: bool = False


@message(21)
@dataclass(frozen=True, slots=True)
class Nack(Message):
    """These are to be delivered again after `delay` seconds, or moved to the dead-letter queue."""

    held: list[Held]
    delay: float
    dead_letter: bool
    reason: str
    again: bool = False


@message(22)
@dataclass(frozen=True, slots=True)
class Extend(Message):
    """These stay hidden for `visibility` seconds from now."""

    held: list[Held]
    visibility: float


@message(23)
@dataclass(frozen=True, slots=True)
class Settled(Message):
    """Answers Ack, Nack and Extend.  `failed`: (index into held, code, sentence) of each that was refused."""

    failed: list[tuple[int, str, str]]


# --- queues ------------------------------------------------------------------------------------------


@message(32)
@dataclass(frozen=True, slots=True)
class CreateQueue(Message):
    """`settings` as in queue definitions; what is left out takes its default."""

    queue: str
    settings: dict[str, Any]
    if_not_exists: bool


@message(33)
@dataclass(frozen=True, slots=True)
class SetQueue(Message):
    """Changes the settings given, leaves the others."""

    queue: str
    settings: dict[str, Any]


@message(34)
@dataclass(frozen=True, slots=True)
class DeleteQueue(Message):
    """Deletes the queue with all its messages."""

    queue: str


@message(35)
@dataclass(frozen=True, slots=True)
class PurgeQueue(Message):
    """Kills every message accepted so far; answered by Done with their count."""

    queue: str


@message(36)
@dataclass(frozen=True, slots=True)
class GetQueue(Message):
    """Asks for one queue's definition and counts."""

    queue: str


@message(37)
@dataclass(frozen=True, slots=True)
class QueueInfo(Message):
    """A queue's definition and counts, under the field names of `dmq queue show --json`."""

    info: dict[str, Any]


@message(38)
@dataclass(frozen=True, slots=True)
class ListQueues(Message):
    """Asks for the queues whose names start with `prefix` and sort behind `after`, at most `limit`."""

    prefix: str
    after: str
    limit: int
    counts: bool


@message(39)
@dataclass(frozen=True, slots=True)
class QueueList(Message):
    """Answers ListQueues."""

    queues: list[dict[str, Any]]
    more: bool


@message(40)
@dataclass(frozen=True, slots=True)
class Browse(Message):
    """Looks at messages without taking them.  `state`: ready, delayed or in-flight."""

    queue: str
    state: str
    limit: int
    max_bytes: int
    cursor: bytes | None


@message(41)
@dataclass(frozen=True, slots=True)
class Browsed(Message):
    """Answers Browse; `cursor` goes into the next Browse, None at the end."""

    parts: list[Part]
    cursor: bytes | None


@message(42)
@dataclass(frozen=True, slots=True)
class Explain(Message):
    """Why is nothing coming out?"""

    queue: str


@message(43)
@dataclass(frozen=True, slots=True)
class Report(Message):
    """A report with named fields: answers Explain, NodeStatus and Members."""

    fields: dict[str, Any]


@message(44)
@dataclass(frozen=True, slots=True)
class Redrive(Message):
    """Moves at most `limit` messages of a dead-letter queue to `to`, or to where each came from."""

    queue: str
    to: str | None
    limit: int


@message(45)
@dataclass(frozen=True, slots=True)
class Done(Message):
    """It is done; `count` things were affected, `more` may be left."""

    count: int
    more: bool = False


@message(46)
@dataclass(frozen=True, slots=True)
class NodeStatus(Message):
    """Asks for this node's statistics."""


@message(47)
@dataclass(frozen=True, slots=True)
class Members(Message):
    """Asks for the members of the cluster, as this node sees them."""
