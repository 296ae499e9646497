"""A client's connection: what is said of it when it is lost, and when it must be given up."""

from __future__ import annotations

from dmqnode.addresses import Dialling
from dmqnode.link import BATCH_BYTES, SMALL_BATCH, WELCOME_TIMEOUT, Link
from dmqnode.messages import Failed, Stored
from tests.dmqnode.answering import HELLO, FakeNode


def link(*addresses: str) -> Link:
    return Link(HELLO, Dialling(addresses or ("a:1", "b:2"), lambda: 1.0))


def greeted(node: FakeNode) -> Link:
    """Return a link that `node` has answered."""
    made = link()
    made.connected(0.0)
    assert made.connection is not None
    node.receive(0.0, made.connection.data_to_send())
    made.receive_data(0.0, node.connection.data_to_send())
    return made


def test_the_next_address_is_dialled_when_a_node_is_lost() -> None:
    made = greeted(FakeNode())
    assert made.dialling.reached
    assert made.dialling.address == ("a", 1)
    assert made.lost(5.0, "the connection was closed") == "the connection was closed"
    assert made.dialling.address == ("b", 2)
    assert made.connection is None
    assert made.ended


def test_the_node_itself_is_believed_about_why_it_went() -> None:
    node = FakeNode()
    made = greeted(node)
    node.leave()
    made.receive_data(1.0, node.connection.data_to_send())
    assert made.ended  # nothing is under way
    assert made.lost(1.0, "the connection was closed") == "this node is stopping"


def test_who_is_turned_away_for_good_is_told_so() -> None:
    made = greeted(FakeNode(turn_away=Failed("not-authorized", "show a token", False)))
    assert made.turned_away is not None
    assert made.turned_away.code == "not-authorized"
    assert greeted(FakeNode(turn_away=Failed("limit", "one too many", True))).turned_away is None


def test_a_node_must_say_welcome_in_time() -> None:
    made = link("a:1")
    made.connected(10.0)
    assert made.next_deadline() <= 10.0 + WELCOME_TIMEOUT
    made.tick(10.0 + WELCOME_TIMEOUT - 0.1)
    assert not made.ended
    made.tick(10.0 + WELCOME_TIMEOUT)
    assert made.ended
    assert "did not say Welcome" in made.lost(20.0, "")
    assert "no node is reachable at a:1" in str(made.unavailable())


def test_what_is_no_protocol_ends_it() -> None:
    made = link()
    made.connected(0.0)
    assert made.receive_data(0.0, b"SSH-2.0-OpenSSH_9.2\r\n" * 3) == []
    assert made.ended
    assert "does not speak dmq" in made.lost(0.0, "")


def test_an_answer_that_nobody_asked_for_ends_it() -> None:
    node = FakeNode()
    made = greeted(node)
    node.connection._write(99, Stored([], 0))
    made.receive_data(1.0, node.connection.data_to_send())
    assert made.ended


def test_batches_are_as_long_as_four_of_them_fit_the_credit() -> None:
    assert link().batch_bytes == SMALL_BATCH
    assert greeted(FakeNode(credit=64 << 20)).batch_bytes == BATCH_BYTES
    assert greeted(FakeNode(credit=1 << 20)).batch_bytes == 1 << 18


def test_a_link_elsewhere_says_the_same_of_the_client() -> None:
    made = link().elsewhere(Dialling(["c:3"], lambda: 1.0))
    node = FakeNode()
    made.connected(0.0)
    assert made.connection is not None
    node.receive(0.0, made.connection.data_to_send())
    assert node.connection.hello == HELLO
