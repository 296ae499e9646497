"""Who is let in as a member: known, of one process, and not older than it was (I2)."""

from __future__ import annotations

from dmqnode.acquaintances import AMNESIA, TWICE, UNKNOWN, Acquaintances, Rebuffs
from dmqnode.greetings import PeerHello
from dmqnode.ids import NodeId
from dmqnode.roster import Member, Roster

ME, OTHER, STRANGER = NodeId(b"meeeeeee"), NodeId(b"otherrrr"), NodeId(b"stranger")
ROSTER = Roster(2, (Member(ME, "me", "h:1"), Member(OTHER, "other", "h:2")))


def hello(boot: int, nonce: int = 7, node: NodeId = OTHER) -> PeerHello:
    return PeerHello(1, node, boot, nonce, b"c", "dmq", "other", "h:2", "0.1", ME, b"1", b"proof")


def known(roster: Roster = ROSTER) -> Acquaintances:
    return Acquaintances(ME, lambda: roster, {})


def code(acquaintances: Acquaintances, greeting: PeerHello, live: tuple[int, int] | None = None) -> str:
    failed = acquaintances.judge(greeting, live)
    return failed.code if failed is not None else ""


def test_a_member_is_welcome_again_and_again() -> None:
    met = known()
    assert code(met, hello(3)) == ""
    assert met.meet(hello(3))
    assert code(met, hello(3)) == ""
    assert not met.meet(hello(3)), "nothing new to write"
    assert code(met, hello(4, 8)) == ""
    assert met.meet(hello(4, 8))


def test_a_stranger_is_not() -> None:
    assert code(known(), hello(1, node=STRANGER)) == UNKNOWN


def test_a_restored_backup_is_not() -> None:
    met = known()
    met.meet(hello(5))
    assert code(met, hello(4, 3)) == AMNESIA


def test_a_backup_taken_while_it_ran_is_not_once_the_run_has_another_number() -> None:
    met = known()
    met.meet(hello(5, 1))  # the backup is taken: it would begin as run 6
    assert code(met, hello(6, 2)) == "", "as after a crash"
    assert met.counted(OTHER, 6)
    assert not met.counted(OTHER, 6), "nothing new to write"
    assert met.met == {OTHER: (6, 1)}
    assert code(met, hello(6, 2)) == AMNESIA
    assert code(met, hello(7, 2)) == "", "as after a crash that was later"


def test_a_greeting_under_way_when_the_run_gets_another_number_is_welcome() -> None:
    met = known()
    met.meet(hello(5, 1))
    met.counted(OTHER, 6)
    assert code(met, hello(5, 1)) == ""
    assert code(met, hello(5, 1), live=(6, 1)) == ""
    assert not met.meet(hello(5, 1)), "it is no earlier for that"
    assert met.met == {OTHER: (6, 1)}
    assert not known().counted(STRANGER, 9)


def test_a_copied_directory_is_not() -> None:
    met = known()
    met.meet(hello(5, 1))
    assert code(met, hello(5, 2)) == AMNESIA


def test_a_second_process_is_not_while_the_first_is_alive() -> None:
    met = known()
    met.meet(hello(5, 1))
    assert code(met, hello(6, 2), live=(5, 1)) == TWICE
    assert code(met, hello(6, 2)) == ""
    assert code(met, hello(5, 2), live=(5, 1)) == TWICE, "it is a copy; the first goes on"


def test_ones_own_id_is_somebody_elses() -> None:
    assert code(known(), hello(9, node=ME)) == TWICE


def test_who_is_no_member_any_more_is_forgotten() -> None:
    met = Acquaintances(ME, lambda: ROSTER, {STRANGER: (1, 1)})
    met.meet(hello(2))
    assert met.met == {OTHER: (2, 7)}


def test_a_node_believes_peers_that_send_it_away_in_time() -> None:
    rebuffs = Rebuffs()
    assert rebuffs.sent_away(1.0, OTHER, AMNESIA, 3)
    assert not rebuffs.sent_away(1.0, OTHER, "other-cluster", 3)
    assert not rebuffs.sent_away(1.0, OTHER, TWICE, 3)
    assert not rebuffs.sent_away(5.9, OTHER, TWICE, 3)
    assert rebuffs.sent_away(6.0, OTHER, TWICE, 3)
    rebuffs.welcomed(STRANGER)
    assert not rebuffs.sent_away(6.0, OTHER, TWICE, 3)


def test_a_node_believes_that_it_was_forgotten_when_half_say_so() -> None:
    rebuffs = Rebuffs()
    assert not rebuffs.sent_away(1.0, OTHER, UNKNOWN, 3)
    assert not rebuffs.sent_away(99.0, OTHER, UNKNOWN, 3)
    assert not rebuffs.sent_away(99.0, STRANGER, UNKNOWN, 3)
    assert rebuffs.sent_away(109.0, STRANGER, UNKNOWN, 3)
    rebuffs.welcomed(STRANGER)
    assert not rebuffs.sent_away(110.0, OTHER, UNKNOWN, 3)
    assert rebuffs.sent_away(110.0, OTHER, UNKNOWN, 2)


def test_a_later_list_of_members_is_believed_at_once() -> None:
    rebuffs = Rebuffs()
    assert not rebuffs.sent_away(1.0, OTHER, UNKNOWN, 3)
    assert not rebuffs.sent_away(1.1, OTHER, UNKNOWN, 3, later=True)  # one of three is not half of them
    assert rebuffs.sent_away(1.2, STRANGER, UNKNOWN, 3, later=True)


def test_who_has_a_later_list_may_still_take_a_crashed_process_for_alive() -> None:
    rebuffs = Rebuffs()
    assert not rebuffs.sent_away(1.0, OTHER, TWICE, 3, later=True)
    assert not rebuffs.sent_away(5.9, OTHER, TWICE, 3, later=True)
    assert rebuffs.sent_away(6.0, OTHER, TWICE, 3, later=True)
