"""The roster: its record, its steps, and what may be done without a majority."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.clock import Now
from dmqnode.errors import ProtocolError, Refused
from dmqnode.ids import NodeId
from dmqnode.messages import Message, Step
from dmqnode.roster import ROSTER, Member, Roster, Rosters, decode, encode, quorum
from storage.ops import WriteBatch

NODES = [NodeId(b"node%04d" % n) for n in range(5)]
MEMBERS = tuple(Member(node, f"n{n}", f"h:{n}") for n, node in enumerate(NODES))
NOW = Now(100.0, 1_700_000_000_000)


class Port:
    """Sends to nobody, writes at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[NodeId, Message]] = []

    def send(self, node: NodeId, message: Message) -> None:
        self.sent.append((node, message))

    def write(self, ops: WriteBatch, then: Any, *, sync: bool = True) -> None:
        then(NOW)


class Leader:
    """Rosters whose partition is led here, or not."""

    def __init__(self, count: int, *, leads: bool = True) -> None:
        self.leads = leads
        self.replicate_later = False
        self.port = Port()
        self.outcomes: list[Refused | None] = []
        self.rosters = Rosters(
            Roster(1, MEMBERS[:count]),
            self.port,  # type: ignore[arg-type]
            self.replicate,
            lambda now, roster: None,
            replicas=3,
            dead_after=60.0,
        )
        self.absent: set[NodeId] = set()
        self.look()

    def replicate(self, now: Now, partition: bytes, ops: WriteBatch, then: Any) -> bool:
        assert partition == ROSTER
        if self.leads and not self.replicate_later:
            then(now)
        return self.leads

    def answers(self, node: NodeId) -> bool:
        return node not in self.absent

    def look(self, run: float = 100.0) -> None:
        self.rosters.seen(Now(run, 0), self.answers)

    def step(self, kind: str, member: bytes, *, destroyed: bool = False, now: Now = NOW) -> Refused | None:
        self.rosters.step(
            now, Step(kind, member, destroyed), done=lambda now, error: self.outcomes.append(error)
        )
        return self.outcomes[-1]


def missed(absent: list[NodeId]) -> None:
    """No homes are without a majority."""


def record(member: Member) -> bytes:
    return cbor2.dumps(list(member))


members = st.lists(st.sampled_from(MEMBERS), min_size=1, unique=True).map(tuple)


@given(st.integers(1, 2**40), members, st.lists(st.sampled_from(NODES), unique=True).map(tuple))
def test_a_roster_survives_its_record(version: int, some: tuple[Member, ...], lost: Any) -> None:
    roster = Roster(version, some, (NODES[0],), lost)
    assert decode(encode(roster)) == roster


@given(st.binary(max_size=60))
def test_other_bytes_are_no_roster(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_the_first_homes_stay_those_of_the_founders() -> None:
    leader = Leader(1)
    for member in MEMBERS[1:4]:
        assert leader.step("join", record(member)) is None
    assert leader.step("leave", NODES[0]) is None
    assert decode(encode(leader.rosters.current)).first_homes == (NODES[0],)
    assert leader.rosters.current.version == 5


def test_a_member_that_answers_is_not_forgotten() -> None:
    leader = Leader(3)
    refused = leader.step("forget", NODES[2])
    assert refused is not None
    assert "dmq node leave" in str(refused)
    leader.absent.add(NODES[2])
    assert leader.step("forget", NODES[2], destroyed=True) is None
    assert leader.rosters.current.nodes == tuple(NODES[:2])


def test_one_of_three_that_is_away_may_be_forgotten_at_once_but_not_two() -> None:
    leader = Leader(4)
    leader.absent.add(NODES[3])
    leader.look()
    assert leader.step("forget", NODES[3]) is None
    leader.absent.add(NODES[2])
    leader.look()
    assert "may still serve behind a cut" in str(leader.step("forget", NODES[2]))


def test_a_step_is_answered_when_the_lead_ends_before_it_is_committed() -> None:
    leader = Leader(3)
    leader.replicate_later = True
    leader.rosters.step(
        NOW, Step("leave", NODES[2], False), done=lambda now, error: leader.outcomes.append(error)
    )
    assert not leader.outcomes
    leader.rosters.lost(NOW)
    leader.rosters.lost(NOW)
    assert ["dmq cluster members" in str(error) for error in leader.outcomes] == [True]
    leader.replicate_later = False
    assert leader.step("leave", NODES[2]) is None


def test_a_step_that_is_not_known_is_refused() -> None:
    assert "upgrade all nodes first" in str(Leader(3).step("split", NODES[2]))


def test_who_is_not_destroyed_is_forgotten_once_it_has_stopped_granting_by_itself() -> None:
    leader = Leader(3)
    leader.absent.update(NODES[1:3])
    for run, left in ((100.0, 35), (134.0, 1)):
        leader.look(run)
        refused = leader.step("forget", NODES[2], now=Now(run, 0))
        assert f"in {left} seconds, or say --destroyed" in str(refused)
    assert leader.step("forget", NODES[2], now=Now(135.0, 0)) is None
    assert leader.rosters.current.nodes == tuple(NODES[:2])
    assert leader.rosters.current.destroyed == (NODES[2],), "it is let in as a new one only"


def test_a_new_disk_at_the_same_place_replaces_the_absent_member() -> None:
    leader = Leader(3)
    leader.absent.add(NODES[2])
    leader.look()
    again = MEMBERS[2]._replace(node=NodeId(b"newdisk!"))
    assert leader.step("join", record(again)) is None
    assert leader.rosters.current.nodes == (NODES[0], NODES[1], again.node)


def test_a_member_may_weigh_another_share_but_one_that_is_about_to_leave_goes_on_to() -> None:
    leader = Leader(3)
    heavy = MEMBERS[1]._replace(weight=2.0)
    assert leader.step("join", record(heavy)) is None
    assert leader.rosters.current.find(NODES[1]) == heavy
    assert leader.rosters.current.version == 2
    leader.step("join", record(heavy._replace(weight=0.0)))
    leader.step("join", record(heavy._replace(address="h:9")))
    assert leader.rosters.current.find(NODES[1]) == heavy._replace(weight=0.0, address="h:9")
    version = leader.rosters.current.version
    leader.step("join", record(heavy._replace(address="h:9")))
    assert leader.rosters.current.version == version, "it is listed so already"


def test_who_does_not_lead_makes_no_step() -> None:
    leader = Leader(3, leads=False)
    assert leader.step("join", record(MEMBERS[4])) is not None
    assert leader.rosters.current.version == 1


def test_only_without_a_majority_a_step_is_forced() -> None:
    leader = Leader(2)
    assert not leader.rosters.cut_off(NODES[1], leader.answers)
    leader.absent.add(NODES[1])
    assert leader.rosters.cut_off(NODES[1], leader.answers)
    assert not leader.rosters.cut_off(NODES[0], leader.answers)
    leader.rosters.force(NOW, NODES[1])
    assert leader.rosters.current.nodes == (NODES[0],)
    assert leader.rosters.current.destroyed == (NODES[1],)
    three = Leader(3)
    three.absent.add(NODES[2])
    assert not three.rosters.cut_off(NODES[2], three.answers)


def test_the_absent_are_forgotten_only_while_enough_remain() -> None:
    leader = Leader(4)
    leader.absent.add(NODES[3])
    leader.look(100.0)
    assert leader.rosters.overdue(Now(699.0, 0), 600.0, missed) is None
    assert leader.rosters.overdue(Now(700.0, 0), 600.0, missed) == NODES[3]
    few = Leader(3)
    few.absent.add(NODES[2])
    few.look(100.0)
    assert few.rosters.overdue(Now(10_000.0, 0), 600.0, missed) is None


def test_where_few_remain_those_are_forgotten_without_whom_homes_have_no_majority() -> None:
    few = Leader(3)
    few.absent.update(NODES[1:3])
    few.look(100.0)
    few.absent.remove(NODES[1])
    few.look(200.0)
    few.absent.add(NODES[1])
    few.look(300.0)
    asked: list[list[NodeId]] = []

    def lost(absent: list[NodeId]) -> NodeId:
        asked.append(absent)
        return absent[0]

    assert few.rosters.overdue(Now(699.0, 0), 600.0, lost) is None
    assert few.rosters.overdue(Now(700.0, 0), 600.0, lost) == NODES[2]
    assert asked == [[NODES[2]]], "who came back meanwhile is not absent for long"


def test_without_a_majority_for_long_a_node_is_isolated() -> None:
    leader = Leader(3)
    leader.absent.update(NODES[1:3])
    leader.look(100.0)
    assert not leader.rosters.hearing.isolated(Now(129.0, 0))
    assert leader.rosters.hearing.isolated(Now(130.0, 0))


def test_no_more_copies_are_waited_for_than_there_are_members() -> None:
    assert [quorum(Roster(1, MEMBERS[:n]), 3, 2) for n in (1, 2, 3, 5)] == [1, 2, 2, 2]


def test_all_that_are_lost_at_once_are_known_to_be_destroyed() -> None:
    """Else homes of which the first are forgotten again would never be formed anew (M4)."""
    nodes = [NodeId(b"node%04d" % n) for n in range(200)]
    leader = Leader(1)
    rosters = leader.rosters
    rosters.learn(NOW, Roster(2, tuple(Member(node, f"n{n}", f"h:{n}") for n, node in enumerate(nodes))))
    lost = nodes[120:]
    leader.absent.update(lost)
    leader.look(100.0)
    while (gone := rosters.overdue(Now(1000.0, 0), 600.0, missed)) is not None:
        assert leader.step("forget", gone, destroyed=True, now=Now(1000.0, 0)) is None
    assert set(rosters.current.destroyed) == set(lost)
