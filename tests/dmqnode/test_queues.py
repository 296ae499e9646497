"""What the settings of a queue may be: each refusal names the setting and its bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dmqnode.errors import InvalidRequest
from dmqnode.ids import QueueId
from dmqnode.queues import (
    Definition,
    Settings,
    change_settings,
    check_name,
    decode_definition,
    encode_definition,
    encode_deleted,
)

ID = QueueId(b"q" * 8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colour": 1}, "no queue setting 'colour'"),
        ({"visibility": -1}, "visibility is -1 s; it must be within 0 s and 12 hours"),
        ({"visibility": "1"}, "visibility is '1'; it must be a number of seconds"),
        ({"visibility": True}, "must be a number"),
        ({"delay": 1e9}, "delay is 1e.09 s"),
        ({"delay": float("nan")}, "delay is nan"),
        ({"retention": 0}, "retention is 0 s; it must be within 1 s and 366 days"),
        ({"max_attempts": 0, "dead_letter": "d"}, "max_attempts is 0; it must be a whole number"),
        ({"max_attempts": 1.5, "dead_letter": "d"}, "max_attempts is 1.5"),
        ({"max_attempts": 3}, "go together"),
        ({"dead_letter": "d"}, "go together"),
        ({"max_attempts": 3, "dead_letter": "a b"}, "dead-letter queue name 'a b' is not possible"),
        ({"max_attempts": 3, "dead_letter": 4}, "dead_letter is 4; it must be text"),
        ({"ordering": "lifo"}, "ordering 'lifo' is not known"),
        ({"partitions": 0}, "partitions is 0"),
        ({"partitions": 2000}, "within 1 and 1024"),
        ({"max_message_size": 1 << 30}, "max_message_size is"),
        ({"paused": 1}, "paused is 1; it must be true or false"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        change_settings(Settings(), changes, created=False)


def test_what_is_fixed_stays() -> None:
    changes = {"ordering": "fifo"}
    change_settings(Settings(), changes, created=False)
    with pytest.raises(InvalidRequest, match="fixed when a queue is created"):
        change_settings(Settings(), changes, created=True)


@pytest.mark.parametrize("name", ["", "a" * 121, "-a", ".a", "a b", "ä", "a/b", "a\n"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "_", "orders-dead", "a.b:c_d", "0", "a" * 120])
def test_names_that_are_taken(name: str) -> None:
    assert check_name(name) == name


def test_a_definition_survives_and_a_deletion_is_one() -> None:
    made = Definition(
        id=ID, name="q", owner="me", created_at=5, settings=Settings(max_attempts=2, dead_letter="d")
    )
    assert decode_definition(ID, encode_definition(made)) == made
    assert decode_definition(ID, encode_deleted("q", 5)) is None
    assert made.info()["created_at"] == "1970-01-01T00:00:00.005Z"
    grown = made.grown(replace(made.settings, partitions=3)).grown(replace(made.settings, partitions=5))
    assert decode_definition(ID, encode_definition(grown)) == grown
    assert (grown.keyed_partitions, made.keyed_partitions) == (1, 1)
