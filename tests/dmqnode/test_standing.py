"""What people are told of partitions: who leads, until when, who holds what, what moves, what is owed."""

from __future__ import annotations

from typing import Any

from dmqnode.lease_states import HELD
from dmqnode.messages import Explain, Report
from dmqnode.standing import why_leaderless
from tests.dmqnode.several import Several
from tests.dmqnode.world import World


def copies(partition: dict[str, Any]) -> dict[str, tuple[str, int | None]]:
    return {copy["home"]: (copy["state"], copy["lacking"]) for copy in partition["copies"]}


def test_the_leader_its_lease_and_every_copy_are_named() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"a", b"b")
    cluster.run(3.0)
    for asked in cluster.nodes:
        (partition,) = cluster.explain(asked)["partitions"]
        assert sorted(partition["homes"]) == ["n1", "n2", "n3"]
        assert partition["lease"] >= 1
        assert 0 < partition["lease_seconds"] <= HELD
        expected = {
            name: ("leads" if name == partition["leader"] else "follows", 0) for name in cluster.nodes
        }
        assert copies(partition) == expected
        assert (partition["ready"], partition["hints"], partition["missing"]) == (2, 0, [])


def test_a_home_that_is_away_is_named() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"a")
    (partition,) = cluster.explain("n1")["partitions"]
    away = next(name for name in ("n3", "n2") if name != partition["leader"])
    cluster.kill(away)
    cluster.stored("n1", b"b")
    (partition,) = cluster.explain("n1")["partitions"]
    assert copies(partition)[away] == ("away", None)


def test_a_partition_that_nobody_leads_is_explained_all_the_same() -> None:
    cluster = Several("n1", "n2", "n3", "n4")
    cluster.create(partitions=4)
    for n in range(8):
        cluster.stored("n1", b"%d" % n, producer=b"%016d" % n)
    cluster.run(3.0)
    cluster.kill("n3")
    cluster.kill("n4")
    cluster.run(4.0)
    report = cluster.explain("n1")
    assert [p["index"] for p in report["partitions"]] == [0, 1, 2, 3]
    lost = [p for p in report["partitions"] if p["leader"] is None]
    assert lost
    assert len(lost) < 4 or all({"n3", "n4"} <= set(p["homes"]) for p in lost)
    for partition in lost:
        assert {"n3", "n4"} <= set(partition["homes"])
        assert copies(partition)["n3"] == ("away", None)
        assert why_leaderless(partition) in report["reasons"]
    assert "the queue is empty" not in report["reasons"]


def test_why_there_is_no_leader_is_a_sentence() -> None:
    homes = ["a", "b", "c"]

    def sentence(*away: str) -> str:
        states = [{"home": h, "state": "away" if h in away else "waits"} for h in homes]
        return why_leaderless({"index": 2, "homes": homes, "copies": states})

    assert "look again" in sentence("a")
    assert sentence("a", "c") == (
        "partition 2 has no leader: a, c of its 3 homes do not answer, and a majority is needed"
    )


def test_what_is_owed_is_counted_by_partition_until_it_is_handed_over() -> None:
    cluster = Several("n1", "n2", "n3", "n4", "n5")
    cluster.create()
    cluster.stored("n1", b"a")
    (partition,) = cluster.explain("n1")["partitions"]
    homes = partition["homes"]
    cluster.run(3.0)
    for name in homes[:2]:
        cluster.kill(name)
    asked = next(name for name in cluster.nodes if name not in homes)
    cluster.stored(asked, b"owed", producer=b"q" * 16)
    report = cluster.explain(asked)
    (partition,) = report["partitions"]
    assert partition["hints"] == 2, "on two disks"
    assert any("2 batches wait" in reason for reason in report["reasons"])
    seen = cluster.overview(asked)
    assert seen["hand_off"] == [{"queue": "q", "partition": 0, "hints": 2}]
    assert (seen["hints"], seen["handed_over"]) == (2, 0)
    back = cluster.nodes[homes[0]]
    back.up = True
    cluster.link(back.name, *[n.name for n in cluster.nodes.values() if n.up])
    for node in cluster.nodes.values():
        if node.up:
            cluster.link(node.name, back.name)
    cluster.until(lambda: cluster.overview(asked)["hints"] == 0)
    seen = cluster.overview(asked)
    assert (seen["hand_off"], seen["handed_over"]) == ([], 2)


def test_a_move_shows_how_much_of_it_is_done() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=8)
    for n in range(16):
        cluster.stored("n1", *[b"x" * 20_000] * 20, producer=b"%016d" % n)
    cluster.run(3.0)
    cluster.join("n4")
    seen: list[dict[str, Any]] = []
    for _ in range(3000):
        cluster.run(0.02)
        found = cluster.overview("n2")
        seen += found["moves"]
        if not found["moving"]:
            break
    assert not found["moving"]
    assert {m["queue"] for m in seen if m["queue"]} == {"q"}
    assert all(m["to"] in (["n4"], []) for m in seen)
    counted = [m for m in seen if m["of"]]
    assert all(0 <= m["done"] <= m["of"] for m in counted)
    assert len({(m["partition"], m["done"]) for m in counted if 0 < m["done"] < m["of"]}) > 2


def test_what_each_node_does_is_told() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=4)
    for n in range(8):
        cluster.stored("n2", b"x", producer=b"%016d" % n)
    nodes = {node["name"]: node for node in cluster.overview("n3")["nodes"]}
    assert set(nodes) == {"n1", "n2", "n3"}
    assert sum(node["sent"] for node in nodes.values()) == 8
    assert sum(node["leads"] for node in nodes.values()) == 4


def test_a_lone_node_leads_without_a_lease() -> None:
    world = World()
    world.create()
    answer = world.ask(Explain("q"))
    assert isinstance(answer, Report)
    (partition,) = answer.fields["partitions"]
    assert (partition["leader"], partition["lease"], partition["lease_seconds"]) == (
        partition["homes"][0],
        None,
        None,
    )
    assert copies(partition) == {partition["leader"]: ("leads", 0)}
