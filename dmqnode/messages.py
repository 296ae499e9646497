"""Every message of the protocol: frozen, tagged, append-only.

Never reuse or renumber a tag; add fields only at the end, with a default.  How they become bytes is
in `wire`; what each means is in dmq-protocol(7).  Durations are seconds from arrival (clocks differ,
durations do not); `sent_at` is the acceptor's wall clock in milliseconds since 1970.
A `Blob` is one message batch as in `batch`; it travels behind the CBOR head of its frame, uncopied.
"""

from __future__ import annotations

from typing import Any, ClassVar, NewType, dataclass_transform

from dmqnode.ids import LogId, PartitionId

Blob = NewType("Blob", bytes)
LEADS = "leads"

BY_TAG: dict[int, type[Message]] = {}


@dataclass_transform(frozen_default=True)
class _RecordType(type):
    """Makes a class of annotated fields a frozen record with slots.

    It gives what `dataclasses` would, without compiling source text for each of forty classes: that
    takes longer than all else that a one-shot command has to import.
    """

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], tag: int = 0
    ) -> _RecordType:
        fields = tuple(n for n, t in namespace.get("__annotations__", {}).items() if "ClassVar" not in t)
        defaults = tuple(namespace.pop(field) for field in fields if field in namespace)
        namespace.update(__slots__=fields, __match_args__=fields, FIELDS=fields, DEFAULTS=defaults, TAG=tag)
        cls: Any = super().__new__(mcs, name, bases, namespace)
        cls._setters = tuple(cls.__dict__[field].__set__ for field in fields)
        if tag:
            assert tag not in BY_TAG, f"tag {tag} is taken by {BY_TAG[tag].__name__}"
            BY_TAG[tag] = cls
        return cls  # type: ignore[no-any-return]


class Record(metaclass=_RecordType):
    """A frozen value: fields in order, by position or by name, the last ones with defaults."""

    DEFAULTS: ClassVar[tuple[Any, ...]]
    _setters: ClassVar[tuple[Any, ...]]
    FIELDS: ClassVar[tuple[str, ...]]
    TAG: ClassVar[int]

    def __init__(self, *values: Any, **named: Any) -> None:
        if named or len(values) != len(self._setters):
            values = self._complete(values, named)
        for set_field, value in zip(self._setters, values):
            set_field(self, value)

    @classmethod
    def _complete(cls, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        fields = cls.FIELDS
        if not named and 0 < (absent := len(fields) - len(values)) <= len(cls.DEFAULTS):
            return values + cls.DEFAULTS[-absent:]
        defaults = dict(zip(reversed(fields), reversed(cls.DEFAULTS)))
        given = {**dict(zip(fields, values)), **named}
        missing = [f for f in fields if f not in given and f not in defaults]
        surplus = named.keys() & set(fields[: len(values)]) or named.keys() - set(fields)
        if missing or surplus or len(values) > len(fields):
            raise TypeError(f"{cls.__name__}{fields} cannot be made of {values} and {named}")
        return tuple(given[f] if f in given else defaults[f] for f in fields)

    def values(self) -> list[Any]:
        """Return the fields in order."""
        return [getattr(self, field) for field in self.FIELDS]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), *self.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{f}={getattr(self, f)!r}' for f in self.FIELDS)})"


class Message(Record):
    """What every protocol message is; `TAG` is its number on the wire."""


# --- the connection itself ---------------------------------------------------------------------------


class Hello(Message, tag=1):
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


class Welcome(Message, tag=2):
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


class Ping(Message, tag=3):
    """Are you there?  Answered by Pong with the same number."""


class Pong(Message, tag=4):
    """I am."""


class Cancel(Message, tag=5):
    """Give up the request of this frame's number; it is still answered, perhaps with Cancelled."""


class Cancelled(Message, tag=6):
    """The request was given up and did nothing."""


class Credit(Message, tag=7):
    """Changes how many bytes of unanswered requests the client may have under way."""

    credit: int


class Goodbye(Message, tag=8):
    """The sender will close: answers under way still come, new requests are refused."""

    code: str
    reason: str


class Failed(Message, tag=9):
    """The request was not done, or (stored="unknown") perhaps done."""

    code: str
    message: str
    retryable: bool
    stored: str = "no"


class Leads(Message, tag=10):
    """Who leads a partition that the client asked for; told to those whose Hello names LEADS."""

    queue: str
    partition: PartitionId
    partitions: int
    """How many the queue has; the last two bytes of `partition` say which of them it is."""
    node: str
    """The leader's name, as its Welcome says it."""
    address: str


# --- sending -----------------------------------------------------------------------------------------


class Send(Message, tag=16):
    """Stores one batch.

    `producer` and `sequence` name a send to one queue for ever: a repetition is answered as the first was.
    Every send of this producer to it with a sequence below `floor` is settled and may be forgotten.
    """

    queue: str
    producer: bytes
    sequence: int
    floor: int
    delay: float | None
    """None: the queue's own delay."""
    create: bool
    batch: Blob
    moved: bool = False
    """The messages come from another queue, which took them.  Between nodes only."""
    spread: int = 0
    """Over how many partitions it is spread; 0: those that the queue was created with."""


class Stored(Message, tag=17):
    """The batch is on disk.  `runs`, in batch order: (log, first seq, count)."""

    runs: list[tuple[LogId, int, int]]
    duplicates: int
    spread: int = 0
    """What to put into `spread` of sends made from now on; 0: nothing else than before."""
    ordered: bool = False


# --- receiving ---------------------------------------------------------------------------------------


class Receive(Message, tag=18):
    """Asks for at most `max_messages`, waiting at most `wait` seconds for the first."""

    queue: str
    max_messages: int
    max_bytes: int
    wait: float
    visibility: float | None
    holder: str = ""
    """Who takes them, as `explain` shows it; empty: the client's name."""


class Part(Record):
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


class Delivered(Message, tag=19):
    """What a Receive got, hidden for `visibility` seconds from the answer on; empty after its wait."""

    queue: str
    visibility: float
    parts: list[Part]


Held = tuple[PartitionId, int, LogId, int, int]
"""(partition, delivery, log, first seq, count): neighbouring messages of one delivery."""


class Ack(Message, tag=20):
    """These are done.  `again`: this repeats a request whose answer was lost; what is gone counts as done."""

    held: list[Held]
    again: bool = False


class Nack(Message, tag=21):
    """To be delivered again in `delay` seconds, or dead letters.  `undelivered`: this was no attempt."""

    held: list[Held]
    delay: float
    dead_letter: bool
    reason: str
    again: bool = False
    undelivered: bool = False


class Extend(Message, tag=22):
    """These stay hidden for `visibility` seconds from now."""

    held: list[Held]
    visibility: float


class Settled(Message, tag=23):
    """Answers Ack, Nack and Extend.  `failed`: (index into held, code, sentence) of each that was refused."""

    failed: list[tuple[int, str, str]]


# --- queues ------------------------------------------------------------------------------------------


class CreateQueue(Message, tag=32):
    """`settings` as in queue definitions; what is left out takes its default."""

    queue: str
    settings: dict[str, Any]
    if_not_exists: bool


class SetQueue(Message, tag=33):
    """Changes the settings given, leaves the others."""

    queue: str
    settings: dict[str, Any]


class DeleteQueue(Message, tag=34):
    """Deletes the queue with all its messages."""

    queue: str


class PurgeQueue(Message, tag=35):
    """Kills every message accepted so far; answered by Done with their count."""

    queue: str


class GetQueue(Message, tag=36):
    """Asks for one queue's definition and counts."""

    queue: str


class QueueInfo(Message, tag=37):
    """A queue's definition and counts, under the field names of `dmq queue show --json`."""

    info: dict[str, Any]


class ListQueues(Message, tag=38):
    """Asks for the queues whose names start with `prefix` and sort behind `after`, at most `limit`."""

    prefix: str
    after: str
    limit: int
    counts: bool


class QueueList(Message, tag=39):
    """Answers ListQueues."""

    queues: list[dict[str, Any]]
    more: bool


class Browse(Message, tag=40):
    """Looks at messages without taking them.  `state`: ready, delayed or in-flight."""

    queue: str
    state: str
    limit: int
    max_bytes: int
    cursor: bytes | None


class Browsed(Message, tag=41):
    """Answers Browse; `cursor` goes into the next Browse, None at the end."""

    parts: list[Part]
    cursor: bytes | None


class Explain(Message, tag=42):
    """Why is nothing coming out?"""

    queue: str


class Report(Message, tag=43):
    """A report with named fields: answers Explain, NodeStatus and Members."""

    fields: dict[str, Any]


class Redrive(Message, tag=44):
    """Moves at most `limit` messages of a dead-letter queue to `to`, or to where each came from."""

    queue: str
    to: str | None
    limit: int


class Done(Message, tag=45):
    """It is done; `count` things were affected, `more` may be left."""

    count: int
    more: bool = False


class NodeStatus(Message, tag=46):
    """Asks for this node's statistics."""


class Members(Message, tag=47):
    """Asks for the members of the cluster, as this node sees them."""


class Step(Message, tag=48):
    """Asks for a change of the members: that `member` may "join", or "leave", or be forgotten ("forget").

    `member` is its id, for a join [id, name, address, zone, weight] in CBOR.  `destroyed` says of one to be
    forgotten that it need not have been away for long.  Answered by Report.
    """

    kind: str
    member: bytes
    destroyed: bool
