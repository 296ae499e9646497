"""Messages as JSON, one a line.

What `receive --json` and `export` print, and what `send --ndjson` and `import` take.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cli.lean import is_text
from dmqnode.durations import parse_duration
from dmqnode.errors import UsageError
from dmqnode.outgoing import Outgoing, columns

if TYPE_CHECKING:
    from dmqnode.received import Received

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@lru_cache(maxsize=1024)
def timestamp(seconds: float) -> str:
    """Return seconds since 1970 as people and programs read it: 2026-01-31T12:00:00.000Z."""
    at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return at.replace("+00:00", "Z")


def envelope(message: Received) -> str:
    """Return a message as one line of JSON; a body that is not UTF-8 becomes base64."""
    try:
        body, encoding = message.body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(message.body).decode("ascii"), "base64"
    fields: dict[str, Any] = {
        "id": message.id,
        "receipt": message.receipt,
        "body": body,
        "encoding": encoding,
        "attributes": message.attributes,
        "attempt": message.attempt,
        "sent_at": timestamp(message.sent_at),
        "queue": message.queue,
    }
    if message.group is not None:
        fields["group"] = message.group
    return _encode(fields)


def read_envelopes(lines: Iterable[bytes], source: str, numbers: Iterator[int]) -> Iterator[Outgoing]:
    """Read messages from lines of JSON; empty lines do not count.

    `body` is needed; `encoding`, `attributes`, `group`, `ttl` and `dedup_id` are taken where they are
    there; everything else, such as the id under which the message was once known, is left aside.

    Arguments:
        source: where the lines come from, for errors.
        numbers: of the lines, for errors.

    Errors: UsageError, naming the line.
    """
    for line, number in zip(lines, numbers):
        if not line.strip():
            continue
        try:
            yield _read(line)
        except (ValueError, UsageError) as error:
            raise UsageError(f"{source}, line {number}: {error}") from None


def _read(line: bytes) -> Outgoing:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"this is not JSON: {error.msg}") from None
    except RecursionError:
        raise UsageError("this is nested too deeply; an object of texts and numbers is wanted") from None
    if not isinstance(fields, dict):
        raise UsageError('this is not a JSON object; write {"body": "…"}')
    attributes = fields.get("attributes") or None
    if attributes is not None and not (
        isinstance(attributes, dict) and all(isinstance(v, str) for v in attributes.values())
    ):
        raise UsageError('"attributes" must be an object whose values are texts')
    for text in (*(attributes or {}), *(attributes or {}).values()):
        _check_text("attributes", text)
    group, ttl, dedup_id = _text(fields, "group"), _ttl(fields.get("ttl")), _text(fields, "dedup_id")
    # The client checks them too, but does not know the line.
    columns(attributes, group, ttl, dedup_id)
    return Outgoing(_body(fields), attributes=attributes, group=group, ttl=ttl, dedup_id=dedup_id)


def _body(fields: dict[str, Any]) -> bytes:
    body, encoding = fields.get("body"), fields.get("encoding", "utf-8")
    if not isinstance(body, str):
        raise UsageError('"body" is missing or not a text')
    _check_text("body", body)
    if encoding == "utf-8":
        return body.encode("utf-8")
    if encoding != "base64":
        raise UsageError(f'"encoding" is {encoding!r}; it is "utf-8" or "base64"')
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:  # binascii's, or about characters that no base64 has
        raise UsageError('"body" is not base64, as "encoding" says') from None


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f'"{name}" must be a text')
    if value is not None:
        _check_text(name, value)
    return value


def _check_text(name: str, text: str) -> None:
    """Errors: UsageError for half of a character: JSON has escapes for them, UTF-8 has none."""
    if not is_text(text):
        raise UsageError(f'"{name}" has an escape such as \\ud800 alone, which is no character; write both')


def _ttl(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise UsageError('"ttl" must be a number of seconds or a duration such as 5m')
