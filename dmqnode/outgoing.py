"""What a client sends: bodies with their options, checked and cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from dmqnode.batch import (
    MAX_ATTRIBUTES,
    MAX_ATTRIBUTES_SIZE,
    MAX_NAME,
    Batch,
    Column,
    Metadata,
    encode,
    encode_rows,
)
from dmqnode.checks import number, text
from dmqnode.errors import DMQError, PartlyFailed, UsageError

BATCH_MESSAGES = 8192
"""Messages in one batch of a stream: enough that the cost of the batch vanishes."""
PIPELINE = 4
"""Batches of a stream that are under way at once."""
_LOOK_AHEAD = 1024
"""Bodies taken from the caller's iterable at a time."""

Columns = dict[str, Any]
"""One message's values of the metadata columns, as in `batch`."""
NO_COLUMNS: Columns = {}
Sent = tuple[int, list[str], DMQError | None]
"""What became of one batch: how many messages, their ids, the error."""


class Outgoing(NamedTuple):
    """One message of `send_many` or `send_stream` with options of its own.

    `ttl` in seconds.  What is None takes the option of the whole call.
    """

    body: bytes
    attributes: Mapping[str, str] | None = None
    group: str | None = None
    ttl: float | None = None
    dedup_id: str | None = None


def columns(
    attributes: Mapping[str, str] | None, group: str | None, ttl: float | None, dedup_id: str | None
) -> Columns:
    """Check one message's options and return them as metadata columns.

    Errors: UsageError, naming the option.
    """
    found: Columns = {}
    if attributes:
        found["a"] = _attributes(attributes)
    if group is not None:
        found["g"] = _name("group", group)
    if ttl is not None:
        if not 0 < number("ttl", ttl) < 2**43:
            raise UsageError(f"ttl is {ttl!r} s; it must be above 0 s")
        found["t"] = max(1, round(ttl * 1000))
    if dedup_id is not None:
        found["d"] = _name("dedup_id", dedup_id)
    return found


def _attributes(attributes: object) -> dict[str, str]:
    if not isinstance(attributes, Mapping) or not all(
        type(k) is str and type(v) is str for k, v in attributes.items()
    ):
        raise UsageError("attributes must be a mapping from text to text")
    for key, value in attributes.items():
        text("the name of an attribute", key)
        text("the value of an attribute", value)
    if len(attributes) > MAX_ATTRIBUTES:
        raise UsageError(f"{len(attributes)} attributes are too many; the limit is {MAX_ATTRIBUTES}")
    if sum(len(k) + len(v) for k, v in attributes.items()) > MAX_ATTRIBUTES_SIZE:
        raise UsageError(f"the attributes of a message may have {MAX_ATTRIBUTES_SIZE} characters at most")
    return dict(attributes)


def _name(what: str, value: str) -> str:
    if type(value) is not str or not 0 < len(value) <= MAX_NAME:
        raise UsageError(f"{what} is {value!r:.80}; it must be a text of 1 to {MAX_NAME} characters")
    return text(what, value)


def body_bytes(body: object) -> bytes:
    """Return a body as bytes.

    Errors: UsageError for what is not bytes.
    """
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise UsageError(f"a body is bytes, and this one is {type(body).__name__}; encode text with .encode()")


_Row = tuple[bytes, Columns]
"""A message with options of its own."""


def cut(
    bodies: Iterable[bytes | Outgoing], shared: Columns, room: Callable[[], int]
) -> Iterator[Batch | UsageError]:
    """Cut a stream of bodies into batches, taking from it only as they are asked for.

    A body or option that cannot be ends them, and comes as the last: behind a batch of what was before it.
    Where that would be the first batch it does not come, so that nothing is sent of a few with a mistake.

    Arguments:
        shared: columns that every message has, unless it has its own.
        room: tells how many bytes of bodies a batch may have; one longer body is a batch by itself.
    """
    source = iter(bodies)
    rest: list[bytes | _Row] = []
    total = 0
    begun = False
    wrong: UsageError | None = None
    while wrong is None and (chunk := list(islice(source, _LOOK_AHEAD))):
        checked, wrong = _checked(chunk)
        rest += checked
        total += sum(map(len, chunk)) if checked is chunk else sum(map(_size, checked))
        while (begun or wrong is None) and (total > room() or len(rest) >= BATCH_MESSAGES):
            n, size = _fitting(rest, room())
            yield _batch(rest[:n], shared)
            begun = True
            rest, total = rest[n:], total - size
    if rest and (begun or wrong is None):
        yield _batch(rest, shared)
    if wrong is not None:
        yield wrong


def _checked(chunk: list[bytes | Outgoing]) -> tuple[Sequence[bytes | _Row], UsageError | None]:
    """Return what can be sent, up to what cannot."""
    if set(map(type, chunk)) == {bytes}:
        return chunk, None  # type: ignore[return-value]
    found: list[bytes | _Row] = []
    for item in chunk:
        try:
            if isinstance(item, Outgoing):
                own = columns(item.attributes, item.group, item.ttl, item.dedup_id)
                found.append((body_bytes(item.body), own))
            else:
                found.append(body_bytes(item))
        except UsageError as error:
            return found, error
    return found, None


def _size(item: bytes | _Row) -> int:
    if isinstance(item, bytes):
        return len(item)
    body, own = item
    attributes: dict[str, str] = own.get("a", {})
    return len(body) + sum(len(k) + len(v) for k, v in attributes.items())


def _fitting(items: list[bytes | _Row], room: int) -> tuple[int, int]:
    """Return how many items from the first on fit into `room` bytes, at least one, and their size."""
    total = 0
    for n, item in enumerate(items[:BATCH_MESSAGES]):
        size = len(item) if type(item) is bytes else _size(item)
        if n and total + size > room:
            return n, total
        total += size
    return min(len(items), BATCH_MESSAGES), total


def _batch(items: list[bytes | _Row], shared: Columns) -> Batch:
    if set(map(type, items)) == {bytes}:
        common: Metadata = {name: _column(value) for name, value in shared.items()}
        return encode(items, common)  # type: ignore[arg-type]
    return encode_rows([(i[0], {**shared, **i[1]}) if isinstance(i, tuple) else (i, shared) for i in items])


def _column(value: Any) -> Column:
    return value, {}


def outcome_of_stream(before: int, count: int, error: DMQError) -> DMQError:
    """Return the error for a stream that ends with `error`, that of `count` messages, `before` being stored.

    UsageError would say that nothing was sent.
    """
    if before and isinstance(error, UsageError):
        return outcome_of_many(before + count, [(before, count, error)])
    return error


def outcome_of_many(count: int, failures: Sequence[tuple[int, int, DMQError]]) -> DMQError:
    """Return the error for `count` messages sent in several batches, of which some failed.

    Arguments:
        failures: (first message, how many, why) of each batch that failed.
    """
    failed = sum(n for _, n, _ in failures)
    first, last = failures[0][2], failures[-1][2]
    if failed == count:
        # Where any may be stored, that is what must be told.
        return next((why for _, _, why in failures if why.stored == "unknown"), first)
    each = [(low + i, why) for low, n, why in failures for i in range(n)]
    if isinstance(last, UsageError):
        # It ended the sending, and nobody knows how many there would have been.
        return PartlyFailed(
            f"{failed} of {count} messages were not surely stored, and none behind them was sent: {last}",
            each,
        )
    return PartlyFailed(f"{failed} of {count} messages were not surely stored; the first: {first}", each)
