"""Deletions are forgotten once every member has done them, and only then."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode import forgetting
from dmqnode.batch import encode, parse
from dmqnode.debts import encode_debt
from dmqnode.forgetting import STALE, UNKNOWN, Forgetting
from dmqnode.grants import GRANTS, GRANTS_END
from dmqnode.greetings import Forgettable, Forgotten, MayForget
from dmqnode.ids import LogId, NodeId, QueueId, partition_id
from dmqnode.keys import DEBTS, QUEUES, QUEUES_END, queue_key
from dmqnode.messages import Blob, DeleteQueue, Done, ListQueues, Message, Send, Stored
from dmqnode.peer_messages import CatalogRecords, Debt
from dmqnode.records import encode_batch
from storage.ops import WriteBatch
from tests.dmqnode.several import WALL, Several, id_of

NAMES = ("n1", "n2", "n3")
AGE, SETTLED, PATIENCE, AGAIN = 40.0, 10.0, 20.0, 10.0
"""So long these take here."""
QUITE = AGE + 2 * AGAIN + SETTLED
"""Seconds after which what may be forgotten is."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    hurried = {"KEPT": 0, "AGE": AGE, "SETTLED": SETTLED, "PATIENCE": PATIENCE, "AGAIN": AGAIN}
    for name, value in hurried.items():
        monkeypatch.setattr(forgetting, name, value)


@pytest.fixture
def cluster() -> Several:
    return Several(*NAMES)


def delete(cluster: Several, name: str = "n1", queue: str = "q") -> None:
    assert isinstance(cluster.ask(name, DeleteQueue(queue)), Done)


def known(cluster: Several) -> dict[str, tuple[int, int]]:
    """How many definitions each node knows, and has on disk."""
    return {
        name: (len(node.clustering.catalog), len(node.store.scan(QUEUES, QUEUES_END, limit=99).rows))
        for name, node in cluster.nodes.items()
        if node.up
    }


def everywhere(count: int, names: tuple[str, ...] = NAMES) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(names, (count, count))


def queues(cluster: Several, name: str) -> list[str]:
    return [q["name"] for q in cluster.ask(name, ListQueues("", "", 10, False)).queues]


def deleted(cluster: Several) -> QueueId:
    """Make a queue and delete it; return its id."""
    cluster.create()
    (id_,) = cluster.nodes["n1"].clustering.catalog._known
    cluster.run(1.0)
    delete(cluster)
    cluster.run(1.0)
    assert known(cluster) == everywhere(1)
    return id_


def spy(
    monkeypatch: pytest.MonkeyPatch, drop: type[Message], names: tuple[str, ...] = NAMES
) -> list[Message]:
    """Lose one kind of message on its way to some nodes; return those lost."""
    lost: list[Message] = []
    carry = Several.carry

    def carried(self: Several, sender: Any, to: NodeId, message: Message) -> None:
        if isinstance(message, drop) and to in map(id_of, names):
            lost.append(message)
        else:
            carry(self, sender, to, message)

    monkeypatch.setattr(Several, "carry", carried)
    return lost


def test_what_every_member_has_deleted_is_forgotten_after_a_while(cluster: Several) -> None:
    deleted(cluster)
    cluster.run(AGE - 10)
    assert known(cluster) == everywhere(1)
    cluster.run(QUITE - AGE)
    assert known(cluster) == everywhere(0)
    digests = {node.clustering.catalog.digest for node in cluster.nodes.values()}
    assert digests == {bytes(16)}
    # The name is free, and whoever starts again knows of nothing.
    assert [queues(cluster, name) for name in NAMES] == [[], [], []]
    cluster.kill("n2")
    cluster.nodes["n2"].restart()
    for name in NAMES:
        cluster.link(name, *NAMES)
    cluster.create()
    cluster.stored("n2", b"new")
    assert [m.body for m in cluster.receive("n3")] == [b"new"]
    assert known(cluster) == everywhere(1)


def test_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "KEPT", 2)
    cluster = Several(*NAMES)
    for number in range(5):
        cluster.create(f"q{number}")
        delete(cluster, queue=f"q{number}")
        cluster.run(1.0)
    cluster.create("stays")
    cluster.run(QUITE)
    assert known(cluster) == everywhere(3)
    names = {k.name for k in cluster.nodes["n2"].clustering.catalog._known.values()}
    assert names == {"q3", "q4", "stays"}


def test_nothing_is_forgotten_while_a_member_is_away(cluster: Several) -> None:
    cluster.create()
    cluster.run(1.0)
    cluster.kill("n3")
    delete(cluster)
    cluster.run(2 * QUITE)
    assert known(cluster) == everywhere(1, ("n1", "n2"))
    # It comes back with the queue, and learns that it is deleted.
    cluster.nodes["n3"].restart()
    for name in NAMES:
        cluster.link(name, *NAMES)
    cluster.run(5.0)
    assert [queues(cluster, name) for name in NAMES] == [[], [], []]
    cluster.run(QUITE)
    assert known(cluster) == everywhere(0)
    assert [queues(cluster, name) for name in NAMES] == [[], [], []]


def test_a_member_that_is_not_asked_brings_the_queue_back(
    cluster: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test before can fail."""
    monkeypatch.setattr(forgetting, "_others", lambda clustering: frozenset(clustering.linked))
    cluster.create()
    cluster.run(1.0)
    cluster.kill("n3")
    delete(cluster)
    cluster.run(2 * QUITE)
    assert known(cluster) == everywhere(0, ("n1", "n2"))
    cluster.nodes["n3"].restart()
    for name in NAMES:
        cluster.link(name, *NAMES)
    cluster.run(5.0)
    assert queues(cluster, "n1") == ["q"]


def test_a_link_that_breaks_while_nothing_may_be_under_way_ends_the_round(cluster: Several) -> None:
    deleted(cluster)
    round_ = lambda: cluster.nodes["n1"].clustering.mender.forgetting._round
    cluster.until(lambda: round_() is not None and round_().agreed_at < cluster.time, AGE + 2 * AGAIN)
    cluster.run(SETTLED / 2)
    cluster.nodes["n1"].clustering.gone(cluster.now(), id_of("n3"))
    cluster.link("n1", "n3")
    cluster.run(SETTLED / 2 + 5)
    assert known(cluster) == everywhere(1)
    cluster.run(AGAIN + SETTLED + 10)
    assert known(cluster) == everywhere(0)


@pytest.mark.parametrize("lost", [MayForget, Forgettable])
def test_without_the_word_of_every_member_nothing_is_forgotten(
    cluster: Several, monkeypatch: pytest.MonkeyPatch, lost: type[Message]
) -> None:
    deleted(cluster)
    with monkeypatch.context() as patch:
        found = spy(patch, lost, ("n3",) if lost is MayForget else ("n1",))
        cluster.run(QUITE + PATIENCE)
        assert found
        assert known(cluster) == everywhere(1)
    cluster.run(PATIENCE + 2 * AGAIN + SETTLED)
    assert known(cluster) == everywhere(0)


def test_who_misses_it_reminds_the_others_and_all_forget_later(
    cluster: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted(cluster)
    with monkeypatch.context() as patch:
        assert spy(patch, Forgotten, ("n3",)) == []
        cluster.run(AGE + 2 * AGAIN)
        cluster.until(lambda: known(cluster) == everywhere(1), 90.0)
    cluster.run(AGAIN + PATIENCE + SETTLED + 60)
    assert known(cluster) == everywhere(0)


def test_who_does_not_know_of_a_deletion_is_told_and_asked_again(cluster: Several) -> None:
    id_ = deleted(cluster)
    cluster.run(AGE - 20)
    catalog = cluster.nodes["n3"].clustering.catalog
    catalog.forget([id_], ())
    assert not catalog.deleted(id_)
    cluster.run(QUITE - AGE + 2 * AGAIN + PATIENCE)
    assert known(cluster) == everywhere(0)


def test_where_something_is_left_of_the_queue_the_deletion_is_kept(cluster: Several) -> None:
    id_ = deleted(cluster)
    cluster.nodes["n2"].broker.registry.reclaiming.expect(id_)
    cluster.run(QUITE + PATIENCE)
    assert known(cluster) == everywhere(1)


def test_the_record_of_a_queue_that_was_damaged_stays_on_that_disk(cluster: Several) -> None:
    """Without any record its next start would take the queue for one that cannot be read."""
    id_ = deleted(cluster)
    cluster.nodes["n2"].broker.registry.damaged = frozenset({id_})
    cluster.run(QUITE)
    assert known(cluster) == {**everywhere(0), "n2": (0, 1)}
    assert cluster.nodes["n2"].store.get(queue_key(id_)) is not None


def test_a_queue_that_lives_is_not_forgotten(cluster: Several) -> None:
    cluster.create()
    (id_,) = cluster.nodes["n1"].clustering.catalog._known
    node = cluster.nodes["n2"]
    assert node.clustering.mender.forgetting.receive(cluster.now(), id_of("n1"), Forgotten([id_]))
    cluster.run(1.0)
    assert known(cluster) == everywhere(1)


def test_it_is_confirmed_behind_a_write_that_is_synced(
    cluster: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = deleted(cluster)
    node = cluster.nodes["n2"]
    written: list[Any] = []
    monkeypatch.setattr(node.clustering.catalog._port, "write", lambda ops, then: written.append((ops, then)))
    node.clustering.mender.forgetting.receive(cluster.now(), id_of("n1"), MayForget(5, [id_]))
    assert not node.clustering.take_sent()
    ((ops, then),) = written
    assert next(iter(ops))[0] == queue_key(id_)
    then(cluster.now())
    assert node.clustering.take_sent() == [(id_of("n1"), Forgettable(5))]


def test_an_answer_to_another_round_counts_for_nothing(cluster: Several) -> None:
    part = cluster.nodes["n1"].clustering.mender.forgetting
    part._is_sure(cluster.now(), id_of("n2"), 99)
    assert part._round is None


def test_one_that_is_alone_asks_itself() -> None:
    cluster = Several("n1")
    cluster.create()
    delete(cluster)
    cluster.run(QUITE)
    assert known(cluster) == {"n1": (0, 0)}


def test_a_clock_that_is_not_to_be_trusted_decides_nothing(
    cluster: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted(cluster)
    begun: list[None] = []
    begin = Forgetting._begin
    monkeypatch.setattr(type(cluster.nodes["n1"].clustering.walls), "silent", property(lambda self: True))
    monkeypatch.setattr(Forgetting, "_begin", lambda self, now: begun.append(begin(self, now)))
    cluster.run(QUITE)
    assert begun
    assert all(n.clustering.mender.forgetting._round is None for n in cluster.nodes.values())


def test_of_what_is_forgotten_no_promise_is_kept_either(cluster: Several) -> None:
    tables = {
        "promises": lambda node: [p for p, _ in node.clustering.cluster.grants],
        "promises on disk": lambda node: node.store.scan(GRANTS, GRANTS_END, limit=999).rows,
        "copies": lambda node: list(node.clustering.cluster.copies.by_partition),
        "leaders": lambda node: list(node.clustering.cluster.leaders),
    }

    def sizes() -> dict[tuple[str, str], int]:
        return {(n, what): len(table(cluster.nodes[n])) for n in NAMES for what, table in tables.items()}

    cluster.create("other")  # whoever leads the list of members promises something of that, too
    delete(cluster, queue="other")
    cluster.run(QUITE + 30.0)
    before = sizes()
    for number in range(5):
        queue = f"used{number}"
        cluster.create(queue)
        cluster.stored("n2", b"x", queue=queue)
        assert [m.body for m in cluster.receive("n1", queue=queue)] == [b"x"]
        delete(cluster, queue=queue)
    assert sum(sizes().values()) > sum(before.values())
    cluster.run(QUITE + 30.0)
    assert known(cluster) == everywhere(0)
    assert sizes() == before


def test_what_is_owed_of_a_queue_that_nobody_knows_any_more_is_dropped(cluster: Several) -> None:
    """Who was forgotten while it was away comes anew with its debts, after the deletion was forgotten."""
    partition = partition_id(deleted(cluster), 0)
    cluster.run(QUITE + 30.0)
    assert known(cluster) == everywhere(0)
    node = cluster.join("n4")
    ops = WriteBatch()
    log, record = LogId(b"L" * 20), Blob(encode_batch(WALL, 0, parse(encode([b"owed"], {}).blob)))
    for index in range(3):
        place = partition[:8] + index.to_bytes(2, "big") + log + bytes(8)
        ops.put(DEBTS + place, encode_debt(Debt(log, 0, b"p" * 16, 1, 0, record)))
    node.store.write(ops, sync=True)
    node.clustering.debts.load(cluster.now())
    node.crank()
    cluster.kill("n3")
    cluster.run(2 * UNKNOWN)
    assert node.clustering.debts.count == 3, "who is away may know the queue"
    cluster.nodes["n3"].restart()
    for name in cluster.nodes:
        cluster.link(name, *cluster.nodes)
    cluster.run(2 * UNKNOWN)
    assert node.clustering.debts.count == 0
    assert cluster.overview("n1")["hints"] == 0


def test_what_is_owed_of_a_queue_that_is_not_known_yet_is_kept(
    cluster: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.run(UNKNOWN + 30.0)
    held = spy(monkeypatch, CatalogRecords, ("n3",))
    cluster.create()
    assert held
    n2, n3 = cluster.nodes["n2"], cluster.nodes["n3"]
    (queue,) = n2.broker.registry.every()
    monkeypatch.setattr(n2.clustering.debts, "_keepers", lambda partition: [id_of("n3")])
    monkeypatch.setattr(n2.clustering.debts, "_offer", lambda now, partition: None)
    told: list[Message] = []
    send = Send("q", b"p" * 16, 1, 0, None, False, encode([b"x"], {}).blob)
    partition = partition_id(queue.definition.id, 0)
    assert n2.clustering.debts.keep(cluster.now(), partition, send, lambda now, m: told.append(m))
    n2.crank()
    cluster.until(lambda: bool(told), 1.0)
    assert isinstance(told[0], Stored)
    cluster.run(UNKNOWN / 2)
    assert n3.broker.registry.definition_of(queue.definition.id) is None
    assert n3.clustering.debts.count == 1
    held.clear()
    monkeypatch.undo()
    cluster.until(lambda: n3.broker.registry.definition_of(queue.definition.id) is not None, 30.0)


def test_of_many_queues_that_nobody_knows_each_partition_is_looked_at_once(cluster: Several) -> None:
    """All of them were gone through for each: with two thousand a node did nothing else."""
    bygone, now = cluster.nodes["n1"].clustering.debts._bygone, cluster.now()
    bygone.is_over(now, QueueId(b"first---"))
    table = bygone._unknown
    for number in range(50):
        bygone.is_over(now, QueueId(b"%08d" % number))
    assert bygone._unknown is table
    assert len(table) == 51
    bygone.is_over(now._replace(run=now.run + STALE), QueueId(b"first---"))
    assert len(bygone._unknown) == 1
