"""Deliveries in flight: which a fault may have made to be repeated, and which were (P4).

    delivered ─────── in flight ─────── acked, given back, or its visibility is over
         │   fault ├──────────────┤ healed, + a lease     in flight at some time in it: it may be made again
         └── the same message delivered again before its end: a repetition, which is in flight from then on

All time is virtual (MockClock).
"""

from __future__ import annotations

import math

LEASE = 2.0
HEALED = LEASE + 0.3
"""Seconds from the end of a fault until what was cut is sent again, and leases of before are over."""
AT_ONCE = ("kill", "power", "torn")
"""Faults that concern what is in flight when they begin: with the process all it leads is gone."""
PLANNED = ("stop", "join", "leave", "versions", "twin", "stranger", "strangers", "forget")
"""What repeats nothing: deliveries are handed over with the lease."""
DYING = 0.1
FOR_EVER = ("rot",)
"""Faults after which what is known of deliveries may turn out wrong at any time."""


class Flight:
    """One delivery of one message."""

    __slots__ = ("ended", "since", "until")

    def __init__(self, since: float, until: float) -> None:
        self.since = since
        self.until = until
        """When its visibility is over."""
        self.ended = until
        """When it was acked, given back, or repeated, if that was before."""


class Flights:
    """All deliveries, and all faults."""

    def __init__(self) -> None:
        self._faults: list[tuple[float, float]] = []
        self._flights: list[Flight] = []
        self._last: dict[int, Flight] = {}
        self.repeated = 0

    def disturbed(self, kind: str, begin: float, seconds: float) -> None:
        """Something goes wrong, for some time."""
        if kind in PLANNED:
            return
        end = begin + DYING if kind in AT_ONCE else begin + seconds + HEALED
        self._faults.append((begin - DYING, math.inf if kind in FOR_EVER else end))

    def begins(self, message: int, now: float, visibility: float) -> None:
        """A message is delivered."""
        flight = self._last[message] = Flight(now, now + visibility)
        self._flights.append(flight)

    def ends(self, message: int, now: float) -> None:
        """It is with its consumer no more: acked and answered, given back, or about to be repeated."""
        flight = self._last.get(message)
        if flight is not None:
            flight.ended = min(flight.ended, max(now, flight.since))

    def extends(self, message: int, until: float) -> None:
        """Its consumer keeps it for longer."""
        flight = self._last[message]
        if flight.ended == flight.until:
            flight.ended = flight.until = max(flight.until, until)

    def shaken(self, message: int) -> bool:
        """Tell whether something went wrong while a message was with its consumer, or before it is now."""
        return any(_at(self._last[message], fault) for fault in self._faults)

    def repeats(self, message: int, now: float) -> bool:
        """It is about to be delivered again too early; tell whether a fault may have brought that about."""
        self.repeated += 1
        self.ends(message, now)
        flight = self._last[message]
        return any(_at(flight, fault) for fault in self._faults)

    @property
    def at_faults(self) -> int:
        """The sum of what was in flight at each fault."""
        return sum(_at(flight, fault) for flight in self._flights for fault in self._faults)


def _at(flight: Flight, fault: tuple[float, float]) -> bool:
    begin, end = fault
    return flight.since <= end and begin <= flight.ended
