"""Whatever happens, each send has one true outcome; those who left hear of none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmqnode.errors import (
    DMQError,
    Unknown,
)
from dmqnode.lanes import UNDER_WAY
from dmqnode.messages import (
    Send,
)
from tests.dmqnode.answering import bodies, connected

# --- withdrawing -----------------------------------------------------------------------------------------


def test_a_send_withdrawn_before_it_left_is_not_sent() -> None:
    world = connected()
    call = world.send(b"a")
    world.send(b"b")
    world.core.withdraw(call, b"a")  # type: ignore[arg-type]
    world.carry()
    assert bodies(world.node.store()) == [b"b"]
    world.carry()
    assert not world.has(b"a")


def test_a_send_withdrawn_after_it_left_says_nothing_to_its_sender() -> None:
    world = connected()
    call = world.send(b"a")
    world.send(b"b")
    world.carry()
    world.core.withdraw(call, b"a")  # type: ignore[arg-type]
    world.node.store()
    world.carry()
    assert [owner for owner, _, _ in world.outcomes] == [b"b"]


def test_lanes_go_on_after_withdrawals() -> None:
    world = connected()
    calls = []
    for n in range(UNDER_WAY + 2):
        calls.append((world.send(b"%d" % n), b"%d" % n))
        world.carry()
    for call, owner in calls:
        world.core.withdraw(call, owner)  # type: ignore[arg-type]
    for _ in range(UNDER_WAY):
        world.node.store()
    world.carry()
    world.send(b"next")
    world.carry()
    assert bodies(world.node.store()) == [b"next"]


# --- whatever happens ------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.sampled_from(["send", "send", "carry", "store", "lose", "overload", "refuse", "wait", "withdraw"]),
    max_size=60,
)


@given(events=EVENTS)
def test_whatever_happens_each_send_has_one_true_outcome(events: list[str]) -> None:
    """P10: what is "not stored" never is; what is stored is told; everybody hears exactly once."""
    world = connected()
    stored: dict[int, list[bytes]] = {}
    made: list[tuple[object, bytes]] = []
    gone: set[bytes] = set()

    def store_first() -> None:
        number, send = world.node.take()
        assert isinstance(send, Send)
        # As the node does: a repetition is recognised by its sequence.
        assert stored.setdefault(send.sequence, bodies(send)) == bodies(send)
        world.node.requests.insert(0, (number, send))
        world.node.store()

    for event in events:
        if event == "send":
            body = b"%d" % len(made)
            made.append((world.send(body), body))
        elif event == "carry":
            world.carry()
        elif event == "store" and world.node.requests:
            store_first()
        elif event == "overload" and world.node.requests:
            world.node.refuse("overloaded", retryable=True)
        elif event == "refuse" and world.node.requests:
            world.node.refuse("too-large")
        elif event == "lose":
            world.lose()
            world.connect()
        elif event == "wait":
            world.wait(3.0)
        elif event == "withdraw" and made:
            call, body = made[len(made) // 2]
            gone.add(body)
            world.core.withdraw(call, body)  # type: ignore[arg-type]
    for _ in range(100):
        if world.core.link.ended:
            world.lose()
            world.connect()
        world.carry()
        while world.node.requests:
            store_first()
        world.carry()
        world.wait(1.0)
    assert not world.core.routes.pending()
    assert not len(world.core._again)
    told = [owner for owner, _, _ in world.outcomes]
    assert len(told) == len(set(told))
    assert set(told) | gone >= {body for _, body in made}
    there = [body for batch in stored.values() for body in batch]
    assert len(there) == len(set(there))
    for owner, _, error in world.outcomes:
        if error is None:
            assert owner in there
        elif not isinstance(error, Unknown):
            assert isinstance(error, DMQError)
            assert owner not in there
