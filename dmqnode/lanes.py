"""How single calls travel together: those that come while others are under way wait, then go as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from dmqnode.calls import Group

UNDER_WAY = 4
"""Groups of one lane that may be under way: while the node stores some, the next are on their way."""
GROUP_MEMBERS = 4096

G = TypeVar("G", bound=Group)


class _Lane(Generic[G]):
    """The calls with one key."""

    __slots__ = ("growing", "under_way", "waiting")

    def __init__(self) -> None:
        self.growing: G | None = None
        self.waiting: deque[G] = deque()
        self.under_way = 0


class Lanes(Generic[G]):
    """The groups of single calls, by what they must have in common.

    Arguments:
        ready: is told of each group that may be written.
        most: members that a group has at most.
    """

    def __init__(self, ready: Callable[[G], None], most: int = GROUP_MEMBERS) -> None:
        self._ready = ready
        self._most = most
        self._lanes: dict[Hashable, _Lane[G]] = {}

    def growing(self, key: Hashable, size: int) -> G | None:
        """Return the group that a call of `size` bytes may join, None where a new one is needed."""
        lane = self._lanes.get(key)
        group = None if lane is None else lane.growing
        if (
            group is not None
            and not group.sealed
            and group.bytes + size <= group.room
            and len(group.members) < self._most
        ):
            return group
        return None

    def begin(self, key: Hashable, group: G) -> G:
        """Let calls join `group`, which is empty, and write it as soon as it is its turn.

        Arguments:
            key: is the group's `lane`.
        """
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        lane.growing = group
        group.in_lane = True
        if lane.under_way < UNDER_WAY:
            lane.under_way += 1
            self._ready(group)
        else:
            lane.waiting.append(group)
        return group

    def settled(self, group: G) -> None:
        """A group has its outcome: the next of its lane may go."""
        if not group.in_lane:
            return
        group.in_lane = False
        lane = self._lanes[group.lane]
        if lane.growing is group:
            lane.growing = None
        if group in lane.waiting:
            lane.waiting.remove(group)
        elif lane.waiting:
            self._ready(lane.waiting.popleft())
        else:
            lane.under_way -= 1
            if not lane.under_way:
                del self._lanes[group.lane]
