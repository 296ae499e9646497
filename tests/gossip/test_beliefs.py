"""What a claim does, for each thing that can be believed already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.config import SwimConfig
from gossip.effects import Remember, Twin
from gossip.messages import Alive, Claim, Dead, Known, Left, NodeId, Status, Suspect
from tests.gossip.lone import ALIVE, DEAD, LEFT, SUSPECT, Lone, member
from tests.gossip.world import address_of, node_id

QUIET = replace(SwimConfig.lan(), probe_interval=3600.0, suspicion_factor=1.0)


def suspect(name: str, incarnation: int = 1, source: str = "n2") -> Suspect:
    return Suspect(node_id(name), incarnation, node_id(source))


def dead(name: str, incarnation: int = 1, source: str = "n2") -> Dead:
    return Dead(node_id(name), incarnation, node_id(source))


def left(name: str, incarnation: int = 1, source: str = "n2") -> Left:
    return Left(node_id(name), incarnation, node_id(source))


# --- alive -----------------------------------------------------------------------------------------------


def test_an_unknown_member_is_added_and_passed_on() -> None:
    me = Lone()
    me.hears(Alive(member("n1")))
    assert me.changes() == [("n1", None, ALIVE)]
    me.passes(1)
    assert me.said(Alive) == [Alive(member("n1"))]
    assert Remember((address_of("n1"),)) in me.events


def test_the_same_again_is_no_news() -> None:
    me = Lone("n1", "n2")
    me.passes(5)
    me.forget()
    me.hears(Alive(member("n1")))
    me.passes(1)
    assert me.changes() == []
    assert me.said(Alive) == []


def test_a_new_record_of_a_member_replaces_the_old() -> None:
    me = Lone("n1")
    me.hears(Alive(member("n1", 2, meta=b"new", address="moved:1")))
    found = me.swim.member(node_id("n1"))
    assert found is not None
    assert (found[0].meta, found[0].address) == (b"new", "moved:1")
    assert me.changes() == [("n1", ALIVE, ALIVE)]
    assert me.swim.known_addresses() == ("moved:1",)


def test_an_older_record_is_ignored() -> None:
    me = Lone()
    me.hears(Alive(member("n1", 5)))
    me.hears(Alive(member("n1", 4, meta=b"old")))
    assert me.incarnation("n1") == 5


def test_a_suspect_refutes_by_a_higher_incarnation_only() -> None:
    me = Lone("n1", "n2")
    me.hears(suspect("n1"))
    me.hears(Alive(member("n1", 1)))
    assert me.status("n1") is SUSPECT
    me.hears(Alive(member("n1", 2)))
    assert me.changes() == [("n1", ALIVE, SUSPECT), ("n1", SUSPECT, ALIVE)]
    me.passes(5)
    assert me.status("n1") is ALIVE


@pytest.mark.parametrize("end", [dead, left])
def test_one_that_is_gone_comes_back_by_a_higher_incarnation_only(end: type[Claim]) -> None:
    me = Lone("n1", "n2")
    me.hears(end("n1"))  # type: ignore[call-arg,arg-type]
    gone = me.status("n1")
    me.hears(Alive(member("n1", 1)))
    assert me.status("n1") is gone
    me.hears(Alive(member("n1", 2)))
    assert me.status("n1") is ALIVE
    assert address_of("n1") in me.swim.known_addresses()


def test_a_full_list_drops_the_longest_absent_then_news_of_the_unknown() -> None:
    me = Lone("n1", "n2", "n3", config=replace(SwimConfig.lan(), members_limit=3))
    me.hears(dead("n2"))
    me.passes(0.1)
    me.hears(dead("n1"))
    me.hears(Alive(member("n4")))
    assert [me.status(f"n{i}") for i in (1, 2, 3, 4)] == [DEAD, None, ALIVE, ALIVE]
    assert ("n2", DEAD, None) in me.changes()
    me.hears(Alive(member("n5")))
    me.hears(Alive(member("n6")))
    assert (me.status("n1"), me.status("n6")) == (None, None)
    assert me.swim.counters.overflow == 1


# --- suspect ---------------------------------------------------------------------------------------------


def test_suspicion_of_an_unknown_member_is_ignored() -> None:
    me = Lone("n1")
    me.hears(suspect("nobody"))
    assert me.status("nobody") is None
    assert me.events == []


def test_a_suspect_that_says_nothing_is_dead_in_the_end() -> None:
    me = Lone("n1", "n2", "n3")
    me.hears(suspect("n1"))
    me.passes(1.7)
    assert me.status("n1") is SUSPECT
    me.passes(0.2)
    assert me.changes() == [("n1", ALIVE, SUSPECT), ("n1", SUSPECT, DEAD)]
    me.passes(1)
    assert dead("n1", source="me") in me.said(Dead)


def test_further_accusers_shorten_it_and_are_passed_on_while_wanted() -> None:
    config = replace(SwimConfig.lan(), probe_interval=100.0, suspicion_factor=1.0)
    me = Lone(*(f"n{i}" for i in range(1, 9)), config=config)
    me.passes(5)
    for number in range(2, 8):
        me.hears(suspect("n1", source=f"n{number}"))
        me.hears(suspect("n1", source=f"n{number}"))
    me.passes(90)
    passed_on = [claim.source for claim in me.said(Suspect) if claim.source != node_id("me")]
    assert sorted(passed_on) == sorted(node_id(f"n{i}") for i in (2, 3, 4, 5))
    assert me.status("n1") is SUSPECT
    me.passes(11)
    assert me.status("n1") is DEAD


def test_an_accuser_that_repeats_itself_shortens_nothing() -> None:
    config = replace(SwimConfig.lan(), probe_interval=100.0, suspicion_factor=1.0)
    me = Lone(*(f"n{i}" for i in range(1, 9)), config=config)
    for _ in range(9):
        me.hears(suspect("n1"))
    me.passes(390)
    assert me.status("n1") is SUSPECT


def test_an_old_suspicion_is_ignored_and_a_newer_begins_anew() -> None:
    me = Lone("n2", "n3")
    me.hears(Alive(member("n1", 5)))
    me.hears(suspect("n1", 4))
    assert me.status("n1") is ALIVE
    me.hears(suspect("n1", 5))
    me.passes(1.5)
    me.hears(suspect("n1", 6))
    me.passes(1.5)
    assert me.status("n1") is SUSPECT
    me.passes(0.4)
    assert (me.status("n1"), me.incarnation("n1")) == (DEAD, 6)


@pytest.mark.parametrize("end", [dead, left])
def test_who_is_gone_is_not_suspected(end: type[Claim]) -> None:
    me = Lone("n1", "n2")
    me.hears(end("n1"))  # type: ignore[call-arg,arg-type]
    me.forget()
    me.hears(suspect("n1", 7))
    assert me.changes() == []


@pytest.mark.parametrize("claim", [suspect, dead, left])
def test_what_is_claimed_of_this_node_it_refutes(claim: type[Claim]) -> None:
    me = Lone("n1", "n2")
    me.hears(claim("me", 4))  # type: ignore[call-arg,arg-type]
    assert me.swim.me.incarnation == 5
    assert me.swim.awareness == 1
    me.passes(1)
    assert me.said(Alive) == [Alive(replace(member("me"), incarnation=5))]
    me.hears(claim("me", 4))  # type: ignore[call-arg,arg-type]
    assert me.swim.me.incarnation == 5
    assert me.swim.counters.refutations == 1


# --- dead and left ---------------------------------------------------------------------------------------


def test_a_death_is_passed_on_once_known() -> None:
    me = Lone("n1", "n2")
    me.hears(dead("n1"))
    me.hears(dead("n1"))
    assert me.changes() == [("n1", ALIVE, DEAD)]
    me.passes(1)
    assert me.said(Dead) == [dead("n1")]


def test_an_old_death_is_ignored() -> None:
    me = Lone()
    me.hears(Alive(member("n1", 5)))
    me.hears(dead("n1", 4))
    assert me.status("n1") is ALIVE


def test_a_dead_member_can_still_leave_but_not_the_other_way_round() -> None:
    me = Lone("n1", "n2")
    me.hears(dead("n1"))
    me.hears(left("n1"))
    assert me.status("n1") is LEFT
    me.hears(dead("n1"))
    assert me.status("n1") is LEFT
    assert address_of("n1") not in me.swim.known_addresses()


def test_the_dead_are_forgotten_in_time_but_their_address_is_not() -> None:
    me = Lone("n1", "n2", config=replace(QUIET, forget_dead_after=100.0))
    me.hears(dead("n1"))
    me.passes(99)
    assert me.status("n1") is DEAD
    me.passes(22)
    assert me.status("n1") is None
    assert me.changes()[-1] == ("n1", DEAD, None)
    assert address_of("n1") in me.swim.known_addresses()
    assert address_of("n1") in me.exchanges[-3:]


# --- what a state says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "told", "after"),
    [
        (None, Known(member("n3"), ALIVE, 0), ALIVE),
        (None, Known(member("n3"), SUSPECT, 0), SUSPECT),
        (None, Known(member("n3"), DEAD, 5), DEAD),
        (None, Known(member("n3"), LEFT, 5), LEFT),
        (None, Known(member("n3"), DEAD, 24 * 3600 + 1), None),
        (Alive(member("n3")), Known(member("n3"), DEAD, 5), SUSPECT),
        (Alive(member("n3")), Known(member("n3"), LEFT, 5), LEFT),
        (Alive(member("n3", 2)), Known(member("n3", 1), DEAD, 5), ALIVE),
        (Alive(member("n3", 2)), Known(member("n3", 1), LEFT, 5), ALIVE),
        (dead("n3"), Known(member("n3"), ALIVE, 5), DEAD),
        (dead("n3"), Known(member("n3", 2), ALIVE, 5), ALIVE),
        (dead("n3"), Known(member("n3", 2), SUSPECT, 5), SUSPECT),
        (dead("n3"), Known(member("n3", 2), DEAD, 5), DEAD),
        (dead("n3"), Known(member("n3"), LEFT, 5), LEFT),
        (left("n3"), Known(member("n3", 2), DEAD, 5), LEFT),
    ],
)
def test_merging_one_member(before: Alive | Dead | Left | None, told: Known, after: Status | None) -> None:
    me = Lone("n1")
    if before is not None and not isinstance(before, Alive):
        me.hears(Alive(member("n3")))
    if before is not None:
        me.hears(before)
    me.hears_state(told)
    assert me.status("n3") is after


def test_a_state_that_takes_this_node_for_dead_is_refuted() -> None:
    me = Lone("n1")
    me.hears_state(Known(member("me", 8), DEAD, 50))
    assert me.swim.me.incarnation == 9


# --- this node -------------------------------------------------------------------------------------------


def test_a_record_of_an_earlier_run_is_outdone_quietly() -> None:
    me = Lone("n1")
    me.hears(Alive(member("me", 0, address="elsewhere:1")))
    assert me.swim.me.incarnation == 1
    me.hears(Alive(member("me", 7)))
    assert me.swim.me.incarnation == 8
    assert not any(isinstance(event, Twin) for event in me.events)


def test_another_place_that_outdoes_this_node_is_a_twin() -> None:
    me = Lone("n1")
    me.hears(Alive(member("me", 7, address="elsewhere:1")))
    me.hears(Alive(member("me", 9, address="elsewhere:1")))
    assert me.events.count(Twin("elsewhere:1")) == 1


def test_what_this_node_says_of_itself_can_be_changed() -> None:
    me = Lone("n1")
    me.does("describe", meta=b"new", zone="z2", weight=2.0)
    me.passes(1)
    assert me.said(Alive, to="n1") == [Alive(member("me", 2, meta=b"new", zone="z2", weight=2.0))]
    assert me.swim.members()[0] == (me.swim.me, ALIVE)
    assert me.swim.member(NodeId(node_id("me"))) == (me.swim.me, ALIVE)
