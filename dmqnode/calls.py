"""What a client has asked and has no answer to: the call, and how its kind may be repeated.

A call is repeated after a lost connection where that is safe:

    send                        yes: producer and sequence name it, the node answers as it did before
    ack, nack                   yes, marked `again`, so that what was done already counts as done
    extend, receive, questions  yes: repeating them changes nothing.  What a lost answer to a receive
                                delivered comes again when its visibility ends
    create                      yes; "exists" to a repetition is unknown, unless if_not_exists
    set                         yes: it names the values, not the steps
    delete, purge, redrive      no: meanwhile somebody else may have created or filled the queue
"""

from __future__ import annotations

import math
from typing import Any

from dmqnode.batch import Batch, encode, encode_rows
from dmqnode.errors import DMQError, failure
from dmqnode.ids import log_text
from dmqnode.messages import (
    Ack,
    Blob,
    Browse,
    Browsed,
    CreateQueue,
    DeleteQueue,
    Delivered,
    Done,
    Explain,
    Extend,
    GetQueue,
    Held,
    ListQueues,
    Members,
    Message,
    Nack,
    NodeStatus,
    PurgeQueue,
    QueueInfo,
    QueueList,
    Receive,
    Redrive,
    Report,
    Send,
    SetQueue,
    Settled,
    Step,
    Stored,
)
from dmqnode.outgoing import NO_COLUMNS, Columns

ANSWER_TO: dict[type[Message], type[Message]] = {
    Send: Stored,
    Receive: Delivered,
    Ack: Settled,
    Nack: Settled,
    Extend: Settled,
    CreateQueue: QueueInfo,
    SetQueue: QueueInfo,
    GetQueue: QueueInfo,
    ListQueues: QueueList,
    DeleteQueue: Done,
    PurgeQueue: Done,
    Redrive: Done,
    Browse: Browsed,
    Explain: Report,
    NodeStatus: Report,
    Members: Report,
    Step: Report,
}
"""What each request is answered by, unless it is refused or cancelled."""
CHANGE_NOTHING = frozenset({Receive, Extend, GetQueue, ListQueues, Browse, Explain, NodeStatus, Members})
NOT_REPEATED = frozenset({DeleteQueue, PurgeQueue, Redrive})
EARLY = 0.2
"""Seconds: a receive answered with nothing this long before its time is asked again."""
_ROUGHLY = 512
"""Bytes that a frame takes beside what is counted, at most."""
_HELD = 64
_NOTHING = Message()


LaneKey = tuple[str, float | None, bool]
"""(queue, delay, create)."""
Spreads = dict[str, int]
"""Over how many partitions sends to a queue are to be spread, of those that have got more."""
MAX_SPREADS = 10_000
Outcome = tuple[Any, Any, DMQError | None]
"""(owner, what came: an answer, or the id of a single send; the error otherwise)."""


class Call:
    """One request until its answer.

    `owner` is whoever waits for it, as the shell knows it; None once nobody does.
    """

    __slots__ = (
        "attempts",
        "deadline",
        "doubt",
        "homeward",
        "made",
        "not_before",
        "number",
        "owner",
        "refusal",
        "request",
        "route",
        "size",
        "tried",
    )

    def __init__(self, now: float, deadline: float, request: Message, owner: Any) -> None:
        self.request = request
        self.made = now
        self.deadline = deadline
        self.owner = owner
        self.size = _size_of(request)
        self.number = 0
        """Of the request on the present connection; 0 where it is not under way."""
        self.tried = 0
        """How many dials had failed when this was made."""
        self.attempts = 0
        self.not_before = -math.inf
        self.doubt = False
        """Whether an earlier attempt may have been done without its answer coming."""
        self.refusal: DMQError | None = None
        """Why the latest attempt was refused, of those that are made again."""
        self.route: Any = None
        """The way that it takes, while it waits to be written or is under way."""
        self.homeward = False
        """Whether it goes to the addresses that the client was given, whoever leads."""

    @property
    def kind(self) -> type[Message]:
        """The type of the request."""
        return type(self.request)

    @property
    def owners(self) -> list[Any]:
        """Whoever waits for it."""
        return [self.owner] if self.owner is not None else []

    def late(self, now: float) -> list[Any]:
        """Return those whose time is over."""
        return self.owners if self.deadline <= now else []

    def next_late(self) -> float:
        """Return when the next one's time is over, math.inf if nobody waits."""
        return self.deadline if self.owners else math.inf

    def postpone(self, seconds: float) -> None:
        """Give it so much more time."""
        self.deadline += seconds

    def early(self, now: float) -> bool:
        """Tell whether a receive that is answered with nothing is so before its time."""
        assert isinstance(self.request, Receive)
        return now + EARLY < min(self.made + self.request.wait, self.deadline)

    def seal(self) -> None:
        """It is about to be written: make the request."""

    def results(self, answer: Message) -> list[Outcome]:
        """Return what became of it, by the node's answer."""
        return [(owner, answer, None) for owner in self.owners]

    def message(self, now: float) -> Message:
        """Return what is written now."""
        request = self.request
        match request:
            case Receive() if self.attempts:
                left = max(0.0, min(request.wait, self.made + request.wait - now))
                return Receive(
                    request.queue,
                    request.max_messages,
                    request.max_bytes,
                    left,
                    request.visibility,
                    request.holder,
                )
            case Ack() if self.doubt:
                return Ack(request.held, True)
            case Nack(held, delay, dead_letter, reason) if self.doubt:
                return Nack(held, delay, dead_letter, reason, True, request.undelivered)
            case _:
                pass
        return request


def _size_of(request: Message) -> int:
    """Return an upper bound of the frame's size, bytes."""
    match request:
        case Ack() | Nack() | Extend():
            return _ROUGHLY + _HELD * len(request.held) + 4 * len(getattr(request, "reason", ""))
        case CreateQueue() | SetQueue():
            return _ROUGHLY + 4 * len(repr(request))
        case _:
            pass
    return _ROUGHLY + 4 * len(getattr(request, "queue", "")) + len(getattr(request, "cursor", None) or b"")


class Group(Call):
    """Calls that travel in one request: one member each, until it is sealed by being written.

    `members` are those who wait, None for one who does no more; `deadlines` are theirs.
    """

    __slots__ = ("bytes", "deadlines", "in_lane", "lane", "members", "room", "sealed")

    def __init__(self, now: float, deadline: float, lane: Any) -> None:
        super().__init__(now, deadline, _NOTHING, None)
        self.lane = lane
        self.members: list[Any] = []
        self.deadlines: list[float] = []
        self.bytes = 0
        self.room = 1
        """Bytes that it may have; one longer call is a group by itself."""
        self.sealed = False
        self.in_lane = False
        """Whether it takes one of its lane's places."""

    @property
    def owners(self) -> list[Any]:
        return [m for m in self.members if m is not None]

    def drop(self, owner: Any) -> None:
        """One waits no more; what it asked is left out, if nothing has been written."""
        if owner in self.members:
            at = self.members.index(owner)
            if self.sealed:
                self.members[at] = None
            else:
                self.remove(at)

    def remove(self, at: int) -> None:
        """Take a member out of a group that is not sealed."""
        del self.members[at], self.deadlines[at]

    def late(self, now: float) -> list[Any]:
        pairs = zip(self.members, self.deadlines)
        return [owner for owner, due in pairs if due <= now and owner is not None]

    def next_late(self) -> float:
        pairs = zip(self.members, self.deadlines)
        return min((due for owner, due in pairs if owner is not None), default=math.inf)

    def postpone(self, seconds: float) -> None:
        super().postpone(seconds)
        self.deadlines = [due + seconds for due in self.deadlines]

    def limit(self, until: float) -> None:
        """Give nobody more time than until then."""
        self.deadlines = [min(due, until) for due in self.deadlines]

    def seal(self) -> None:
        self.sealed = True


class SendGroup(Group):
    """Single sends with the same queue and delay, as one batch.

    `batch` makes it one whole batch that somebody waits for, whose outcome is the answer itself.
    """

    __slots__ = ("blob", "bodies", "columns", "keyed", "plain", "sequence", "spread", "spreads", "written")

    def __init__(self, now: float, deadline: float, lane: LaneKey, sequence: int, spreads: Spreads) -> None:
        super().__init__(now, deadline, lane)
        self.sequence = sequence
        self.spreads = spreads
        self.spread: int | None = None
        """Over how many partitions it was first spread: a repetition must find the same one."""
        self.written = math.inf
        """When it was first written to a connection."""
        self.blob = b""
        self.bodies: list[bytes] = []
        self.columns: list[Columns] = []
        self.plain = True
        self.keyed = False
        """Whether its messages have groups or dedup ids: those are spread over the partitions."""

    @property
    def kind(self) -> type[Message]:
        return Send

    def add(self, body: bytes, columns: Columns, owner: Any, deadline: float) -> int:
        """Let one more message travel along; return how many bytes longer that makes the batch, roughly."""
        more = len(body) + 8
        self.bodies.append(body)
        self.columns.append(columns)
        self.members.append(owner)
        self.deadlines.append(deadline)
        if columns is not NO_COLUMNS:
            self.plain = False
            self.keyed = self.keyed or "g" in columns or "d" in columns
            more += 4 * len(repr(columns))
        self.bytes += more
        return more

    def remove(self, at: int) -> None:
        super().remove(at)
        del self.bodies[at], self.columns[at]

    def take_over(self, other: SendGroup, low: int, high: int) -> None:
        """Let the messages `low` … `high` - 1 of another travel in this one instead."""
        for row in [*zip(other.bodies, other.columns, other.members, other.deadlines)][low:high]:
            self.add(*row)

    def take(self, batch: Batch, owner: Any) -> None:
        """Make this the call for a whole batch."""
        self.owner = owner
        self.members = [owner]
        self.deadlines = [self.deadline]
        self.bytes = len(batch.blob)
        self.keyed = "g" in batch.metadata or "d" in batch.metadata
        self._take(batch)

    def _take(self, batch: Batch) -> None:
        self.sealed = True
        self.blob = batch.blob
        self.size = _ROUGHLY + 4 * len(self.lane[0]) + len(batch.blob)

    def seal(self) -> None:
        if not self.sealed:
            rows = zip(self.bodies, self.columns)
            self._take(encode(self.bodies) if self.plain else encode_rows(list(rows)))

    def send(self, producer: bytes, floor: int) -> Send:
        """Return what is written now; every sequence below `floor` is settled."""
        queue, delay, create = self.lane
        if self.refusal is not None and self.refusal.code == "no-partition" and not self.doubt:
            # The queue is another one than when this was learned, and nothing was stored yet.
            self.spread = self.spreads[queue] = 0
        if self.spread is None:
            self.spread = self.spreads.get(queue, 0)
        return Send(queue, producer, self.sequence, floor, delay, create, Blob(self.blob), False, self.spread)

    def results(self, answer: Message) -> list[Outcome]:
        assert isinstance(answer, Stored)
        if answer.spread:
            self.spreads[self.lane[0]] = answer.spread
            if len(self.spreads) > MAX_SPREADS:
                del self.spreads[next(iter(self.spreads))]
        if self.owner is not None:
            return [(self.owner, answer, None)] if self.members[0] is not None else []
        pairs = zip(self.members, stored_ids(answer), strict=True)
        return [(owner, id_, None) for owner, id_ in pairs if owner is not None]


class AckGroup(Group):
    """Acks of single messages that met; their lane is the address to which they go, "" for those given."""

    __slots__ = ("held",)

    def __init__(self, now: float, deadline: float, lane: str) -> None:
        super().__init__(now, deadline, lane)
        self.held: list[Held] = []

    @property
    def kind(self) -> type[Message]:
        return Ack

    def add(self, held: Held, owner: Any, deadline: float) -> None:
        """Let one more ack travel along."""
        self.held.append(held)
        self.members.append(owner)
        self.deadlines.append(deadline)
        self.size = _ROUGHLY + _HELD * len(self.held)

    def remove(self, at: int) -> None:
        super().remove(at)
        del self.held[at]

    def message(self, now: float) -> Message:
        return Ack(self.held, self.doubt)

    def results(self, answer: Message) -> list[Outcome]:
        assert isinstance(answer, Settled)
        failed = {at: (code, why) for at, code, why in answer.failed}
        out: list[Outcome] = []
        for at, owner in enumerate(self.members):
            if owner is None:
                continue
            error = failure(*failed[at]) if at in failed else None
            out.append((owner, None, error))
        return out


def stored_ids(stored: Stored) -> list[str]:
    """Return the ids of the messages of a send, in order."""
    ids: list[str] = []
    for log, first, count in stored.runs:
        text = log_text(log)
        ids += [f"{text}-{n}" for n in range(first, first + count)]
    return ids
