"""Sends whose order matters, taken one after the other: the next is made once the one before has its outcome.

Several may be under way to a node otherwise; then one that is refused for a moment, and made again, would
come behind those that were on their way already.  Order matters for messages with a group (those with a
dedup id are taken for such, too) and in fifo queues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dmqnode.calls import SendGroup

MAX_QUEUES = 1000
"""Fifo queues that are remembered as such."""


class Turns:
    """The sends of one client that wait for their turn, by queue.

    Arguments:
        place: lets a call be made; `first`: before the others that wait.
    """

    def __init__(self, place: Callable[[SendGroup, bool], None]) -> None:
        self._place = place
        self._lines: dict[str, deque[SendGroup]] = {}
        """The first of each is under way, or waits to be made again."""
        self._fifo: dict[str, None] = {}

    def learn(self, queue: str) -> None:
        """A queue is a fifo queue."""
        self._fifo[queue] = None
        if len(self._fifo) > MAX_QUEUES:
            del self._fifo[next(iter(self._fifo))]

    def take(self, call: SendGroup) -> None:
        """Make a new call now, or once it is its turn."""
        queue: str = call.lane[0]
        if not call.keyed and queue not in self._fifo:
            self._place(call, False)
            return
        line = self._lines.setdefault(queue, deque())
        line.append(call)
        if len(line) == 1:
            self._place(call, False)

    def split(self, call: SendGroup, low: SendGroup, high: SendGroup) -> None:
        """Make two calls in the place of one that was refused."""
        line = self._lines.get(call.lane[0])
        if line is None or line[0] is not call:
            self._place(high, True)
        else:
            line.popleft()
            line.extendleft((high, low))
        self._place(low, True)

    def settled(self, call: SendGroup) -> None:
        """A call has its outcome: it is the turn of the next."""
        queue: str = call.lane[0]
        line = self._lines.get(queue)
        if line is None or call not in line:
            return
        before = line[0]
        line.remove(call)
        if not line:
            del self._lines[queue]
        elif before is call:
            self._place(line[0], False)
