"""The definitions of queues over restarts, whole or damaged."""

from __future__ import annotations

import random

import pytest

from dmqnode.ids import QueueId
from dmqnode.keys import QUEUES, aside_queue, queue_key
from dmqnode.messages import CreateQueue, DeleteQueue, Done, Failed, ListQueues, NodeStatus, QueueList, Report
from dmqnode.queues import Definition, Settings, encode_definition, encode_deleted
from storage import aside
from storage.store import Damaged
from tests.dmqnode.world import World


def status(world: World) -> dict[str, object]:
    answer = world.ask(NodeStatus())
    assert isinstance(answer, Report)
    world.broker.surroundings.set_aside = world.store.statistics().set_aside
    return answer.fields


def partition_rows(world: World) -> list[bytes]:
    return [row.key for row in world.store.scan(b"p", b"q", limit=1000).rows]


def test_a_damaged_definition_is_told_and_its_messages_stay() -> None:
    world = World()
    world.create("good")
    world.create("bad")
    world.send(b"kept", queue="bad")
    id_ = world.broker.registry.queues["bad"].definition.id
    world.restart()
    world.store.damage(queue_key(id_), random.Random(1))
    before = partition_rows(world)
    for _ in range(2):
        # The second start finds it set aside.
        world.restart()
        assert world.broker.registry.unreadable == {id_}
        fields = status(world)
        assert fields["healthy"] is False
        assert id_.hex() in str(fields["notices"])
        world.pass_time(100.0)
        assert partition_rows(world) == before
    answer = world.ask(ListQueues("", "", 10, False))
    assert isinstance(answer, QueueList)
    assert [q["name"] for q in answer.queues] == ["good"]
    # The name is free, and the new queue is another one.
    world.create("bad")
    assert world.broker.registry.queues["bad"].definition.id != id_
    assert world.bodies(queue="bad") == []


def test_other_damage_is_no_queue() -> None:
    world = World()
    world.create()
    world.send(b"a")
    (key,) = [k for k in world.on_disk() if k[11:12] == b"b"]
    world.restart()
    world.store.damage(key, random.Random(1))
    assert world.bodies() == []
    world.restart()
    assert world.broker.registry.unreadable == set()
    assert status(world)["notices"] == []


def test_the_store_keeps_damage_under_keys_as_they_are_read_here() -> None:
    id_ = QueueId(b"12345678")
    assert aside_queue(aside.place(Damaged(queue_key(id_), b"raw", "why")).key) == id_
    assert aside_queue(aside.place(Damaged(QUEUES + b"short", b"raw", "why")).key) is None
    assert aside_queue(aside.place(Damaged(b"p2345678", b"raw", "why")).key) is None


@pytest.mark.parametrize("synced", [True, False])
def test_a_deletion_goes_on_after_a_crash(synced: bool) -> None:
    world = World()
    world.create()
    for n in range(50):
        world.send(b"%d" % n)
    world.request(DeleteQueue("q"))
    world.hold_writes = True
    world.run()
    world.pending = world.broker.collect(world.now())
    if synced:
        world.write()  # the mark; nothing is reclaimed yet
    world.hold_writes = False
    world.crash()
    world.run()
    assert ("q" in world.broker.registry.queues) is not synced
    assert bool(partition_rows(world)) is not synced


def test_a_name_is_taken_once() -> None:
    world = World()
    world.create(visibility=5)
    answer = world.ask(CreateQueue("q", {}, False))
    assert isinstance(answer, Failed)
    assert answer.code == "queue-exists"
    world.ask(CreateQueue("q", {"visibility": 9}, True))
    assert world.info()["visibility"] == 5


def learn(world: World, id_: bytes, created_at: int) -> QueueId:
    definition = Definition(id=QueueId(id_), name="q", owner="me", created_at=created_at, settings=Settings())
    world.broker.registry.learn(world.now(), definition.id, encode_definition(definition))
    return definition.id


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_several_queues_of_one_name_the_first_has_it(order: tuple[int, ...]) -> None:
    made = [(b"zzzzzzzz", 5), (b"aaaaaaaa", 6), (b"bbbbbbbb", 6)]
    world = World()
    for n in order:
        learn(world, *made[n])
    registry = world.broker.registry
    ids = [QueueId(id_) for id_, _ in made]
    assert registry.find("q").definition.id == ids[0]
    assert {d.id for d in registry.giving_way("q")} == set(ids[1:])
    winner = registry.winner_over(ids[1])
    assert winner is not None
    assert (winner.id, registry.winner_over(ids[0])) == (ids[0], None)
    assert all(registry.definition_of(id_) is not None for id_ in ids)
    # One is deleted somewhere: the next has the name.
    registry.learn(world.now(), ids[0], encode_deleted("q", 9))
    assert registry.find("q").definition.id == ids[1]
    assert [d.id for d in registry.giving_way("q")] == [ids[2]]


def test_deleting_a_name_deletes_all_queues_that_have_it() -> None:
    world = World()
    ids = [learn(world, b"aaaaaaaa", 1), learn(world, b"bbbbbbbb", 2)]
    assert isinstance(world.ask(DeleteQueue("q")), Done)
    assert all(world.broker.registry.definition_of(id_) is None for id_ in ids)
    assert "q" not in world.broker.registry.queues
    world.restart()
    assert world.broker.registry.every() == []
