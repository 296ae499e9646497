"""Real nodes join, leave, are forgotten, come back elsewhere, and take no other cluster for theirs."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dmqnode.blocking import connect_sync
from tests.clusters import Start, dmq, leader, names, until_healthy
from tests.load import Load, made_queue
from tests.processes import NodeProcess, start_to_fail

pytestmark = pytest.mark.slow


def test_what_a_lone_node_held_is_shared_with_those_that_join(start_node: Start) -> None:
    first = start_node(name="n1")
    with connect_sync(first.address) as client:
        client.create_queue("q")
        client.send_many("q", [b"%d" % i for i in range(1000)])
    others = [start_node(name=name, join=[first.address]) for name in ("n2", "n3")]
    until_healthy(others[0], members=3)
    assert leader([first, *others], "q")  # whose homes are all three
    first.kill()
    found: set[bytes] = set()
    with connect_sync(others[1].address) as client:
        while len(found) < 1000:
            messages = client.receive("q", max_messages=1000, wait=10)
            assert messages
            found.update(m.body for m in messages)
            client.ack(messages)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nodes_with_the_same_seeds_found_one_cluster(start_node: Start, host: str) -> None:
    """Also where these are names that are not their own addresses."""
    own, seeds = [], []
    for _ in range(3):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            own.append(f"127.0.0.1:{taken.getsockname()[1]}")
            seeds.append(f"{host}:{taken.getsockname()[1]}")
    with ThreadPoolExecutor(3) as pool:
        nodes = list(pool.map(lambda n: start_node(name=f"n{n}", listen=own[n], join=seeds), range(3)))
    until_healthy(nodes[0], members=3)
    ids = set()
    for node in nodes:
        with connect_sync(node.address) as client:
            ids.add(client.members()["cluster_id"])
    assert len(ids) == 1
    # A member that comes back ignores --join, whoever is there.
    nodes[1].stop()
    nodes[1].restart(join=["127.0.0.1:1"])
    until_healthy(nodes[1], members=3)


def test_members_join_leave_and_are_forgotten(three: list[NodeProcess], start_node: Start) -> None:
    with connect_sync(three[0].address) as client:
        client.create_queue("q", partitions=8)
        client.send_many("q", [b"%d" % i for i in range(1000)])
    busy = made_queue(three[1].address, lambda partition: partition["leader"] == "n1")
    with Load([three[1].address], busy, hold=0.1) as load:
        load.wait_for(20)
        fourth = start_node(name="n4", join=[three[1].address])
        until_healthy(fourth, members=4)
        left = dmq(three[1], "node", "leave", "n1")
        assert left.returncode == 0, left.stderr
        told = [line for line in left.stderr.splitlines() if "still has" in line]
        assert told, "how far it is"
        assert re.match(r"dmq: n1 still has \d+ partitions?", told[0])
        assert three[0].wait() == 0
        until_healthy(fourth, members=3)
        load.wait_for(20)
    load.drain()
    assert load.lost == set()
    assert load.repeated == 0, "planned changes repeat nothing"
    assert load.refused == []
    assert len(load.unknown) <= 1, load.unknown
    assert names(fourth) == {"n2", "n3", "n4"}
    alive = dmq(fourth, "cluster", "forget", "n2")
    assert alive.returncode == 2
    assert "node leave" in alive.stderr
    three[2].kill()
    forgotten = dmq(fourth, "cluster", "forget", "n3", "--destroyed")
    assert forgotten.returncode == 0, forgotten.stderr
    until_healthy(fourth, members=2)
    # Who was forgotten is told so, and who has left cannot come back as if nothing had been.
    code, log = start_to_fail(three[0].data.parent, data=str(three[0].data))
    assert code == 1
    assert "has left its cluster" in log
    found: set[bytes] = set()
    with connect_sync(fourth.address) as client:
        while len(found) < 1000:
            messages = client.receive("q", max_messages=1000, wait=10)
            assert messages
            found.update(m.body for m in messages)
            client.ack(messages)


def test_nodes_of_another_cluster_are_refused(start_node: Start, tmp_path: Path) -> None:
    first = start_node(name="n1")
    code, log = start_to_fail(tmp_path / "fresh", join=[first.address], cluster="other")
    assert code == 1
    assert "it is of cluster dmq, not other" in log
    stranger = start_node(name="stranger")
    stranger.stop()
    code, log = start_to_fail(tmp_path, data=str(stranger.data), join=[first.address])
    assert code == 1
    assert "another cluster" in log
    code, log = start_to_fail(tmp_path, data=str(stranger.data), cluster="other")
    assert code == 1
    assert "belongs to cluster dmq, not other" in log


def test_two_processes_with_one_identity_do_not_both_serve(
    three: list[NodeProcess], start_node: Start, tmp_path: Path
) -> None:
    victim = three[2]
    victim.stop()
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(victim.data), str(copy)], check=True)
    victim.restart()
    until_healthy(victim, members=3)
    # The copied directory begins the same run again, as another process.
    clone = start_node(name="n3", data=str(copy))
    assert clone.wait() == 1
    assert "n3" in clone.log
    until_healthy(victim, members=3)


def test_a_member_that_comes_back_elsewhere_says_where(three: list[NodeProcess]) -> None:
    moved = three[2]
    before = moved.address
    moved.stop()
    moved.restart(listen="127.0.0.1:0")
    assert moved.address != before
    until_healthy(moved, members=3)
    deadline = time.monotonic() + 10
    while True:
        with connect_sync(three[0].address) as client:
            listed = {m["name"]: m["address"] for m in client.members()["members"]}
        if listed["n3"] == moved.address:
            break
        assert time.monotonic() < deadline, listed
        time.sleep(0.05)


def test_nodes_that_ask_for_tokens_show_one_to_join(start_node: Start, tmp_path: Path) -> None:
    tokens, others = tmp_path / "tokens", tmp_path / "others"
    tokens.write_text("nodes:a-long-secret\n")
    others.write_text("nodes:another-secret\n")
    first = start_node(name="n1", tokens=str(tokens))
    second = start_node(name="n2", tokens=str(tokens), join=[first.address])
    with connect_sync(second.address, token="a-long-secret") as client:
        deadline = time.monotonic() + 10
        while client.status()["overview"]["alive"] != 2:
            assert time.monotonic() < deadline
    code, log = start_to_fail(tmp_path / "fresh", join=[first.address], tokens=str(others))
    assert code == 1
    assert "token is not known" in log


def test_one_of_two_goes_on_alone_once_it_is_told_to(start_node: Start) -> None:
    first = start_node(name="n1")
    second = start_node(name="n2", join=[first.address])
    until_healthy(second, members=2)
    with connect_sync(second.address) as client:
        client.send("q", b"before", create=True)
        until_healthy(second, members=2)
        first.kill()
        forgotten = dmq(second, "cluster", "forget", "n1", "--destroyed")
        assert forgotten.returncode == 0, forgotten.stderr
        client.send("q", b"after")
        bodies: list[bytes] = []
        deadline = time.monotonic() + 10
        while len(bodies) < 2 and time.monotonic() < deadline:
            messages = client.receive("q", max_messages=2, wait=2)
            bodies += [message.body for message in messages]
            if messages:
                client.ack(messages)
    assert sorted(bodies) == [b"after", b"before"]
