"""One request, several leaders: cut up by partition, and put together again."""

from __future__ import annotations

from itertools import count

from dmqnode.batch import encode_rows
from dmqnode.ids import choose_partition
from dmqnode.messages import (
    Ack,
    Browse,
    Browsed,
    Done,
    Failed,
    GetQueue,
    PurgeQueue,
    QueueInfo,
    Redrive,
    Send,
    Settled,
    Stored,
)
from tests.dmqnode.several import Several
from tests.dmqnode.world import Got, got

_SEQUENCES = count(1)


def spread() -> Several:
    """Return a cluster with a queue whose partitions are led by several nodes."""
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=6, max_attempts=1, dead_letter="dead", visibility=30.0)
    return cluster


def send_groups(cluster: Several, name: str, *groups: str, create: bool = False) -> Stored | Failed:
    rows = [(b"of " + group.encode(), {"g": group}) for group in groups]
    request = Send("q", b"p" * 16, next(_SEQUENCES), 0, None, create, encode_rows(rows).blob)
    answer: Stored | Failed = cluster.ask(name, request)
    return answer


def drain(cluster: Several, name: str) -> list[Got]:
    found: list[Got] = []
    while messages := cluster.receive(name, limit=100, wait=0.0):
        found += messages
    return found


GROUPS = [f"g{n}" for n in range(12)]


def test_a_batch_goes_to_several_leaders_and_its_ids_come_back_in_order() -> None:
    cluster = spread()
    answer = send_groups(cluster, "n2", *GROUPS)
    assert isinstance(answer, Stored)
    ids = [(log, first + n) for log, first, many in answer.runs for n in range(many)]
    assert len({choose_partition(6, group) for group in GROUPS}) > 3
    held = {m.id: m.body for m in drain(cluster, "n3")}
    assert [held[id_] for id_ in ids] == [b"of " + group.encode() for group in GROUPS]


def test_acks_find_their_leaders_and_fail_one_by_one() -> None:
    cluster = spread()
    send_groups(cluster, "n1", *GROUPS)
    messages = drain(cluster, "n1")
    held = [m.held for m in messages]
    wrong = (held[3][0], held[3][1] + 99, *held[3][2:])
    answer = cluster.ask("n2", Ack([*held[:3], wrong, *held[4:]]))  # type: ignore[list-item]
    assert isinstance(answer, Settled)
    assert [(at, code) for at, code, _ in answer.failed] == [(3, "stale-receipt")]
    info = cluster.ask("n3", GetQueue("q"))
    assert isinstance(info, QueueInfo)
    assert (info.info["ready"], info.info["in_flight"]) == (0, 1)


def test_a_purge_reaches_every_partition() -> None:
    cluster = spread()
    send_groups(cluster, "n1", *GROUPS)
    assert cluster.ask("n3", PurgeQueue("q")) == Done(12)
    assert drain(cluster, "n1") == []


def test_a_look_goes_from_partition_to_partition() -> None:
    cluster = spread()
    send_groups(cluster, "n1", *GROUPS)
    bodies: list[bytes] = []
    cursor = None
    while True:
        answer = cluster.ask("n2", Browse("q", "ready", 2, 1 << 20, cursor))
        assert isinstance(answer, Browsed)
        bodies += [m.body for m in got(answer)]
        cursor = answer.cursor
        if cursor is None:
            break
    assert sorted(bodies) == sorted(b"of " + group.encode() for group in GROUPS)


def test_a_redrive_takes_from_every_partition_no_more_than_it_is_told() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create("dead", partitions=4)
    cluster.create("home")
    for n in range(8):
        cluster.stored("n1", b"%d" % n, queue="dead", producer=b"%016d" % n)
    moved = 0
    while moved < 5:
        answer = cluster.ask("n2", Redrive("dead", "home", 5 - moved))
        assert isinstance(answer, Done)
        moved += answer.count
    assert moved == 5
    cluster.run(1.0)
    assert len(cluster.receive("n3", queue="home", limit=100)) == 5


def test_a_send_of_which_a_part_has_no_leader_is_not_called_refused() -> None:
    cluster = Several("n1", "n2", "n3", "n4")
    cluster.create(partitions=6, ordering="fifo")
    groups = [f"g{n}" for n in range(24)]
    assert isinstance(send_groups(cluster, "n1", *groups), Stored)
    cluster.run(3.0)
    cluster.kill("n3")
    cluster.kill("n4")
    cluster.run(3.0)
    answer = send_groups(cluster, "n1", *groups)
    assert isinstance(answer, Failed)
    assert answer.stored == "unknown", "some of it is stored"
