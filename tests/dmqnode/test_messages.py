"""Messages are frozen values, and their numbers never change."""

from __future__ import annotations

import pytest

from dmqnode.messages import BY_TAG, Failed, Message, Part, Ping, Pong, Receive, Send, Stored

TAGS = {
    1: "Hello", 2: "Welcome", 3: "Ping", 4: "Pong", 5: "Cancel", 6: "Cancelled", 7: "Credit",
    8: "Goodbye", 9: "Failed", 10: "Leads", 16: "Send", 17: "Stored", 18: "Receive", 19: "Delivered",
    20: "Ack", 21: "Nack", 22: "Extend", 23: "Settled", 32: "CreateQueue", 33: "SetQueue",
    34: "DeleteQueue",
    35: "PurgeQueue", 36: "GetQueue", 37: "QueueInfo", 38: "ListQueues", 39: "QueueList",
    40: "Browse", 41: "Browsed", 42: "Explain", 43: "Report", 44: "Redrive", 45: "Done",
    46: "NodeStatus", 47: "Members",
}  # fmt: skip
"""Append only: what one release has sent, the next must understand."""


def test_tags_are_append_only() -> None:
    found = {tag: cls.__name__ for tag, cls in BY_TAG.items()}
    assert {tag: found.get(tag) for tag in TAGS} == TAGS


def test_fields_of_the_first_release_keep_their_order() -> None:
    assert Send.FIELDS[:7] == ("queue", "producer", "sequence", "floor", "delay", "create", "batch")
    assert Receive.FIELDS[:6] == ("queue", "max_messages", "max_bytes", "wait", "visibility", "holder")
    assert Part.FIELDS[:8] == (
        *("partition", "delivery", "log", "first"),
        *("count", "attempt", "sent_at", "batch"),
    )


def test_values_by_position_by_name_and_by_default() -> None:
    by_name = Failed(code="c", message="m", retryable=True)
    assert by_name == Failed("c", "m", True) == Failed("c", "m", True, "no")
    assert by_name != Failed("c", "m", True, "unknown")
    assert by_name.stored == "no"
    assert hash(by_name) == hash(Failed("c", "m", True))


@pytest.mark.parametrize(
    ("values", "named"),
    [(("c",), {}), (("c", "m", True, "no", 5), {}), (("c", "m", True), {"code": "x"}), ((), {"x": 1})],
)
def test_wrong_fields_are_a_type_error(values: tuple[object, ...], named: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="Failed"):
        Failed(*values, **named)  # type: ignore[arg-type]


def test_messages_are_frozen_and_compare_by_class() -> None:
    message = Stored([], 0)
    with pytest.raises(AttributeError, match="frozen"):
        message.duplicates = 1  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del message.duplicates
    with pytest.raises(AttributeError):
        message.other = 1  # type: ignore[attr-defined]
    assert Ping() == Ping()
    assert Ping() != Pong()
    assert bool(Ping())


def test_messages_match_by_class_and_field() -> None:
    message: Message = Failed("c", "m", True)
    match message:
        case Failed("c", sentence, retryable=True):
            assert sentence == "m"
        case _:
            pytest.fail("no match")


def test_repr_names_the_fields() -> None:
    assert repr(Stored([], 2)) == "Stored(runs=[], duplicates=2, spread=0, ordered=False)"


def test_two_classes_cannot_have_one_tag() -> None:
    with pytest.raises(AssertionError, match="tag 3 is taken by Ping"):

        class Second(Message, tag=3):
            """Another Ping."""
