"""How a message may end other than by an ack: purged, deleted with its queue, expired, dead-lettered.

A sweep is a purge or a deletion: what was answered "stored" before it was asked for must not come out once
it was answered; what was sent meanwhile may, or may not.  A move gives a message a new id that names the old.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dmqnode.frontend import STAND_IN_AFTER
from dmqnode.ids import LogId, message_id
from tests.simulation.sent import AROUND, MARGIN, Sent

if TYPE_CHECKING:
    from tests.simulation.ledger import Ledger
    from tests.simulation.world import World

LATE = 25.0
"""Seconds after which a purge or deletion that was not answered is not done any more."""
HEARD = 0.5
"""Seconds in which a change of a queue is known everywhere in quiet times."""
WAITED_FOR = 60.0
"""Seconds by which what is delayed may be due too late at most and come out in a run."""
MOVED = "move:"


class Sweep:
    """One purge or deletion of a queue, or a time in which it is paused."""

    def __init__(self, kind: str, asked: float) -> None:
        self.kind = kind
        self.asked = asked
        self.done = math.inf
        self.certain = False


class Fates:
    """What became of messages that nobody acked."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger
        self._sweeps: dict[str, list[Sweep]] = {}
        self._pauses: dict[str, list[Sweep]] = {}
        self._moved: dict[str, tuple[LogId, int]] = {}
        """Id of a message -> the id that it got when it moved to another queue."""
        self._sends_damaged = False
        """Whether a disk has forgotten whose some messages are."""
        self._ahead: list[tuple[float, float]] = []
        """From when to when a clock that may lead was far ahead."""

    # --- purges, deletions, pauses -------------------------------------------------------------------

    def sweep(self, kind: str, queue: str) -> Sweep:
        """A purge or deletion is asked for."""
        swept = Sweep(kind, self._world.now)
        self._sweeps.setdefault(queue, []).append(swept)
        self._ledger.counts[kind] += 1
        return swept

    def swept(self, sweep: Sweep, *, certain: bool) -> None:
        """It was answered, or not."""
        now = self._world.now
        sweep.certain = certain
        sweep.done = now if certain else max(now, sweep.asked + LATE)
        if certain and sweep.kind == "delete":
            sweep.done = now + HEARD
        if self._ledger.uneasy(sweep.asked - AROUND, now + AROUND):
            # Nodes that were cut off go by what they know, and clocks may differ.
            sweep.done += LATE / 2 if sweep.kind == "delete" else MARGIN
        self._ledger.counts[f"{sweep.kind} done"] += certain

    def pause(self, queue: str) -> Sweep:
        """A queue was paused: that was answered."""
        paused = Sweep("pause", self._world.now)
        self._pauses.setdefault(queue, []).append(paused)
        self._ledger.counts["paused"] += 1
        return paused

    def resume(self, paused: Sweep) -> None:
        """Somebody asks to let it go on."""
        paused.done = self._world.now

    # --- what may have become of a message -----------------------------------------------------------

    def may_be_over(self, message: Sent) -> bool:
        """Tell whether a message need not come out, though nobody acked it."""
        if message.ttl and (self._world.now > message.at + message.ttl - MARGIN or self.clocks):
            return True
        return self._may_be_swept(message)

    def awaits(self, message: Sent) -> bool:
        """Tell whether a message that was stored is to come out before the run is over, if nobody acks it."""
        return not (self.may_be_over(message) or self._never_due(message))

    def believed_ahead(self, seconds: float, ahead: float) -> None:
        """A clock is set ahead: of two nobody knows which is wrong, so what is delayed is due by it."""
        if ahead > WAITED_FOR and self._world.plan.nodes < 3:
            self._ahead.append((self._world.now, self._world.now + seconds))

    def _never_due(self, message: Sent) -> bool:
        since, until = message.at, message.stored_at
        return message.delay > 0 and any(begin <= until and since <= end for begin, end in self._ahead)

    @property
    def clocks(self) -> bool:
        """Whether clocks are so wrong that nobody can tell: two differ, or a third is away."""
        plan = self._world.plan
        return "clock" in plan.faults or ("leap" in plan.faults and (plan.nodes < 3 or len(plan.faults) > 1))

    def _may_be_swept(self, message: Sent) -> bool:
        late = math.inf if self.clocks else 0.0
        return any(message.at <= s.done + late for s in self._sweeps_of(message))

    def rusted(self, key: bytes) -> None:
        """What is stored under `key` on a disk is damaged."""
        self._sends_damaged = self._sends_damaged or key[11:12] in (b"l", b"u")

    def made_again(self, message: Sent) -> bool:
        """Tell whether a queue was deleted since: the next does not know what the first was sent."""
        return any(s.kind == "delete" and s.done > message.at for s in self._sweeps_of(message))

    def doubled(self, message: Sent) -> bool:
        """Tell whether a repeated send may be there twice.

        It went to two queues, made on two sides of a split; or the one disk that had it so far does not know
        any more whose it is.  Nodes repeat what was not answered for long, too.
        """
        late = message.stored_at - message.at > STAND_IN_AFTER
        repeated = message.tries > 1
        return (self._sends_damaged and (repeated or late)) or (repeated and self.made_again(message))

    def _sweeps_of(self, message: Sent) -> list[Sweep]:
        names = (message.queue.name, message.queue.settings.get("dead_letter", ""))
        return [s for name in names for s in self._sweeps.get(name, ())]

    def wrong(self, message: Sent, *, deleted: bool) -> tuple[str, str, str] | None:
        """Return which promise the delivery of a message breaks, how, and why: it should be over.

        Arguments:
            deleted: whether the queue that it comes of is; another of its name may be, which was made on the
                other side of a split.
        """
        now, stored = self._world.now, message.stored_at
        if stored < 0 or self.clocks:
            return None
        if message.ttl and now > stored + message.ttl + MARGIN:
            return ("P2", "late", f"delivered, expired at {stored + message.ttl:.3f}")
        for sweep in self._sweeps.get(message.queue.name, ()):
            if sweep.kind == "delete" and not deleted:
                continue
            if sweep.certain and stored < sweep.asked - MARGIN and now > sweep.done and not message.moved_at:
                return ("T3", "resurrected", f"delivered after the {sweep.kind} of {sweep.asked:.3f}")
        return None

    def wrong_queue(self, message: Sent) -> str | None:
        """Return why nothing of a queue should be delivered now."""
        now = self._world.now
        for pause in self._pauses.get(message.queue.name, ()):
            quiet = not self._ledger.uneasy(pause.asked - LATE, now + 1.0)
            if quiet and pause.asked + HEARD < now < pause.done:
                return f"delivered while paused since {pause.asked:.3f}"
        return None

    def expired_early(self) -> Sent | None:
        """Return a message that a leader has let die before its time."""
        now, ledger = self._world.now, self._ledger
        for message in ledger.messages:
            waits = message.ttl and message.outcome == "stored" and message.acking_at < 0
            if not waits or message.moved_at or now > message.at + message.ttl - MARGIN:
                continue
            if self._may_be_swept(message) or self.clocks or self._ledger.uneasy(message.at - AROUND, now):
                continue  # or another copy of a send that was repeated lives
            for host in self._world.hosts.values():
                if not host.up:
                    continue
                for id_, shard in host.clustering.hosted.shards.items():
                    died = host.clustering.cluster.leads(id_) and _died(shard, message)
                    if died and not ledger.disks.twice(message.number, message.ids):  # of two one is to die
                        return message
        return None

    # --- moves ---------------------------------------------------------------------------------------

    def moved(self, message: Sent, id_: tuple[LogId, int], batch: Any, n: int) -> str | None:
        """A message is delivered under an id: tell what is wrong with how it came by it."""
        if message_id(*id_) in self._moved:
            return f"delivered as {message_id(*id_)} after it has moved on"
        name = batch.value("d", n)
        if name is None or not name.startswith(MOVED):
            return None
        came_from = name.removeprefix(MOVED)
        if came_from not in self._moved:
            message.nack_until = -1.0  # a delay of its earlier life
        known = self._moved.setdefault(came_from, id_)
        if known != id_:
            return f"moved twice: {name} is {message_id(*known)} and {message_id(*id_)}"
        if not message.moved_at:
            self._ledger.counts["moved"] += 1
            message.moved_at = self._world.now
        return None

    def arrives(self, message: Sent, queue: str, batch: Any, n: int) -> str | None:
        """A message is delivered of another queue than it was sent to: tell what is wrong with that."""
        settings = message.queue.settings
        if queue != settings.get("dead_letter"):
            return f"delivered of {queue}"
        found = batch.attributes(n)
        if found.get("dmq.source") != message.queue.name or not found.get("dmq.reason"):
            return f"dead-lettered with attributes {found}"
        if not message.buried and message.deliveries <= settings["max_attempts"]:
            return f"dead-lettered after {message.deliveries - 1} deliveries"
        return None


def _died(shard: Any, message: Sent) -> bool:
    """Tell whether a message is dead under every id that it has: of two, one is to die (C5)."""
    logs = {log_id: log for partition in shard.partitions for log_id, log in partition.logs.items()}
    return bool(message.ids) and all(
        log_id in logs and logs[log_id].dead.ranges.overlap(seq, seq + 1) for log_id, seq in message.ids
    )
