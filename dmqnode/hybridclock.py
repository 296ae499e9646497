"""Stamps that order changes of metadata: wall-clock time, never going back (rule T2).

A hybrid logical clock (Kulkarni, Demirbas et al., "Logical Physical Clocks", 2014, section 3): the largest
wall-clock time seen, a counter for what happens within one millisecond, and the node as the tie-break.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dmqnode.errors import ProtocolError
from dmqnode.ids import NODE_ID_SIZE, NodeId

MAX_AHEAD = 60_000
"""Milliseconds that another node's stamp may be ahead of this node's clock."""


class Stamp(NamedTuple):
    """When something was changed: the greater stamp wins."""

    wall: int
    tick: int
    """Tells apart what happens within one millisecond."""
    node: NodeId


NEVER = Stamp(0, 0, NodeId(bytes(NODE_ID_SIZE)))


class HybridClock:
    """The clock of one node."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._last = (0, 0)

    def stamp(self, wall: int) -> Stamp:
        """Return a stamp above every one given or seen; `wall` is this node's clock, ms."""
        last_wall, count = self._last
        self._last = (wall, 0) if wall > last_wall else (last_wall, count + 1)
        return Stamp(*self._last, self._node)

    def observe(self, stamp: Stamp, wall: int) -> bool:
        """Take note of another node's stamp; False if its clock is too far ahead to be believed."""
        if stamp.wall > wall + MAX_AHEAD:
            return False
        self._last = max(self._last, (stamp.wall, stamp.tick))
        return True

    def set_back(self, wall: int) -> bool:
        """Tell whether this node's clock was set back so far that nobody takes its stamps; begin anew."""
        if self._last[0] <= wall + MAX_AHEAD:
            return False
        self._last = (wall, 0)
        return True

    def remember(self, stamp: Stamp) -> None:
        """Take note of a stamp that this node has on disk."""
        self._last = max(self._last, (stamp.wall, stamp.tick))


def read_stamp(value: Any) -> Stamp:
    """Read a stamp out of a record.  Errors: ProtocolError."""
    try:
        wall, count, node = value
        if type(wall) is int and type(count) is int and wall >= 0 and len(node) == NODE_ID_SIZE:
            return Stamp(wall, count, NodeId(bytes(node)))
    except (TypeError, ValueError):
        pass
    raise ProtocolError("a record of metadata has no stamp")
