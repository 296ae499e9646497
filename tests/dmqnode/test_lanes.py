"""Single calls that travel together: which group takes one, and when the next may go."""

from __future__ import annotations

from dmqnode.calls import Call, SendGroup
from dmqnode.lanes import UNDER_WAY, Lanes

KEY = ("q", None, False)


class World:
    """Lanes, and what they have let go."""

    def __init__(self, most: int = 100) -> None:
        self.gone: list[Call] = []
        self.lanes: Lanes[SendGroup] = Lanes(self.gone.append, most)

    def begin(self, key: tuple[str, float | None, bool] = KEY) -> SendGroup:
        group = SendGroup(0.0, 10.0, key, 1, {})
        group.room = 1000
        return self.lanes.begin(key, group)


def test_as_many_groups_go_at_once_and_the_others_as_those_are_settled() -> None:
    world = World()
    groups = [world.begin() for _ in range(UNDER_WAY + 2)]
    assert world.gone == groups[:UNDER_WAY]
    world.lanes.settled(groups[1])
    assert world.gone == groups[: UNDER_WAY + 1]
    world.lanes.settled(groups[1])  # once only
    assert world.gone == groups[: UNDER_WAY + 1]
    for group in groups:
        world.lanes.settled(group)
    assert world.gone == groups
    assert world.lanes._lanes == {}


def test_calls_join_the_group_that_was_begun_last_while_there_is_room() -> None:
    world = World(most=2)
    assert world.lanes.growing(KEY, 1) is None
    group = world.begin()
    assert world.lanes.growing(KEY, 1000) is group
    assert world.lanes.growing(KEY, 1001) is None
    assert world.lanes.growing(("q", 5.0, False), 1) is None
    for owner in range(2):
        group.add(b"x", {}, owner, 10.0)
    assert world.lanes.growing(KEY, 1) is None
    other = world.begin()
    other.add(b"x", {}, "owner", 10.0)
    other.seal()
    assert world.lanes.growing(KEY, 1) is None


def test_a_group_that_waited_and_is_settled_takes_nobody_with_it() -> None:
    world = World()
    groups = [world.begin() for _ in range(UNDER_WAY + 2)]
    waiting = groups[UNDER_WAY]
    world.lanes.settled(waiting)
    world.lanes.settled(groups[0])
    assert world.gone == [*groups[:UNDER_WAY], groups[-1]]
