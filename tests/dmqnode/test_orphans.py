"""Homes are formed anew only once every member has said that it knows of none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dmqnode.clock import Now
from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId, QueueId
from dmqnode.messages import Message
from dmqnode.orphans import AT_ONCE, BELIEVED, Orphans, reform
from dmqnode.peer_messages import AnyHomes, Committed, HomesKnown
from dmqnode.roster import Member, Roster

A, B, C, D, E = (NodeId(bytes([n] * 8)) for n in range(1, 6))
PARTITION = PartitionId(bytes(9) + b"\x07")
NOW = Now(10.0, 1_700_000_000_000)
FIRST = HomeSet.first((D, E))
ANEW = (A, B)


class Clustered:
    """Node A of A, B and C; D and E were destroyed.  Placement wants A and B."""

    def __init__(self) -> None:
        self.me = A
        self.sent: list[tuple[NodeId, Message]] = []
        self.record: HomeSet | None = None
        self.rosters = SimpleNamespace(current=roster(7), scarce=True)
        self.linked = {B: 0.0, C: 0.0}
        self.walls = SimpleNamespace(silent=False)
        self.leaving = False
        find = lambda partition: None if self.record is None else SimpleNamespace(record=self.record)
        self.reduced: HomeSet | None = None
        reduce = lambda record: self.reduced or record
        self.grants = SimpleNamespace(find=find, reform=self.reform, reduce=reduce)
        self.cluster = SimpleNamespace(grants=self.grants)
        self.walks = 0
        self.mender = SimpleNamespace(changed=self.changed)
        registry = SimpleNamespace(definition_of=lambda queue: None if queue in self.deleted else queue)
        self.deleted: set[QueueId] = set()
        broker: Any = SimpleNamespace(now=NOW, registry=registry)
        clustering: Any = self
        self.orphans = Orphans(broker, clustering)

    def changed(self) -> None:
        self.walks += 1

    def reform(self, partition: PartitionId, record: HomeSet) -> HomeSet:
        return reform(self.rosters.current, record, ANEW)

    def send(self, node: NodeId, message: Message) -> None:
        self.sent.append((node, message))

    def reachable(self, node: NodeId) -> bool:
        return node == self.me or node in self.linked

    def wanted(self, partition: PartitionId) -> tuple[NodeId, ...]:
        return ANEW

    def look(self, known: HomeSet) -> None:
        self.orphans.begin()
        self.orphans.look(PARTITION, known)

    def told(self) -> list[tuple[NodeId, list[bytes]]]:
        """Who was told whom homes miss."""
        return [(n, m.silent) for n, m in self.sent if isinstance(m, AnyHomes) and m.silent]

    def homes(self) -> tuple[NodeId, ...]:
        return self.orphans.homes(PARTITION, FIRST).members

    def hear(self, sender: NodeId, *, known: bool = False, version: int = 7) -> None:
        assert self.orphans.receive(NOW, sender, HomesKnown(PARTITION, version, known))


def roster(
    version: int, destroyed: tuple[NodeId, ...] = (D, E), members: tuple[NodeId, ...] = (A, B, C)
) -> Roster:
    listed = tuple(Member(node, f"n{node[0]}", f"h{node[0]}:1") for node in members)
    return Roster(version, listed, (A,), tuple(n for n in destroyed if n not in members))


def test_every_member_is_asked_before() -> None:
    node = Clustered()
    assert node.homes() == FIRST.members
    assert node.sent == [(n, AnyHomes(PARTITION, 7, FIRST.fields())) for n in (B, C)]
    node.hear(B)
    assert node.homes() == FIRST.members
    node.hear(C)
    assert node.homes() == ANEW
    assert node.orphans.may_claim(PARTITION, node.orphans.homes(PARTITION, FIRST))


def test_who_knows_of_others_stands_in_the_way() -> None:
    node = Clustered()
    node.homes()
    node.hear(B)
    node.hear(C, known=True)
    assert node.homes() == FIRST.members


def test_with_another_list_of_members_all_are_asked_again() -> None:
    node = Clustered()
    node.homes()
    node.hear(B)
    node.hear(C)
    formed = node.orphans.homes(PARTITION, FIRST)
    node.rosters.current = roster(8)
    assert not node.orphans.may_claim(PARTITION, formed)
    assert node.homes() == FIRST.members
    node.hear(B, version=7)
    node.hear(C, version=7)
    assert node.homes() == FIRST.members


def test_homes_that_are_not_given_up_stay() -> None:
    node = Clustered()
    node.rosters.current = roster(7, destroyed=())
    assert node.homes() == FIRST.members
    assert not node.sent


def test_what_is_known_is_told_under_the_same_list_only() -> None:
    node = Clustered()
    node.record = HomeSet.first((B, C))
    for version in (6, 7):
        assert node.orphans.receive(NOW, C, AnyHomes(PARTITION, version))
    assert node.sent == [
        (C, Committed(PARTITION, 0, node.record.fields())),
        (C, HomesKnown(PARTITION, 7, True)),
    ]


def test_what_is_left_of_homes_asks_too_for_it_may_have_missed_many_changes() -> None:
    node = Clustered()
    node.record = HomeSet.first((A, D, E))
    assert not node.orphans.may_claim(PARTITION, FIRST)
    assert node.sent == [(n, AnyHomes(PARTITION, 7, node.record.fields())) for n in (B, C)]
    node.hear(B)
    assert not node.orphans.may_claim(PARTITION, FIRST)
    node.hear(C)
    assert node.orphans.may_claim(PARTITION, FIRST)
    node.record = HomeSet.first((A, B, E))
    assert node.orphans.may_claim(PARTITION, FIRST), "a majority of these is left"


def test_later_homes_are_told_those_of_before_are_not() -> None:
    node = Clustered()
    node.record = HomeSet.first((A, B)).change(LeaseNumber(3, B), (A, C)).commit()
    for record, known in ((HomeSet.first((A, D, E)), True), (node.record, False)):
        node.sent.clear()
        assert node.orphans.receive(NOW, C, AnyHomes(PARTITION, 7, record.fields()))
        told = [(C, Committed(PARTITION, 0, node.record.fields()))] if known else []
        assert node.sent == [*told, (C, HomesKnown(PARTITION, 7, known))]


def test_nobody_is_asked_where_those_who_are_left_cannot_have_missed_anything() -> None:
    node = Clustered()
    node.record = HomeSet.first((A, B, D, E))
    assert not node.orphans.may_claim(PARTITION, FIRST)
    node.reduced = node.record.without((D,))
    node.sent.clear()
    assert node.orphans.may_claim(PARTITION, FIRST)
    assert not node.sent


# --- more of them than may be asked about at once --------------------------------------------------------


class Many(Clustered):
    """The same, of many partitions, each with a record of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[PartitionId, HomeSet] = {}
        self.grants.find = lambda id_: (
            SimpleNamespace(record=self.records[id_]) if id_ in self.records else None
        )

    def ask(self, count: int) -> int:
        """Look at so many partitions without homes in one step; return about how many others were asked."""
        self.sent.clear()
        self.orphans.begin()
        for n in range(count):
            self.orphans.homes(orphan(n), FIRST)
        return len({m.partition for _, m in self.sent if isinstance(m, AnyHomes)})


def orphan(number: int) -> PartitionId:
    return PartitionId(number.to_bytes(8, "big") + bytes(2))


def test_when_homes_were_formed_anew_others_are_asked_about() -> None:
    node = Many()
    assert node.ask(AT_ONCE + 10) == AT_ONCE
    assert node.ask(AT_ONCE + 10) == 0, "none has been answered"
    assert not node.walks
    for n in range(5):
        node.records[orphan(n)] = node.reform(orphan(n), FIRST)
    assert node.ask(AT_ONCE + 10) == 5
    assert node.walks == 1, "those that were left out are looked at soon"


def test_of_queues_that_were_deleted_nobody_is_asked_any_more() -> None:
    node = Many()
    node.ask(AT_ONCE + 10)
    node.deleted = {QueueId(orphan(n)[:8]) for n in range(AT_ONCE)}
    node.orphans.begin()
    assert not node.orphans._inquiries


def test_when_homes_have_a_majority_again_others_are_asked_about() -> None:
    node = Clustered()
    node.linked = {B: 0.0}
    node.look(FIVE)
    assert node.orphans._inquiries
    node.linked = {B: 0.0, C: 0.0}
    node.orphans.begin()
    assert not node.orphans._inquiries


# --- homes without a majority, of whom none need be forgotten (M2) ---------------------------------------

THREE = HomeSet.first((A, B, C))
FIVE = HomeSet.first((A, B, C, D, E))


def test_homes_that_have_a_majority_miss_nobody() -> None:
    node = Clustered()
    node.rosters.current = roster(7, destroyed=())
    node.linked = {B: 0.0}
    node.look(THREE)
    assert not node.sent
    assert node.orphans.missed([C]) is None


def test_whom_homes_without_a_majority_miss_is_told_once_all_others_have_answered() -> None:
    node = Clustered()
    node.linked = {B: 0.0}
    node.look(FIVE)
    assert node.sent == [(n, AnyHomes(PARTITION, 7, FIVE.fields())) for n in (B, C)]
    node.look(FIVE)
    assert not node.told(), "one that answers has not said that it knows of no later homes"
    node.hear(B)
    node.look(FIVE)
    assert node.told() == [(B, [C])]
    assert node.orphans.missed([C]) == C
    assert node.orphans.missed([B]) is None, "who answers this node is not forgotten"


def test_it_is_not_told_where_the_dead_are_forgotten_anyway_nor_by_two() -> None:
    node = Clustered()
    node.linked = {B: 0.0}
    node.rosters.scarce = False
    node.look(FIVE)
    node.rosters.scarce = True
    node.look(HomeSet.first((B, C, D, E)))  # that is for B to say
    assert not node.sent


def complaint(version: int = 7, record: HomeSet = FIVE, silent: tuple[NodeId, ...] = (B,)) -> AnyHomes:
    return AnyHomes(PARTITION, version, record.fields(), list(silent))


def test_whom_others_miss_is_believed_for_a_while_and_by_one_version_of_the_list() -> None:
    node = Clustered()
    assert node.orphans.receive(NOW, C, complaint())
    assert node.orphans.missed([B]) == B
    node.orphans._broker.now = Now(NOW.run + BELIEVED, NOW.wall)
    assert node.orphans.missed([B]) is None
    node.orphans.receive(NOW, C, complaint())
    assert node.orphans.missed([B]) == B
    node.rosters.current = roster(8)
    assert node.orphans.missed([B]) is None


def test_one_of_the_homes_is_missed_as_long_as_one_of_them_is_silent() -> None:
    node = Clustered()
    node.rosters.current = roster(7, members=(A, B, C, D))
    node.orphans.receive(NOW, A, complaint(record=HomeSet.first((A, C, D)), silent=(B, C, D)))
    assert node.orphans.missed([B, C, D]) == C


def test_when_all_other_homes_are_destroyed_whoever_has_not_said_no_is_missed() -> None:
    node = Clustered()
    node.orphans.receive(NOW, C, complaint(record=HomeSet.first((A, D, E)), silent=(B,)))
    assert node.orphans.missed([B]) == B


def test_who_complained_takes_it_back_when_it_hears_who_was_silent() -> None:
    node, other = Clustered(), Clustered()
    node.linked = {B: 0.0}
    node.look(FIVE)
    node.hear(B)
    node.look(FIVE)
    (told,) = [m for n, m in node.sent if n == B and isinstance(m, AnyHomes) and m.silent]
    other.me = B
    other.linked = {A: 0.0}
    other.orphans.receive(NOW, A, told)
    assert other.orphans.missed([C]) == C
    node.sent.clear()
    node.linked = {B: 0.0, C: 0.0}
    node.orphans.begin()
    assert node.orphans.missed([C]) is None
    (told,) = [m for n, m in node.sent if n == B and isinstance(m, AnyHomes)]
    other.orphans.receive(NOW, A, told)
    assert other.orphans.missed([C]) is None


def test_only_who_complained_takes_it_back() -> None:
    node = Clustered()
    node.orphans.receive(NOW, C, complaint())
    node.orphans.receive(NOW, A, complaint(silent=()))
    assert node.orphans.missed([B]) == B


def test_who_is_not_heard_any_more_or_was_lost_meanwhile_is_not_believed() -> None:
    node = Clustered()
    node.orphans.receive(NOW, C, complaint())
    del node.linked[C]
    assert node.orphans.missed([B]) is None
    node.linked[C] = NOW.run + 1.0
    assert node.orphans.missed([B]) is None, "it may have said, in vain, that it hears B"
    node.orphans._broker.now = Now(NOW.run + 2.0, NOW.wall)
    node.orphans.receive(NOW, C, complaint())
    assert node.orphans.missed([B]) == B


def test_of_who_answers_here_no_complaint_is_remembered() -> None:
    node = Clustered()
    node.linked = {C: 0.0}
    node.orphans.receive(NOW, C, complaint())
    node.linked = {B: 0.0, C: 0.0}
    node.orphans.begin()
    assert node.orphans.missed([B]) is None
    assert not node.sent[1:], "it has not complained itself"


def test_all_who_do_not_answer_those_homes_must_be_absent_here_too() -> None:
    node = Clustered()
    node.orphans.receive(NOW, C, complaint(silent=(A, B)))
    assert node.orphans.missed([B]) is None


def test_who_complains_of_homes_of_before_is_told_the_later_ones() -> None:
    node = Clustered()
    node.record = FIVE.change(LeaseNumber(3, C), (A, B, C)).commit()
    node.orphans.receive(NOW, C, complaint())
    assert node.orphans.missed([B]) is None
    assert node.sent[-1] == (C, HomesKnown(PARTITION, 7, True))


def test_homes_that_would_have_a_majority_are_not_believed_to_have_none() -> None:
    node = Clustered()
    for wrong in (complaint(record=THREE), complaint(silent=()), complaint(version=6)):
        node.orphans.receive(NOW, C, wrong)
        assert node.orphans.missed([B]) is None
