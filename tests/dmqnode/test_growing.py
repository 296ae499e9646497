"""A queue gets more partitions while it is in use: nothing stops, is lost, or comes twice."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.ids import choose_partition
from dmqnode.messages import (
    Delivered,
    Failed,
    Message,
    QueueInfo,
    Receive,
    Send,
    SetQueue,
    Stored,
)
from tests.dmqnode.world import World, got


def grown(world: World, count: int, queue: str = "q") -> Message | None:
    return world.ask(SetQueue(queue, {"partitions": count}))


def send(world: World, body: bytes, *, spread: int = 0, **options: Any) -> Stored:
    plain = world.send_request([body], **options)
    answer = world.ask(Send(*plain.values()[:-1], spread))
    assert isinstance(answer, Stored), answer
    return answer


def test_what_was_there_comes_out_and_new_partitions_are_used() -> None:
    world = World()
    world.create()
    first = send(world, b"before")
    assert first.spread == 0
    held = world.receive()
    answer = grown(world, 4)
    assert isinstance(answer, QueueInfo)
    assert (answer.info["partitions"], answer.info["first_partitions"]) == (4, 1)
    spread = send(world, b"after").spread
    assert spread == 4
    for n in range(8):
        send(world, b"%d" % n, spread=spread, producer=b"p%d" % n)
    used = {n for n in range(4) if world.partition("q", n).counts()[0]}
    assert used == {0, *(choose_partition(4, b"p%d" % n) for n in range(8))} != {0}
    world.ack(held)
    assert sorted(world.bodies(20)) == sorted([b"after", *(b"%d" % n for n in range(8))])
    assert world.figures() == (0, 0, 9)


@pytest.mark.parametrize("crash", [False, True])
def test_it_stays_grown(crash: bool) -> None:
    world = World()
    world.create()
    grown(world, 3)
    producer = next(b"%d" % n for n in range(99) if choose_partition(3, b"%d" % n) == 2)
    send(world, b"in the last", spread=3, producer=producer)
    if crash:
        world.crash()
    else:
        world.restart()
    info = world.info()
    assert (info["partitions"], info["first_partitions"], info["ready"]) == (3, 1, 1)
    assert world.bodies() == [b"in the last"]


def test_who_waits_gets_from_a_new_partition() -> None:
    world = World()
    world.create()
    waiting = world.request(Receive("q", 1, 1 << 20, 20.0, None))
    world.run()
    grown(world, 2)
    producer = next(b"%d" % n for n in range(99) if choose_partition(2, b"%d" % n) == 1)
    send(world, b"a", spread=2, producer=producer)
    answer = world.replies.pop(waiting)
    assert isinstance(answer, Delivered)
    assert [g.body for g in got(answer)] == [b"a"]


def test_sends_that_come_while_the_new_ones_are_opened_are_taken() -> None:
    world = World()
    world.create()
    world.send(b"a")
    growing = world.request(SetQueue("q", {"partitions": 9}))
    numbers = [world.request(world.send_request([b"%d" % n])) for n in range(3)]
    world.run()
    assert isinstance(world.replies[growing], QueueInfo)
    assert all(isinstance(world.replies[n], Stored) for n in numbers)
    assert len(world.bodies(20)) == 4


def test_a_repetition_is_recognised() -> None:
    world = World()
    world.create(partitions=2)
    producers = [b"%d" % n for n in range(20)]
    first = {p: send(world, b"x", producer=p, sequence=1) for p in producers}
    grown(world, 7)
    for p in producers:
        again = send(world, b"x", producer=p, sequence=1)
        assert (again.runs, again.duplicates) == (first[p].runs, 1)
    assert world.figures() == (20, 0, 0)


def test_a_dedup_id_is_recognised() -> None:
    world = World()
    world.create(partitions=2)
    for n in range(20):
        send(world, b"x", d=f"id{n}")
    grown(world, 7)
    for n in range(20):
        assert send(world, b"x", d=f"id{n}", spread=7, producer=b"another").duplicates == 1
    assert world.figures() == (20, 0, 0)


def test_a_group_keeps_its_order() -> None:
    world = World()
    world.create(partitions=2)
    for group in "abcdef":
        send(world, group.encode() + b"1", g=group)
    held = world.receive(20)
    assert len(held) == 6
    grown(world, 7)
    for group in "abcdef":
        send(world, group.encode() + b"2", g=group, spread=7)
    assert world.receive(20) == []
    world.ack(held)
    assert sorted(world.bodies(20)) == [b"a2", b"b2", b"c2", b"d2", b"e2", b"f2"]


@pytest.mark.parametrize(
    ("settings", "count", "sentence"),
    [
        ({"partitions": 4}, 3, "has 4 partitions and cannot have 3, fewer: each may hold messages"),
        ({"partitions": 2, "ordering": "fifo"}, 3, "a fifo queue keeps the number"),
        ({"partitions": 2, "ordering": "fifo"}, 1, "fewer"),
        ({}, 1025, "within 1 and 1024"),
        ({}, "2", "must be a whole number"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], count: Any, sentence: str) -> None:
    world = World()
    world.create(**settings)
    answer = grown(world, count)
    assert isinstance(answer, Failed)
    assert (answer.code, answer.retryable) == ("invalid", False)
    assert sentence in answer.message
    assert world.info()["partitions"] == settings.get("partitions", 1)


def test_as_many_as_there_are_is_no_change() -> None:
    world = World()
    world.create(partitions=2, ordering="fifo")
    answer = grown(world, 2)
    assert isinstance(answer, QueueInfo)
    assert answer.info["first_partitions"] == 2


def test_a_send_that_goes_by_more_than_there_are_is_refused() -> None:
    world = World()
    world.create()
    answer = world.ask(Send(*world.send_request([b"x"]).values()[:-1], 5))
    assert isinstance(answer, Failed)
    assert (answer.code, answer.stored) == ("no-partition", "no")
