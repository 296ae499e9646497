"""A real member whose records turned bad goes on as a new node, without its operator (I2)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from dmqnode.blocking import connect_sync
from dmqnode.keys import PartitionKeys
from dmqnode.membership import CLUSTER
from dmqnode.roster import RECORD, ROSTER, ROSTER_KEY
from storage.leveldb import LevelStore
from tests.clusters import dmq
from tests.load import made_queue
from tests.processes import NodeProcess

pytestmark = pytest.mark.slow


def members(node: NodeProcess) -> dict[str, Any]:
    with connect_sync(node.address, timeout=10) as client:
        return {m["name"]: (m["node_id"], m["state"]) for m in client.members()["members"]}


def test_a_member_that_cannot_read_its_cluster_begins_anew(start_node: Callable[..., NodeProcess]) -> None:
    first = start_node(name="n1")
    second = start_node(name="n2", join=[first.address])
    with connect_sync(second.address) as client:
        client.send("q", b"x", create=True)
    before = members(first)
    assert set(before) == {"n1", "n2"}
    _until(lambda: overview(first)["healthy"])  # and the second has its copy of the list of members
    second.stop()
    store = LevelStore.open(second.data)
    store._db.put(CLUSTER, b"garbage", sync=True)
    roster = store._db.get(ROSTER_KEY)
    copy = PartitionKeys.of(ROSTER).prefix + RECORD
    kept = store._db.get(copy)
    for key in (ROSTER_KEY, copy):  # nor where anybody is
        store._db.put(key, b"garbage", sync=True)
    store.close()
    (second.data / "members").unlink()
    for join in ([], ["--join", second.address]):
        command = [sys.executable, "-m", "cli.main", "node", "start", "--data", str(second.data)]
        refused = subprocess.run(
            [*command, "--listen", second.address, *join],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert refused.returncode != 0
        assert "start it with --join and the address of another member" in refused.stderr
    store = LevelStore.open(second.data)
    for key, value in ((ROSTER_KEY, roster), (copy, kept)):
        store._db.put(key, value, sync=True)
    store.close()
    second.restart(join=[])
    deadline = time.monotonic() + 20
    while members(second) != members(first) or {state for _, state in members(first).values()} != {"alive"}:
        assert time.monotonic() < deadline, (members(first), members(second))
        time.sleep(0.1)
    assert members(first)["n2"][0] != before["n2"][0]
    with connect_sync(second.address) as client:
        assert [m.body for m in client.receive("q", wait=10)] == [b"x"]
        assert any("begins anew" in notice for notice in client.status()["notices"])
    assert any(path.name.startswith("store.forgotten-") for path in second.data.iterdir())


def test_a_member_that_was_forgotten_comes_again_as_a_new_one(start_node: Callable[..., NodeProcess]) -> None:
    settings: dict[str, Any] = {"replicas": 2, "dead_after": 10.0}
    first = start_node(name="n1", **settings)
    second = start_node(name="n2", join=[first.address], **settings)
    third = start_node(name="n3", join=[first.address], **settings)
    with connect_sync(first.address) as client:
        client.send("q", b"x", create=True)
    _until(lambda: overview(first)["healthy"] and overview(first)["members"] == 3)
    before = members(first)
    lent = made_queue(first.address, lambda partition: "n3" in partition["homes"])
    third.kill()
    # Of two homes one is no majority: who is there keeps what is sent, until there are others.
    with connect_sync(first.address, timeout=10) as client:
        client.send(lent, b"owed")
    (partition,) = table(dmq(first, "queue", "explain", lent).stdout, "HINTS")
    # Each is on two disks; one that was slow was made again through the other node.
    assert (partition["LEADER"], int(partition["HINTS"]) % 2) == ("-", 0)
    assert int(partition["HINTS"]) > 0
    _until(lambda: set(members(second)) == {"n1", "n2"})
    third.restart(join=[])
    _until(
        lambda: {state for _, state in members(second).values()} == {"alive"} and len(members(second)) == 3
    )
    assert members(first)["n3"][0] != before["n3"][0]
    assert "this node begins anew, as a new node" in third.log
    with connect_sync(third.address) as client:
        assert [m.body for m in client.receive("q", wait=10)] == [b"x"]
        assert [m.body for m in client.receive(lent, wait=10)] == [b"owed"]
        _until(lambda: client.explain(lent)["partitions"][0]["hints"] == 0)


def table(printed: str, heading: str) -> list[dict[str, str]]:
    """Return the rows of the printed table that has such a heading."""
    lines = iter(line.split() for line in printed.splitlines())
    headings = next((line for line in lines if heading in line), [])
    assert headings, printed
    return [dict(zip(headings, row)) for row in takewhile(bool, lines)]


def test_an_old_backup_begins_anew(start_node: Callable[..., NodeProcess], tmp_path: Path) -> None:
    first = start_node(name="n1")
    second = start_node(name="n2", join=[first.address])
    with connect_sync(first.address) as client:
        client.send("q", b"x", create=True)
    before = members(first)
    second.stop()
    shutil.copytree(second.data, tmp_path / "backup")
    second.restart(join=[])
    _until(lambda: overview(second)["healthy"])
    second.stop()
    shutil.rmtree(second.data)
    shutil.copytree(tmp_path / "backup", second.data)
    second.restart(join=[])
    _until(lambda: members(first)["n2"][0] != before["n2"][0] and members(first) == members(second))
    why = [line for line in second.log.splitlines() if "is an old backup or a copy" in line]
    assert not any("not reachable" in line for line in why), "who sends it away was reached"
    with connect_sync(second.address) as client:
        assert any("with 1 living message:" in notice for notice in client.status()["notices"])
        assert [m.body for m in client.receive("q", wait=10)] == [b"x"]


def overview(node: NodeProcess) -> dict[str, Any]:
    with connect_sync(node.address, timeout=10) as client:
        found: dict[str, Any] = client.status()["overview"]
        return found


def _until(holds: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_of_three_whose_stores_do_not_open_found_no_cluster_beside_the_third(
    start_node: Callable[..., NodeProcess],
) -> None:
    nodes = {"n1": (first := start_node(name="n1"))}
    nodes |= {name: start_node(name=name, join=[first.address]) for name in ("n2", "n3")}
    # Who has the lowest address is the one to found.
    *names, kept = sorted(nodes, key=lambda name: nodes[name].port)
    losers, third = [nodes[name] for name in names], nodes[kept]
    _until(lambda: overview(third)["healthy"] and overview(third)["members"] == 3)
    with connect_sync(third.address) as client:
        client.create_queue("q")
        bodies = {b"%d" % number for number in range(10)}
        client.send_many("q", sorted(bodies))
    _until(lambda: overview(third)["healthy"])
    addresses = [node.address for node in (*losers, third)]
    before = members(third)
    for node in losers:
        node.kill()
        (node.data / "store" / "CURRENT").write_bytes(b"MANIFE")
    # The one that has everything is away at first: there would be a majority without it.
    third.kill()
    for node in losers:
        node.begin_again(join=addresses)
    _until(lambda: all(f"and {third.address}, which may have a copy" in node.log for node in losers))
    third.restart(join=addresses)
    _until(lambda: all("which cannot let this node in" in node.log for node in losers), 60)

    def is_gone(name: str) -> bool:
        """Say whether it is forgotten, or comes again as a new node: with one forgotten the other may."""
        forgotten = not dmq(third, "cluster", "forget", name, "--destroyed").returncode
        return forgotten or members(third).get(name, ("", ""))[0] != before[name][0]

    for name in names:  # who was alive when the third began is so until it has been silent for a while
        _until(partial(is_gone, name))
    for node in losers:
        node.wait_ready()
    _until(lambda: overview(third)["healthy"] and overview(third)["members"] == 3)
    found: set[bytes] = set()
    with connect_sync(losers[0].address) as client:
        while found != bodies:
            messages = client.receive("q", max_messages=10, wait=20)
            assert messages, found
            found |= {m.body for m in messages}
            client.ack(messages)


def test_the_first_node_finds_the_others_again_though_its_store_does_not_open(
    start_node: Callable[..., NodeProcess],
) -> None:
    first = start_node(name="n1")
    others = [start_node(name=name, join=[first.address]) for name in ("n2", "n3")]
    _until(lambda: overview(others[1])["healthy"] and overview(others[1])["members"] == 3)
    with connect_sync(first.address) as client:
        client.send("q", b"x", create=True)
    _until(lambda: len((first.data / "members").read_text().split()) == 3)
    _until(lambda: overview(others[1])["healthy"])
    before = members(others[0])
    first.kill()
    (first.data / "store" / "CURRENT").write_bytes(b"MANIFE")
    first.restart()  # without --join, as the first time
    _until(lambda: overview(first)["healthy"] and overview(first)["members"] == 3, 60)
    assert members(first)["n1"][0] != before["n1"][0]
    assert {name: found for name, (found, _) in members(first).items() if name != "n1"} == {
        name: found for name, (found, _) in before.items() if name != "n1"
    }
    with connect_sync(first.address) as client:
        assert [m.body for m in client.receive("q", wait=10)] == [b"x"]


def test_a_node_to_which_all_members_are_strangers_is_told_who_they_are(
    start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    first = start_node(name="n1")
    second, third = (start_node(name=name, join=[first.address]) for name in ("n2", "n3"))

    def is_whole() -> bool:
        return overview(third)["healthy"] and overview(third)["members"] == 3

    _until(is_whole)
    with connect_sync(third.address) as client:
        client.send("q", b"x", create=True)
    _until(is_whole)
    third.kill()
    shutil.copytree(third.data, tmp_path / "before")
    third.restart(join=[])
    for lost, other in ((first, second), (second, first)):
        _until(is_whole)
        lost.kill()
        shutil.rmtree(lost.data)
        lost.restart(join=[other.address, third.address])
    _until(is_whole)
    third.kill()
    shutil.rmtree(third.data)
    shutil.copytree(tmp_path / "before", third.data)
    third.restart(join=[])
    _until(lambda: {state for _, state in members(first).values()} == {"alive"})
    _until(lambda: members(first) == members(third))
    with connect_sync(third.address) as client:
        assert [m.body for m in client.receive("q", wait=10)] == [b"x"]
