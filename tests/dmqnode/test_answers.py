"""The answers of several leaders put together to one."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.answers import EMPTY, join_infos, join_stored, with_held
from dmqnode.ids import LogId, PartitionId, QueueId
from dmqnode.messages import Ack, Extend, Failed, Message, Nack, Stored
from dmqnode.queues import Definition, Settings

A, B = LogId(b"a" * 20), LogId(b"b" * 20)
HELD = [(PartitionId(b"p" * 10), 7, A, 3, 2)]
QUEUE = Definition(
    id=QueueId(b"queue001"), name="q", owner="me", created_at=1, settings=Settings(partitions=2)
)


def test_ids_come_back_in_the_order_of_the_batch() -> None:
    answers: list[Message] = [Stored([(A, 10, 2)], 1), Stored([(B, 5, 1), (B, 9, 1)], 0)]
    joined = join_stored(4, [[0, 3], [1, 2]], answers, 8)
    assert joined == Stored([(A, 10, 1), (B, 5, 1), (B, 9, 1), (A, 11, 1)], 1, 8)


def test_one_answer_stays_but_for_what_the_client_is_to_go_by() -> None:
    alone = Stored([(A, 0, 3)], 0, 0, True)
    assert join_stored(3, [[]], [alone], 0) is alone
    assert join_stored(3, [[]], [alone], 4) == Stored([(A, 0, 3)], 0, 4, True)


def test_a_fifo_queue_is_called_one_whoever_answers() -> None:
    answers: list[Message] = [Stored([(A, 0, 1)], 0, 0, True), Stored([(B, 0, 1)], 0, 0, True)]
    joined = join_stored(2, [[0], [1]], answers, 0)
    assert isinstance(joined, Stored)
    assert joined.ordered


@pytest.mark.parametrize("code", ["unavailable", "too-large", "disk-full"])
@pytest.mark.parametrize("first", [True, False])
def test_what_one_does_not_know_is_not_hidden_behind_what_another_refused(code: str, *, first: bool) -> None:
    answers: list[Message] = [Failed(code, "no", True), Failed("unknown", "perhaps", True, "unknown")]
    joined = join_stored(2, [[0], [1]], answers if first else answers[::-1], 0)
    assert isinstance(joined, Failed)
    assert joined.stored == "unknown"


def test_what_some_stored_and_some_refused_is_unknown() -> None:
    refused = Failed("overloaded", "too much", True)
    both = join_stored(2, [[0], [1]], [Stored([(A, 0, 1)], 0), refused], 0)
    assert both == Failed("overloaded", "too much", True, "unknown")
    assert join_stored(2, [[0], [1]], [refused, refused], 0) == refused


@pytest.mark.parametrize(
    "request_",
    [Ack([], True), Nack([], 2.0, True, "why", True, True), Extend([], 9.0)],
    ids=lambda r: type(r).__name__,
)
def test_a_part_of_a_request_is_like_it_in_all_else(request_: Any) -> None:
    part = with_held(request_, HELD)
    assert type(part) is type(request_)
    assert part.values() == [HELD, *request_.values()[1:]]


def part(index: int, **figures: Any) -> dict[str, Any]:
    fields = dict.fromkeys(("ready", "delayed", "in_flight", "bytes", "waiting_receivers"), 0)
    stands = {"index": index, "leader": "n1"}
    return {
        **fields,
        "oldest_seconds": None,
        "holders": [],
        "reasons": [EMPTY],
        "partitions": [stands],
        **figures,
    }


def test_figures_are_summed_and_the_oldest_counts() -> None:
    found = [part(0, ready=2, oldest_seconds=3.0), part(1, ready=5, in_flight=1, oldest_seconds=9.0)]
    info = join_infos(QUEUE, found, explain=False)
    assert (info["ready"], info["in_flight"], info["oldest_seconds"], info["name"]) == (7, 1, 9.0, "q")


def test_a_queue_is_empty_only_if_all_of_it_is() -> None:
    assert join_infos(QUEUE, [part(0), part(1)], explain=True)["reasons"] == [EMPTY]
    one = join_infos(QUEUE, [part(1), part(0, ready=1, reasons=["1 message is ready"])], explain=True)
    assert one["reasons"] == ["partition 0: 1 message is ready"]
    both = [part(n, ready=1, reasons=["the queue is paused; …", "1 message is ready"]) for n in (0, 1)]
    assert join_infos(QUEUE, both, explain=True)["reasons"] == [
        "the queue is paused; …",
        "partition 0: 1 message is ready",
        "partition 1: 1 message is ready",
    ]
    assert [p["index"] for p in one["partitions"]] == [0, 1]
    unknown = part(1, partitions=[{"index": 1, "leader": None}], reasons=["partition 1 has no leader"])
    assert join_infos(QUEUE, [part(0), unknown], explain=True)["reasons"] == ["partition 1 has no leader"]
