"""Two readings of time for leases, one that is never slow and one that is never fast (rule L4).

A holder must believe its lease over no later than anybody who granted it.  Machines have three clocks that
can be wrong in three ways: the monotonic clock stands still while the machine sleeps, the boot-time clock
may while a virtual machine is paused, the wall clock can be set.  So the holder counts, from one reading to
the next, the largest elapsed time of the three, and the granter the smallest.
"""

from __future__ import annotations

from typing import NamedTuple

from dmqnode.clock import Now


class Reading(NamedTuple):
    """What the three clocks show, seconds."""

    monotonic: float
    boot: float
    wall: float


def reading(now: Now) -> Reading:
    """Return what the clocks show as exactly as they do.

    Readings may come thousands of times a second.  Had one of the clocks whole milliseconds only, the
    holder's time would then go twice as fast as it should, and the granter's stand all but still.
    """
    return Reading(now.run, now.run + now.asleep, now.wall / 1000 + now.beyond)


class LeaseClock:
    """Turns readings into the holder's and the granter's time, seconds from an arbitrary start."""

    __slots__ = ("_last", "fast", "slow")

    def __init__(self, first: Reading) -> None:
        self._last = first
        self.fast = 0.0
        """The holder's time: its leases run out by this one."""
        self.slow = 0.0
        """The granter's time: what it has granted runs out by this one."""

    def advance(self, reading: Reading) -> None:
        """Take a later reading of the clocks; one that went back counts as standing still."""
        elapsed = [max(0.0, now - before) for now, before in zip(reading, self._last)]
        self.fast += max(elapsed)
        self.slow += min(elapsed)
        self._last = reading
