"""What a core is told of time.

`run` is for waiting: seconds that never go back nor jump, from an arbitrary start.  `wall` is for what
is stored: milliseconds since 1970, as this node's clock shows them; it may be set back or forth by
whoever keeps the machine's clock, and a core must survive that.  `asleep` is for leases (rule L4), and so
is `beyond`: they look at all clocks at each reading, of which there are many within a millisecond.
"""

from __future__ import annotations

from typing import NamedTuple


class Now(NamedTuple):
    """One reading of the clocks."""

    run: float
    wall: int
    asleep: float = 0.0
    """Seconds, from an arbitrary start, for which the machine was suspended: `run` does not count them."""
    beyond: float = 0.0
    """Seconds that the wall clock shows beyond the whole milliseconds of `wall`."""

    def wall_at(self, run: float) -> int:
        """Return what the wall clock will show at `run`, if nobody sets it."""
        return self.wall + round((run - self.run) * 1000)

    def run_at(self, wall: int) -> float:
        """Return the running time at which the wall clock shows `wall`, if nobody sets it."""
        return self.run + (wall - self.wall) / 1000
