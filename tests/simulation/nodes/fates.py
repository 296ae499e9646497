"""What else may become of messages among whole nodes, in which order they come, and what is wrong then."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

from tests.simulation.likeness import peek

if TYPE_CHECKING:
    from tests.simulation.nodes.accounts import Accounts, Sent
    from tests.simulation.nodes.box import Box

MARGIN = 0.2
"""Seconds by which clocks differ."""
LATE = 25.0
"""Seconds after which a purge that was not answered is not done any more."""
Wrong = tuple[str, str, str]


class Sweep:
    """One purge."""

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.done = math.inf
        self.certain = False


class Fates:
    """Knows what was purged, moved, named, and stands in line."""

    def __init__(self, accounts: Accounts, losses: tuple[str, ...]) -> None:
        self._accounts = accounts
        self._losses = losses
        self._sweeps: dict[str, list[Sweep]] = {}
        self._lines: dict[tuple[int, str, str | None], list[Sent]] = {}
        """What one producer sent to a group of a fifo queue."""
        self._groups: dict[tuple[str, str], list[Sent]] = {}
        """What was sent to a group of a queue that is none."""

    @property
    def _lossy(self) -> bool:
        """Whether copies may have been lost on more disks than one may lose."""
        return any(self._accounts.counts[f"fault {kind}"] for kind in self._losses)

    @property
    def _clocks(self) -> bool:
        counts = self._accounts.counts
        return bool(counts["fault clock"] or counts["leaps"])

    @property
    def _astray(self) -> bool:
        """Whether copies may be lost of which the accountant was not told, as it is of what burns (M4)."""
        counts = self._accounts.counts
        return sum(counts[f"fault {kind}"] for kind in self._losses) > counts["burned"]

    # --- what clients and operators do ---------------------------------------------------------------

    def line_up(self, sent: list[Sent], producer: int, group: str | None, through: object) -> None:
        """A producer sends these, behind what it sent before; `through` is its client of the time."""
        line = self._lines.setdefault((producer, sent[0].queue, group), [])
        line += sent
        for message in sent:
            message.line, message.through = line, through

    def gather(self, sent: list[Sent], producer: int, group: str) -> None:
        """A producer sends these to a group, after the answer to what it sent there before."""
        together = self._groups.setdefault((sent[0].queue, group), [])
        together += sent
        for message in sent:
            message.group, message.producer = together, producer

    def sweep(self, queue: str) -> Sweep:
        """A purge is asked for."""
        sweep = Sweep(trio.current_time())
        self._sweeps.setdefault(queue, []).append(sweep)
        return sweep

    def swept(self, sweep: Sweep, *, certain: bool) -> None:
        """It was answered, or not."""
        now = trio.current_time()
        sweep.certain = certain
        sweep.done = now + MARGIN if certain else max(now, sweep.asked + LATE)
        self._accounts.counts["purges"] += certain

    # --- judging -------------------------------------------------------------------------------------

    def may_be_over(self, message: Sent) -> bool:
        """Tell whether a message need not come out, though nobody acked it."""
        if message.ttl and (trio.current_time() > message.at + message.ttl - MARGIN or self._clocks):
            return True
        late = math.inf if self._clocks else 0.0
        return any(message.at <= s.done + late for s in self._sweeps.get(message.queue, ()))

    def wrong(self, box: Box, message: Sent, queue: str) -> Wrong | None:
        """A message is about to be delivered: tell what is wrong with that."""
        moved = self._moved(message, queue) or self._over(message, queue)
        return moved or self._turn(box, message) or self._together(message)

    def _moved(self, message: Sent, queue: str) -> Wrong | None:
        if queue != message.queue:
            self._accounts.counts["moved"] += message.moved_at < 0
            message.moved_at = trio.current_time() if message.moved_at < 0 else message.moved_at
        elif message.moved_at >= 0 and not self._lossy:
            return ("N3", "moved", f"delivered of {queue} after it has moved")
        if self._lossy or self._clocks:
            return None
        if message.named and len(message.ids) > 1:
            return ("P10", "duplicated", f"stored {len(message.ids)} times under one name")
        return None

    def _over(self, message: Sent, queue: str) -> Wrong | None:
        now, stored = trio.current_time(), message.stored_at
        if stored < 0 or self._clocks or self._lossy or queue != message.queue:
            return None
        if message.ttl and now > stored + message.ttl + MARGIN:
            return ("P2", "late", f"delivered, expired at {stored + message.ttl:.3f}")
        for sweep in self._sweeps.get(queue, ()):
            if sweep.certain and stored < sweep.asked - MARGIN and now > sweep.done:
                return ("T3", "resurrected", f"delivered after the purge of {sweep.asked:.3f}")
        return None

    def _turn(self, box: Box, message: Sent) -> Wrong | None:
        """In a fifo queue all keeps its place, whoever leads; what was not answered may never come (P9)."""
        line: list[Any] = message.line
        if not line:
            return None
        at = line.index(message)
        for other in line[:at]:
            settled = other.outcome != "stored" or other.acking_at >= 0 or other.destroyed
            if not (settled or (self._astray and not _has(box, other))):
                return ("P9", "order", f"delivered before message {other.number} was settled")
        # What a client has given up may be under way still, when what another sends is there.
        forgiven = message.outcome != "stored"
        behind = (
            m for m in line[at + 1 :] if m.deliveries and not (forgiven and m.through is not message.through)
        )
        later = next(behind, None)
        if later is not None and not message.deliveries:
            return ("P9", "order", f"delivered behind message {later.number}")
        return None

    def _together(self, message: Sent) -> Wrong | None:
        """Of a group one is with a consumer at a time, and in quiet times all keep their place (P9)."""
        now, flights = trio.current_time(), self._accounts.flights
        for other in message.group:
            held = other.held_until - MARGIN > now and other.acking_at < 0
            if other is not message and held and not flights.shaken(other.number):
                return ("P9", "group", f"delivered while {other.number} of its group is with a consumer")
        if self._accounts.counts["faults"]:
            return None
        before = message.group[: message.group.index(message)] if message.group else []
        for other in before:
            answered = other.outcome == "stored" and other.stored_at <= message.at
            if other.producer == message.producer and answered and not other.deliveries:
                return ("P9", "order", f"delivered before {other.number} of its group")
        return None


def _has(box: Box, message: Sent) -> bool:
    return any(message.body in value for value in peek(box.store)._records.values())
