"""What a broker does at its edges: limits, deletion while things are under way, time, order, moves."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode import partition as partitions
from dmqnode.batch import Batch, encode, encode_rows
from dmqnode.messages import (
    Browse,
    DeleteQueue,
    Delivered,
    Done,
    Failed,
    PurgeQueue,
    Receive,
    Redrive,
    Send,
    SetQueue,
    Stored,
)
from storage.ops import WriteBatch
from tests.dmqnode.world import World, got


@pytest.fixture
def world() -> World:
    world = World()
    world.create()
    return world


# --- limits --------------------------------------------------------------------------------------------


def test_an_ack_makes_room_for_whoever_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "MAX_IN_FLIGHT", 2)
    world.send(b"a", b"b", b"c")
    held = world.receive(10)
    assert len(held) == 2
    number = world.request(Receive("q", 10, 1 << 20, 20.0, None))
    world.run()
    assert number not in world.replies
    world.ack(held)
    answer = world.replies[number]
    assert isinstance(answer, Delivered)
    assert [m.body for m in got(answer)] == [b"c"]


def test_an_answer_counts_attributes_too(world: World) -> None:
    for n in range(6):
        world.send(b"", a=(None, {0: {"k": str(n) * 300}}))
    answer = world.ask(Receive("q", 100, 1000, 0.0, None))
    assert isinstance(answer, Delivered)
    assert 1 <= len(answer.parts) <= 3
    assert sum(len(p.batch) for p in answer.parts) < 1500


def test_only_the_first_message_of_an_answer_may_be_too_long() -> None:
    world = World()
    world.create(partitions=2)
    for n in range(40):
        world.send(b"x" * 1000, producer=b"%16d" % n)
    assert all(world.partition("q", i).counts()[0] for i in (0, 1))
    answer = world.ask(Receive("q", 100, 1500, 0.0, None))
    assert isinstance(answer, Delivered)
    assert [p.count for p in answer.parts] == [1]


def test_attributes_of_a_move_never_make_a_message_unreadable() -> None:
    world = World()
    world.create(max_attempts=1, dead_letter="dead")
    world.send(b"full", a=({f"k{n}": "v" for n in range(64)}, {}))
    world.nack(world.receive())
    world.restart()
    (message,) = world.receive(queue="dead")
    assert message.body == b"full"
    assert len(message.attributes) == 68
    assert world.broker.counters.lost == 0


def test_too_many_attributes_are_refused(world: World) -> None:
    answer = world.ask(world.send_request([b"x"], a={f"k{n}": "v" for n in range(65)}))
    assert isinstance(answer, Failed)
    assert "65 attributes" in answer.message


def test_a_great_many_messages_are_buried_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def encoded(rows: list[Any]) -> Batch:
        assert len(rows) <= 1024, "one step has as many as it likes"
        return encode_rows(rows)

    monkeypatch.setattr("dmqnode.moves.encode_rows", encoded)
    world = World()
    world.create(max_attempts=1, dead_letter="dead", visibility=5.0)
    for _ in range(3):
        world.send(*[b"x"] * 30_000)
    assert len(world.receive(60_000)) == 60_000
    assert len(world.receive(60_000)) == 30_000
    world.pass_time(6)
    assert world.figures("dead") == (90_000, 0, 0)
    world.restart()
    assert len(world.receive(60_000, "dead")) > 0
    assert world.broker.counters.lost == 0


def test_a_producer_that_settles_nothing_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmqnode.dedup.MAX_UNSETTLED", 3)
    for _ in range(3):
        world.send(b"x")
    answer = world.ask(world.send_request([b"y"]))
    assert isinstance(answer, Failed)
    assert answer.code == "limit"
    assert isinstance(world.ask(world.send_request([b"y"], floor=3)), Stored)


# --- time ------------------------------------------------------------------------------------------------


def test_what_nobody_receives_expires_all_of_it() -> None:
    world = World()
    world.create(retention=100.0)
    for _ in range(200):
        world.send(*[b"x" * 10_000] * 5)
    world.pass_time(170.0)
    assert world.figures() == (0, 0, 0)
    assert world.on_disk() == []
    assert world.broker.counters.expired == 1000


def test_what_nobody_receives_expires_in_a_fifo_queue_too() -> None:
    world = World()
    world.create(retention=100.0, ordering="fifo")
    world.send(b"a", b"b", b"c", g="g")
    held = world.receive()
    world.extend(held, 1000.0)
    world.pass_time(30.0)
    world.pass_time(140.0)
    assert world.figures() == (0, 0, 1)
    world.send(b"d", g="g")
    assert world.bodies() == []
    world.ack(held)
    assert world.bodies() == [b"d"]


def test_a_time_to_live_holds_for_the_last_message_of_a_batch(world: World) -> None:
    world.send(b"a", b"b", t=5000)
    world.pass_time(6.0)
    assert world.bodies() == []
    assert world.broker.counters.expired == 2


def test_the_idle_are_closed_and_their_attempts_kept(world: World) -> None:
    world.send(b"a")
    world.nack(world.receive())
    world.pass_time(290.0)
    was_open = set()
    for _ in range(30):
        world.pass_time(1.0)
        was_open.add(world.broker.registry.queues["q"].open)
    assert False in was_open
    (message,) = world.receive()
    assert message.attempt == 2


def test_a_deletion_is_compacted(world: World) -> None:
    world.send(b"a")
    world.ask(DeleteQueue("q"))
    assert len(world.broker.compactions) == 1


# --- order -----------------------------------------------------------------------------------------------


def test_fifo_order_holds_over_a_change_of_delay_and_a_restart() -> None:
    world = World()
    world.create(ordering="fifo", delay=5.0)
    world.send(b"1")
    world.pass_time(6.0)
    world.ask(SetQueue("q", {"delay": 0.0}))
    world.send(b"2")
    world.restart()
    world.send(b"3")
    world.ask(SetQueue("q", {"delay": 2.0}))
    world.send(b"4")
    world.pass_time(5.0)
    seen = []
    while messages := world.receive() or world.receive():
        seen += [m.body for m in messages]
        world.ack(messages)
        world.pass_time(1.0)
    assert seen == [b"1", b"2", b"3", b"4"]


def test_fifo_order_holds_when_a_delay_ends_before_the_backlog_is_read() -> None:
    world = World()
    world.create(ordering="fifo")
    for n in range(60):
        world.send(b"%d" % n + b"x" * 500_000)
    world.ask(SetQueue("q", {"delay": 1.0}))
    world.send(b"last")
    world.restart()
    world.pass_time(3.0)
    seen = []
    while messages := world.receive() or world.receive():
        seen += [m.body.rstrip(b"x") for m in messages]
        world.ack(messages)
    assert seen == [b"%d" % n for n in range(60)] + [b"last"]


def test_logs_are_read_in_order_though_the_clock_is_set_back() -> None:
    world = World()
    world.create(ordering="fifo")
    world.send(b"1")
    world.restart()
    world.time -= 500.0
    world._start()
    world.send(b"2")
    world.restart()
    seen = []
    while messages := world.receive():
        seen += [m.body for m in messages]
        world.ack(messages)
    assert seen == [b"1", b"2"]


# --- purging, browsing, redriving ------------------------------------------------------------------------


def test_a_purge_deletes_what_was_partly_acked(world: World) -> None:
    world.send(b"a", b"b", b"c")
    world.ack(world.receive(1))
    assert world.ask(PurgeQueue("q")) == Done(2)
    assert world.on_disk() == []
    assert world.info()["bytes"] == 0


def test_a_purge_deletes_page_by_page_also_after_a_crash(world: World) -> None:
    for _ in range(1200):
        world.hold_writes = True
        world.ask(world.send_request([b"x"], delay=float(world.sequence)))
        world.hold_writes = False
        world.run()
    world.hold_writes = True
    world.request(PurgeQueue("q"))
    world.run()
    world.hold_writes = False
    world.pending = world.broker.collect(world.now())
    world.write()
    world.crash()
    assert world.figures() == (0, 0, 0)
    assert world.on_disk() == []


def test_browsing_by_bytes_skips_nothing(world: World) -> None:
    world.send(b"x" * 60, b"y" * 60, b"z" * 10, b"w" * 60)
    world.send(b"d" * 60, b"e" * 60, delay=100.0)
    for state, count in (("ready", 4), ("delayed", 2)):
        cursor, seen = None, 0
        while True:
            answer = world.ask(Browse("q", state, 100, 100, cursor))
            seen += sum(p.count for p in answer.parts)  # type: ignore[union-attr]
            cursor = answer.cursor  # type: ignore[union-attr]
            if cursor is None:
                break
        assert seen == count


@pytest.mark.parametrize("cursor", [b"x", b"\0\0nonsense", b"\xff" * 39, b"\0\0" + b"\xff" * 37])
def test_a_cursor_of_nonsense_is_refused_or_finds_nothing(world: World, cursor: bytes) -> None:
    world.send(b"a")
    for state in ("ready", "delayed", "in-flight"):
        assert world.ask(Browse("q", state, 1, 100, cursor)) is not None


def test_a_redrive_says_that_more_is_left(world: World) -> None:
    world.create("to")
    for _ in range(3):
        world.send(*[b"x" * 1000] * 3)
    moved, rounds = 0, 0
    while True:
        answer = world.ask(Redrive("q", "to", 2))
        assert isinstance(answer, Done)
        moved, rounds = moved + answer.count, rounds + 1
        if not answer.more:
            break
    assert (moved, rounds) == (9, 6)
    assert world.figures("to") == (9, 0, 0)


def test_a_redrive_to_a_queue_that_is_gone_gives_everything_back(world: World) -> None:
    world.send(b"a", a={"dmq.source": "gone"})
    answer = world.ask(Redrive("q", None, 10))
    assert isinstance(answer, Failed)
    assert answer.code == "queue-not-found"
    assert world.bodies() == [b"a"]


def test_garbage_metadata_is_refused(world: World) -> None:
    blob = encode([b"x"], {"a": ({"k": "v"}, {})}).blob
    for at in range(len(blob)):
        broken = blob[:at] + b"\xc4" + blob[at + 1 :]
        world.sequence += 1
        assert world.ask(Send("q", b"p" * 16, world.sequence, 0, None, False, broken)) is not None  # type: ignore[arg-type]


def test_what_a_node_writes_as_it_stops_is_synced(world: World) -> None:
    broker = world.broker
    for stopping in (False, True):
        if stopping:
            broker.stop(world.now())
            world.run()
        broker.write_meta(WriteBatch(), lambda now: None, sync=False)
        pending = broker.collect(world.now())
        assert pending is not None
        assert pending.sync is stopping
        broker.written(world.now(), pending)


def test_what_is_sent_behind_a_purge_comes_out_also_when_the_clock_was_set_back(world: World) -> None:
    world.send(b"before")
    assert isinstance(world.ask(PurgeQueue("q")), Done)
    world.partition().state.purged_at += 3_600_000  # by a clock that was an hour ahead
    world.send(b"behind")
    assert world.bodies() == [b"behind"]
