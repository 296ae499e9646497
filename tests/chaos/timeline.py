"""What a run looked like over time: numbers to draw."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.ledger import STORED, Ledger
from tests.chaos.site import Event

STEP = 0.25
"""Seconds of one column."""


@dataclass
class Timeline:
    """Per column of STEP seconds; times in seconds since the beginning."""

    stored: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    """The longest send that ended in the column."""
    faults: list[tuple[str, str, float, float]] = field(default_factory=list)


def draw_up(began: float, ledger: Ledger, events: list[Event]) -> Timeline:
    """Count what happened when."""
    last = max([began, *(s.ended for s in ledger.sends), *(d.ended for d in ledger.deliveries)])
    columns = int((last - began) / STEP) + 1
    found = Timeline([0] * columns, [0] * columns, [0] * columns, [0.0] * columns)
    for send in ledger.sends:
        at = int((send.ended - began) / STEP)
        found.stored[at] += send.outcome == STORED
        found.latency[at] = max(found.latency[at], send.ended - send.began)
    seen: set[tuple[str, str]] = set()
    for delivery in sorted(ledger.deliveries, key=lambda d: d.ended):
        at = int((delivery.ended - began) / STEP)
        found.received[at] += 1
        found.repeated[at] += (delivery.key, delivery.queue) in seen
        seen.add((delivery.key, delivery.queue))
    found.faults = [(e.name, e.detail, e.began - began, e.ended - began) for e in events]
    return found
