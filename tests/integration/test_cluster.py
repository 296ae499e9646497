"""Three real nodes: they share queues, and go on when one is killed or stopped."""

from __future__ import annotations

import threading
import time

import pytest

from cli.top import Look
from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError
from tests.clusters import create, dmq, leader, names, until_healthy
from tests.load import Load, longest_gap
from tests.processes import NodeProcess

pytestmark = pytest.mark.slow


def test_every_node_serves_every_queue(three: list[NodeProcess]) -> None:
    assert names(three[2]) == {"n1", "n2", "n3"}
    for node in three:
        with connect_sync(node.address) as client:
            client.create_queue(f"at-{node.port}", partitions=2)
            client.send_many(f"at-{node.port}", [b"%d" % i for i in range(100)])
    for node, other in zip(three, [*three[1:], three[0]]):
        found: list[bytes] = []
        with connect_sync(other.address) as client:
            while messages := client.receive(f"at-{node.port}", max_messages=100, wait=0.5):
                found += [m.body for m in messages]
                client.ack(messages)
        assert sorted(found, key=int) == [b"%d" % i for i in range(100)]


def test_a_killed_leader_is_replaced_and_nothing_answered_is_lost(three: list[NodeProcess]) -> None:
    create(three, "q")
    with Load([n.address for n in three], "q") as load:
        load.wait_for(200)
        killed = leader(three, "q")
        at = time.monotonic()
        killed.kill()
        load.wait_for(200)
        sends, receives = longest_gap(load.sent_at, at), longest_gap(load.received_at, at)
        killed.restart()
        load.wait_for(200)
        until_healthy(killed, members=3)
        load.wait_for(100)
    load.drain()
    assert not load.lost
    assert not load.refused
    assert sends < 3, "sends resume"
    assert receives < 6, "receives resume"


def test_a_copy_that_was_away_catches_up(three: list[NodeProcess]) -> None:
    create(three, "q")
    first, second, third = three
    with connect_sync(second.address, third.address, timeout=20) as client:
        client.send_many("q", [b"0-%d" % i for i in range(500)])
        first.kill()
        client.send_many("q", [b"1-%d" % i for i in range(500)])
        first.restart()
        until_healthy(second, members=3)
        third.kill()
        found: set[bytes] = set()
        while len(found) < 1000:
            messages = client.receive("q", max_messages=1000, wait=10)
            assert messages, len(found)
            found.update(m.body for m in messages)
            client.ack(messages)


def test_a_graceful_stop_leaves_no_gap_and_repeats_nothing(three: list[NodeProcess]) -> None:
    create(three, "q")
    with Load([n.address for n in three], "q") as load:
        load.wait_for(200)
        for _ in range(2):
            stopped = leader(three, "q")
            at = time.monotonic()
            assert stopped.stop() == 0
            load.wait_for(100)
            gap = longest_gap(load.sent_at, at), longest_gap(load.received_at, at)
            stopped.restart()
            until_healthy(stopped, members=3)
            load.wait_for(50)
            assert max(gap) < 1.5, gap
    load.drain()
    assert not load.lost
    assert not load.repeated
    assert not load.refused
    assert not load.unknown


def test_a_node_stops_soon_though_its_clients_wait_elsewhere(three: list[NodeProcess]) -> None:
    create(three, "q")
    lead = leader(three, "q")
    other = next(n for n in three if n is not lead)
    got: list[object] = []

    def wait() -> None:
        try:
            with connect_sync(other.address, lead.address, timeout=5) as client:
                got.append(client.receive("q", wait=3))
        except DMQError as error:
            got.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    deadline = time.monotonic() + 10
    with connect_sync(lead.address) as client:
        while not client.queue("q")["waiting_receivers"]:
            assert time.monotonic() < deadline
    at = time.monotonic()
    assert other.stop() == 0
    assert time.monotonic() - at < 3
    waiting.join()
    assert got == [[]]


def test_a_queue_gets_more_partitions_under_load(three: list[NodeProcess]) -> None:
    create(three, "q")
    with Load([n.address for n in three], "q") as load:
        load.wait_for(100)
        ran = dmq(three[2], "queue", "set", "q", "--partitions", "4", "--json")
        assert ran.returncode == 0, ran.stderr
        with connect_sync(three[2].address) as client:
            first = Look(client, None)
            load.wait_for(300)
            second = Look(client, first)
        ran = dmq(three[1], "queue", "set", "q", "--partitions", "2")
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    load.drain()
    assert load.lost == set()
    assert load.repeated == 0
    assert load.refused == []
    with connect_sync(three[0].address) as client:
        partitions = client.explain("q")["partitions"]
        assert [p["index"] for p in partitions] == [0, 1, 2, 3]
        assert all(set(p["homes"]) == {"n1", "n2", "n3"} for p in partitions)
        assert all(p["lease"] > 0 for p in partitions)
        assert sum(p["logs"] > 0 for p in partitions) > 1, "the new ones are not used"
        assert client.queue("q")["first_partitions"] == 1
    heading = second.heading()[0]
    assert "dmq: 3 of 3 alive, " in heading
    assert "; 4 partitions: 0 leaderless" in heading
    until_healthy(three[1], members=3)
    headings, rows = second.nodes()
    shown = [dict(zip(headings, row)) for row in rows]
    assert sorted((n["NODE"], n["STATE"]) for n in shown) == [(name, "alive") for name in ("n1", "n2", "n3")]
    assert sum(int(n["LEADS"]) for n in shown) == 4
    for rate in ("SENT/S", "DELIVERED/S", "ACKED/S"):
        assert sum(int(n[rate].replace(",", "")) for n in shown) > 0, (rate, shown)
