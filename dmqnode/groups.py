"""Messages with a group: none is delivered while an earlier one of its group is in flight.

Each message is a segment of its own here.  A group is *runnable* when it has a message and none in
flight.  The number of parked messages is bounded by whoever reads ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from dmqnode.log import Segment


class Groups:
    """The ready messages of a partition that have groups."""

    def __init__(self) -> None:
        self._parked: dict[str, deque[Segment]] = {}
        self._busy: set[str] = set()
        self._runnable: dict[str, None] = {}
        self.count = 0

    def __iter__(self) -> Iterator[Segment]:
        for parked in self._parked.values():
            yield from parked

    def park(self, segment: Segment) -> None:
        """Add a message behind the others of its group."""
        group = segment.group
        assert group is not None
        self._parked.setdefault(group, deque()).append(segment)
        self.count += 1
        self._wake(group)

    def put_back(self, segment: Segment) -> None:
        """Add a message that was in flight before the others of its group, which may go on."""
        group = segment.group
        assert group is not None
        self._parked.setdefault(group, deque()).appendleft(segment)
        self.count += 1
        self.free(group)

    def peek(self) -> Segment | None:
        """Return the message that would be delivered next."""
        for group in self._runnable:
            return self._parked[group][0]
        return None

    def pop(self) -> Segment:
        """Take the message that `peek` showed; its group waits until `free` or `put_back`."""
        group = next(iter(self._runnable))
        del self._runnable[group]
        parked = self._parked[group]
        segment = parked.popleft()
        if not parked:
            del self._parked[group]
        self._busy.add(group)
        self.count -= 1
        return segment

    def take_expired(self, limit: int) -> list[Segment]:
        """Take out what was sent, or became due, at or before `limit` (ms), from the head of each group."""
        taken = []
        for group, parked in list(self._parked.items()):
            while parked and 0 < (parked[0].stored.due or parked[0].stored.sent_at) <= limit:
                taken.append(parked.popleft())
            if not parked:
                del self._parked[group]
                self._runnable.pop(group, None)
        self.count -= len(taken)
        return taken

    def occupy(self, group: str) -> None:
        """One of the group is in flight, as known from before a restart."""
        self._busy.add(group)
        self._runnable.pop(group, None)

    def free(self, group: str) -> None:
        """None of the group is in flight any more."""
        self._busy.discard(group)
        self._wake(group)

    def _wake(self, group: str) -> None:
        if group in self._parked and group not in self._busy:
            self._runnable.setdefault(group)

    @property
    def runnable(self) -> bool:
        return bool(self._runnable)

    @property
    def blocked(self) -> int:
        """How many groups have messages that wait for one in flight."""
        return sum(1 for group in self._parked if group in self._busy)

    def clear(self) -> list[Segment]:
        """Drop what is parked and return it; groups in flight stay busy."""
        dropped = [s for parked in self._parked.values() for s in parked]
        self._parked.clear()
        self._runnable.clear()
        self.count = 0
        return dropped
