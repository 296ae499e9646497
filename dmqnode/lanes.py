"""How single calls travel together: those that come while others are under way wait, then go as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from dmqnode.calls import Call, Group

UNDER_WAY = 2
"""Groups of one lane that may be under way: while the node stores one, the next is on its way."""
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
        ready: where groups go that may be written.
        most: members that a group has at most.
    """

    def __init__(self, ready: deque[Call], most: int = GROUP_MEMBERS) -> None:
        self._ready = ready
        self._most = most
        self._lanes: dict[Hashable, _Lane[G]] = {}

    def join(self, key: Hashable, size: int, room: int, new_group: Callable[[], G]) -> G:
        """Return the group in which a call of `size` bytes travels.

        Arguments:
            key: is the group's `lane`.
            room: bytes that a group may have; one longer call is a group by itself.
            new_group: makes an empty group.
        """
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        group = lane.growing
        if (
            group is not None
            and not group.sealed
            and group.bytes + size <= room
            and len(group.members) < self._most
        ):
            return group
        group = lane.growing = new_group()
        group.in_lane = True
        if lane.under_way < UNDER_WAY:
            lane.under_way += 1
            self._ready.append(group)
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
            self._ready.append(lane.waiting.popleft())
        else:
            lane.under_way -= 1
            if not lane.under_way:
                del self._lanes[group.lane]
