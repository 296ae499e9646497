"""What the methods of a client come to: which requests, and what is read from their answers.

Each is a procedure: it yields a request, is sent the answer, or has the error raised where it asked, and
returns the result.  The blocking and the trio client both run them, each in its way, so that they cannot
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import cbor2

from dmqnode.batch import MAX_MESSAGES
from dmqnode.checks import check_request, whole
from dmqnode.errors import DMQError, PartlyFailed, StaleReceipt, Unavailable, Unknown, UsageError
from dmqnode.messages import (
    Ack,
    Browse,
    Browsed,
    CreateQueue,
    DeleteQueue,
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
    Part,
    PurgeQueue,
    QueueInfo,
    QueueList,
    Receive,
    Redrive,
    Report,
    SetQueue,
    Settled,
    Step,
)
from dmqnode.received import HELD_AT_ONCE, Failure, Named, Naming, failures_of, outcome_of

T = TypeVar("T")
_Request = Callable[[list[Held]], Message]
Question = Generator[Message, Any, T]
"""Yields requests, is sent their answers."""
Fields = dict[str, Any]

RECEIVE_BYTES = 4 << 20
"""Bytes that one receive brings at most, unless its first message is longer."""
LIST_AT_ONCE = 1000
BROWSE_AT_ONCE = 1000
REDRIVE_AT_ONCE = 4096


def proceed(question: Question[T], answer: Any) -> Message:
    """Return a question's next request.

    Arguments:
        answer: to the request before, or the error of it; None to begin.

    Errors: StopIteration with the result; a DMQError.
    """
    return question.throw(answer) if isinstance(answer, DMQError) else question.send(answer)


def receiving(queue: str, max_messages: int, wait: float, visibility: float | None, holder: str) -> Receive:
    """Return the request for `receive`.

    Errors: UsageError.
    """
    request = Receive(queue, max_messages, RECEIVE_BYTES, wait, visibility, holder)
    check_request(request)
    if not 1 <= max_messages <= MAX_MESSAGES:
        raise UsageError(f"max_messages is {max_messages}; it must be within 1 and {MAX_MESSAGES}")
    if not 0 <= wait <= 3600:
        raise UsageError(f"wait is {wait:g} s; it must be within 0 s and 1 h")
    return request


# --- ack, nack, extend -----------------------------------------------------------------------------------


def ack(named: Named | Iterable[Named]) -> Question[None]:
    """Ack messages.

    Errors: StaleReceipt where there is one message, PartlyFailed of several.
    """
    return _settle(Naming(named), Ack, lambda held: Ack(held, True))


def extend(named: Named | Iterable[Named], seconds: float) -> Question[None]:
    """Hide messages for `seconds` from now; errors as for `ack`."""
    return _settle(Naming(named), lambda held: Extend(held, seconds))


def nack(named: Named | Iterable[Named], delay: float, dead_letter: bool, reason: str) -> Question[None]:
    """Give messages back; errors as for `ack`."""
    return _settle(Naming(named), lambda held: Nack(held, delay, dead_letter, reason))


def _settle(naming: Naming, request: _Request, again: _Request | None = None) -> Question[None]:
    """Ask for all messages, in as many requests as that takes.

    One that fails is the error only if it is the first: otherwise some of the messages may be done, so that
    it is the error of its messages, and those behind it are not asked for.

    Arguments:
        request: makes a request.
        again: makes one that repeats a part of another; `request` by default.
    """
    failures: list[Failure] = []
    lost: list[Failure] = []
    for offset, held in naming.pieces():
        try:
            settled: Settled = yield request(held)
        except DMQError as error:
            if not offset:
                raise
            end = offset + len(held)
            lost += [(at, error) for at in range(offset, end)]
            skipped = Unavailable(f"not asked for any more, as the request before failed: {error}")
            lost += [(at, skipped) for at in range(end, len(naming.held))]
            break
        failures += failures_of(settled, offset)
    precise = yield from _precisely(naming, failures, again or request)
    outcome = outcome_of(naming.count, precise + naming.failures(lost))
    if outcome is not None:
        raise outcome


def _precisely(naming: Naming, failures: list[Failure], request: _Request) -> Question[list[Failure]]:
    """A range that failed has good messages, too: ask again for each.

    Those are done already (ack, extend), or nothing of the range is (nack).
    """
    held, places = naming.singly(failures)
    if len(held) == len(failures):
        return naming.failures(failures)
    # That this is a repetition must not cast doubt on what was answered with certainty.
    sure = next((why for _, why in failures), None) if all(_is_stale(why) for _, why in failures) else None
    precise: list[Failure] = []
    for at in range(0, len(held), HELD_AT_ONCE):
        piece: list[Held] = held[at : at + HELD_AT_ONCE]
        try:
            settled: Settled = yield request(piece)
        except DMQError as error:
            return precise + [(place, error) for place in places[at:]]
        for n, why in failures_of(settled, at):
            doubted = sure is not None and isinstance(why, Unknown)
            precise.append((places[n], StaleReceipt(str(sure)) if doubted else why))
    return precise


def _is_stale(why: DMQError) -> bool:
    return isinstance(why, StaleReceipt)


# --- queues ----------------------------------------------------------------------------------------------


def create_queue(name: str, if_not_exists: bool, settings: Fields) -> Question[Fields]:
    """Create a queue; return its definition."""
    answer: QueueInfo = yield CreateQueue(name, settings, if_not_exists)
    return answer.info


def set_queue(name: str, settings: Fields) -> Question[Fields]:
    """Change a queue's settings; return its definition."""
    answer: QueueInfo = yield SetQueue(name, settings)
    return answer.info


def get_queue(name: str) -> Question[Fields]:
    """Return a queue's definition and counts."""
    answer: QueueInfo = yield GetQueue(name)
    return answer.info


def delete_queue(name: str) -> Question[None]:
    """Delete a queue."""
    yield DeleteQueue(name)


def purge_queue(name: str) -> Question[int]:
    """Kill all messages of a queue; return how many there were."""
    answer: Done = yield PurgeQueue(name)
    return answer.count


def list_queues(prefix: str, counts: bool) -> Question[list[Fields]]:
    """Return all queues whose names start with `prefix`."""
    found: list[Fields] = []
    while True:
        after = found[-1]["name"] if found else ""
        answer: QueueList = yield ListQueues(prefix, after, LIST_AT_ONCE, counts)
        found += answer.queues
        if not answer.more or not answer.queues:
            return found


def redrive(queue: str, to: str | None, limit: int | None) -> Question[int]:
    """Move messages of a dead-letter queue back, step by step; return how many.

    Errors: PartlyFailed where a step fails after others; it says how many were moved.
    """
    if limit is not None and whole("limit", limit) < 1:
        raise UsageError(f"limit is {limit}; it must be at least 1")
    moved = 0
    while limit is None or moved < limit:
        step = REDRIVE_AT_ONCE if limit is None else min(REDRIVE_AT_ONCE, limit - moved)
        try:
            answer: Done = yield Redrive(queue, to, step)
        except DMQError as error:
            if not moved:
                raise
            raise PartlyFailed(f"{moved} messages were moved, and then: {error}", [(moved, error)]) from error
        moved += answer.count
        if not answer.count:
            break
    return moved


def explain(name: str) -> Question[Fields]:
    """Return why nothing comes out of a queue."""
    answer: Report = yield Explain(name)
    return answer.fields


def status() -> Question[Fields]:
    """Return the statistics of the node that is asked."""
    answer: Report = yield NodeStatus()
    return answer.fields


def members() -> Question[Fields]:
    """Return the members of the cluster."""
    answer: Report = yield Members()
    return answer.fields


def change_members(kind: str, member: bytes, *, destroyed: bool) -> Question[None]:
    """Let a node join, leave or be forgotten; see `Step`."""
    yield Step(kind, member, destroyed)


def retire(member: Fields) -> Question[None]:
    """Let nothing be placed any more on a member as `members` lists it, so that what it has moves away."""
    record = [bytes.fromhex(member["node_id"]), member["name"], member["address"], member["zone"], 0.0]
    return change_members("join", cbor2.dumps(record), destroyed=False)


def look(queue: str, state: str, limit: int, cursor: bytes | None) -> Question[Browsed]:
    """Return the next messages in `state`, and where to go on."""
    answer: Browsed = yield Browse(queue, state, min(limit, BROWSE_AT_ONCE), RECEIVE_BYTES, cursor)
    return answer


def browse(queue: str, state: str, limit: int) -> Question[list[Part]]:
    """Return parts of up to `limit` messages in `state`."""
    whole("limit", limit)
    parts: list[Part] = []
    cursor: bytes | None = None
    while limit > 0:
        answer = yield from look(queue, state, limit, cursor)
        parts += answer.parts
        limit -= sum(p.count for p in answer.parts)
        cursor = answer.cursor
        if cursor is None:
            break
    return parts
