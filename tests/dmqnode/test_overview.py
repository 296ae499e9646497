"""How members are shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode.ids import NodeId
from dmqnode.messages import NodeStatus
from dmqnode.overview import Overview
from dmqnode.records import Identity
from dmqnode.roster import Member, Roster
from dmqnode.surroundings import Surroundings
from tests.dmqnode.several import Several, id_of
from tests.dmqnode.world import World

ME, OTHER = NodeId(b"me------"), NodeId(b"other---")


def shown(*, linked: bool, told: str | None) -> dict[str, str]:
    """Return the state of each member as a node shows it that has a link to the other, and heard of it."""
    around = Surroundings()
    around.gossip = lambda node: told
    clustering: Any = SimpleNamespace(
        me=ME,
        reachable=lambda node: node == ME or linked,
        rosters=SimpleNamespace(
            current=Roster(1, (Member(ME, "me", "a:1"), Member(OTHER, "other", "b:1"))),
            struck_off=SimpleNamespace(),
        ),
    )
    broker: Any = SimpleNamespace(surroundings=around, identity=Identity(ME, 1, 7))
    return {m["name"]: m["state"] for m in Overview(broker, clustering).members()}


@pytest.mark.parametrize(
    ("linked", "told", "state"),
    [
        (True, None, "alive"),
        (False, None, "dead"),
        (True, "alive", "alive"),
        (False, "dead", "dead"),
        (True, "suspect", "alive"),
        (False, "suspect", "suspect"),
        (True, "dead", "alive"),
        (False, "alive", "suspect"),
    ],
)
def test_a_link_shows_life_and_gossip_whether_without_one_it_is_death(
    linked: bool, told: str | None, state: str
) -> None:
    assert shown(linked=linked, told=told) == {"me": "alive", "other": state}


def test_without_gossip_links_decide() -> None:
    assert Surroundings().gossip(OTHER) is None


def test_the_list_of_members_counts_when_nobody_leads_it_and_is_no_partition() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.run(3.0)
    found = cluster.overview("n1")
    assert (found["partitions"], found["leaderless"], found["healthy"]) == (0, 0, True)
    for name in ("n2", "n3"):
        cluster.kill(name)
    cluster.run(4.0)
    found = cluster.overview("n1")
    assert (found["partitions"], found["leaderless"], found["under_replicated"]) == (0, 1, 1)


def test_a_node_that_hears_no_majority_does_not_find_itself_healthy() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=2)
    cluster.run(3.0)
    status = cluster.ask("n1", NodeStatus()).fields
    assert (status["leaderless"], status["under_replicated"], status["healthy"]) == (0, 0, True)
    for name in ("n2", "n3"):
        cluster.kill(name)
    cluster.run(4.0)
    status = cluster.ask("n1", NodeStatus()).fields
    assert (status["leaderless"], status["under_replicated"], status["healthy"]) == (3, 3, False)


def test_what_was_set_aside_counts_until_it_is_made_good_and_is_a_notice_then() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"a")
    cluster.run(3.0)
    around = cluster.nodes["n2"].broker.surroundings
    for unmended in (2, 0):
        around.set_aside, around.unmended = 3, unmended
        for asked in cluster.nodes:
            seen = cluster.overview(asked)
            assert (seen["set_aside"], seen["healthy"]) == (unmended, True)
        report = cluster.ask("n2", NodeStatus()).fields
        assert (report["set_aside"], report["unmended"], report["healthy"]) == (3, unmended, True)
        said = "2 of them nothing has made good yet" if unmended else "none of them is missed any more"
        notice = f"3 damaged records were set aside and are kept, to be looked into: {said}"
        assert notice in report["notices"]
    cluster.kill("n3")
    cluster.run(0.5)
    assert not cluster.overview("n1")["healthy"], "a copy is missing"


def test_a_node_that_is_alone_counts_what_is_missed_too() -> None:
    world = World()
    world.broker.surroundings.set_aside, world.broker.surroundings.unmended = 3, 1
    assert world.ask(NodeStatus()).fields["overview"]["set_aside"] == 1


def test_what_is_lost_is_no_mere_notice() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.nodes["n2"].broker.counters.lost = 1
    assert not cluster.overview("n1")["healthy"]


def test_homes_that_have_no_majority_without_somebody_are_known() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=2)
    cluster.run(1.0)
    ids = [id_of(name) for name in ("n1", "n2", "n3")]
    for node in cluster.nodes.values():
        spared = node.clustering.rosters.struck_off.spared
        assert all(spared({id_}) for id_ in ids)
        assert not spared(set(ids[:2]))
