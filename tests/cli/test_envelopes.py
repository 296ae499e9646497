"""Messages as JSON."""

from __future__ import annotations

import json
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.envelopes import envelope, read_envelopes, timestamp
from dmqnode.errors import UsageError
from dmqnode.outgoing import Outgoing


def message(body: bytes, **fields: Any) -> Any:
    usual = {
        "id": "i-1",
        "receipt": "r",
        "attributes": {},
        "attempt": 1,
        "sent_at": 0.5,
        "queue": "q",
        "group": None,
    }
    return SimpleNamespace(body=body, **{**usual, **fields})


def read(*lines: str) -> list[Outgoing]:
    return list(read_envelopes([line.encode() for line in lines], "stdin", count(1)))


def test_the_fields_of_an_envelope() -> None:
    assert json.loads(envelope(message(b"x", attributes={"k": "v"}))) == {
        "id": "i-1",
        "receipt": "r",
        "body": "x",
        "encoding": "utf-8",
        "attributes": {"k": "v"},
        "attempt": 1,
        "sent_at": "1970-01-01T00:00:00.500Z",
        "queue": "q",
    }
    assert json.loads(envelope(message(b"x", group="g")))["group"] == "g"
    assert timestamp(1767268800.25) == "2026-01-01T12:00:00.250Z"


@given(st.binary(), st.dictionaries(st.text(), st.text()), st.none() | st.text(min_size=1, max_size=256))
def test_what_is_written_is_read_again(body: bytes, attributes: dict[str, str], group: str | None) -> None:
    line = envelope(message(body, attributes=attributes, group=group))
    assert "\n" not in line
    assert read(line) == [Outgoing(body, attributes=attributes or None, group=group)]


def test_what_import_takes() -> None:
    assert read('{"body": "a", "ttl": "5m", "dedup_id": "d", "id": "left aside"}', "", '{"body": ""}') == [
        Outgoing(b"a", ttl=300.0, dedup_id="d"),
        Outgoing(b""),
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "this is not JSON"),
        ("[]", "this is not a JSON object"),
        ("{}", '"body" is missing or not a text'),
        ('{"body": 1}', '"body" is missing or not a text'),
        ('{"body": "*", "encoding": "base64"}', '"body" is not base64'),
        ('{"body": "", "encoding": "rot13"}', "\"encoding\" is 'rot13'"),
        ('{"body": "", "attributes": {"a": 1}}', '"attributes" must be an object whose values are texts'),
        ('{"body": "", "group": 1}', '"group" must be a text'),
        ('{"body": "", "ttl": []}', '"ttl" must be a number of seconds'),
        ('{"body": "", "ttl": true}', '"ttl" must be a number of seconds'),
        ('{"body": "\\ud800"}', '"body" has an escape such as \\ud800 alone'),
        ('{"body": "", "group": "\\ud800"}', '"group" has an escape'),
        ('{"body": "", "dedup_id": "\\udfff"}', '"dedup_id" has an escape'),
        ('{"body": "", "attributes": {"k": "\\ud800"}}', '"attributes" has an escape'),
        ('{"body": "", "attributes": {"\\ud800": ""}}', '"attributes" has an escape'),
        ('{"body": "é", "encoding": "base64"}', '"body" is not base64'),
        ('{"body": "", "ttl": -1}', "ttl is -1 s"),
        ('{"body": "", "ttl": NaN}', "ttl is nan; it must be a finite number"),
        ('{"body": "", "group": ""}', "group is ''"),
        ('{"body": "", "attributes": {"k": "' + "x" * 70_000 + '"}}', "65536 characters at most"),
        ("[" * 200_000, "this is nested too deeply"),
        ("\xff", "line 2"),
    ],
)
def test_a_mistake_names_its_line(line: str, why: str) -> None:
    with pytest.raises(UsageError, match="stdin, line 2: ") as caught:
        read('{"body": ""}', line)
    assert why in str(caught.value)
