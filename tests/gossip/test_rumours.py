"""What is passed on, how often and in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.codec import decode, encode
from gossip.messages import Alive, Dead, Left, Member, Message, NodeId, Suspect
from gossip.rumours import Rumours


def node(number: int) -> NodeId:
    return NodeId(bytes([number] * 8))


def alive(number: int, incarnation: int = 0) -> Alive:
    return Alive(Member(node(number), f"n{number}", f"n{number}:1", incarnation))


def take(rumours: Rumours, size: int = 10_000, limit: int = 3) -> list[Message]:
    return decode(b"".join(rumours.take(size, limit)))


def test_each_is_sent_so_often_and_no_more() -> None:
    rumours = Rumours()
    rumours.put(alive(1))
    assert [take(rumours) for _ in range(4)] == [[alive(1)], [alive(1)], [alive(1)], []]
    assert not rumours
    assert len(rumours) == 0


def test_what_was_sent_least_goes_first_then_what_came_last() -> None:
    rumours = Rumours()
    rumours.put(alive(1))
    take(rumours)
    rumours.put(alive(2))
    rumours.put(alive(3))
    one = len(encode(alive(1)))
    assert take(rumours, one) == [alive(3)]
    assert take(rumours, one) == [alive(2)]
    assert take(rumours, 3 * one) == [alive(2), alive(3), alive(1)]


def test_what_does_not_fit_lets_shorter_news_pass() -> None:
    rumours = Rumours()
    rumours.put(Dead(node(1), 1, node(2)))
    rumours.put(alive(3))
    assert take(rumours, len(encode(Dead(node(1), 1, node(2))))) == [Dead(node(1), 1, node(2))]


def test_newer_news_of_a_member_replaces_older() -> None:
    rumours = Rumours()
    rumours.put(alive(1))
    rumours.put(Dead(node(1), 0, node(2)))
    assert take(rumours) == [Dead(node(1), 0, node(2))]
    rumours.put(alive(1, 5))
    assert take(rumours) == [alive(1, 5)]


def test_accusers_stand_side_by_side_until_the_member_speaks() -> None:
    rumours = Rumours()
    first, second = Suspect(node(1), 0, node(2)), Suspect(node(1), 0, node(3))
    for suspect in (first, second, first):
        rumours.put(suspect)
    assert sorted(take(rumours), key=str) == sorted([first, second], key=str)
    newer = Suspect(node(1), 1, node(2))
    rumours.put(newer)
    assert take(rumours) == [newer]
    rumours.put(alive(1, 2))
    assert take(rumours) == [alive(1, 2)]


def test_with_nobody_to_tell_nothing_is_kept() -> None:
    rumours = Rumours()
    rumours.put(alive(1))
    rumours.clear()
    assert not rumours
    assert take(rumours) == []


NEWS = st.one_of(
    st.builds(alive, st.integers(1, 3), st.integers(0, 3)),
    *(
        st.builds(claim, st.integers(1, 3).map(node), st.integers(0, 3), st.integers(1, 9).map(node))
        for claim in (Suspect, Dead, Left)
    ),
)


@given(st.lists(NEWS | st.integers(0, 300), max_size=40))
def test_packets_are_never_overfull_and_everything_leaves_in_the_end(steps: list[object]) -> None:
    rumours, last = Rumours(), {}
    for step in steps:
        if isinstance(step, int):
            assert sum(map(len, rumours.take(step, 4))) <= step
        elif isinstance(step, Alive | Suspect | Dead | Left):
            rumours.put(step)
            last[step.member.id if isinstance(step, Alive) else step.node] = step
    for kept in take(rumours):
        about = last[kept.member.id if isinstance(kept, Alive) else kept.node]  # type: ignore[union-attr]
        assert kept == about or isinstance(about, Suspect)
    for _ in range(4):
        take(rumours, limit=4)
    assert not rumours
    assert not rumours._levels
