"""Ending deliveries: ack, nack, extend, and why a receipt is stale.

Each is about messages low … low + count - 1 of one log, as one delivery has them.  What an ack or nack
changed may be answered only once it is on disk (`Partition.after_write`).
"""

from __future__ import annotations

import math

from dmqnode.clock import Now
from dmqnode.errors import Refused, StaleReceipt, Unknown
from dmqnode.ids import LogId, message_id
from dmqnode.log import Segment
from dmqnode.partition import Partition


def ack(partition: Partition, delivery: int, log: LogId, low: int, count: int, *, again: bool) -> None:
    """Mark delivered messages dead.

    Arguments:
        again: this repeats an ack whose answer was lost; what is dead already counts as done.

    Errors: StaleReceipt for what the delivery does not have (any more); the others are acked.  Unknown
    instead, if this repeats an ack that an earlier leader may have done.
    """
    acked = partition.kill(partition.holds.settle(delivery, log, low, low + count))
    partition.counters.acked += acked
    if acked < count:
        _stale(partition, delivery, log, low, count, count - acked, again=again, acked=acked)


def nack(
    partition: Partition,
    now: Now,
    delivery: int,
    log: LogId,
    low: int,
    count: int,
    *,
    delay: float,
    dead_letter: bool,
    reason: str,
    again: bool,
    undelivered: bool = False,
) -> None:
    """Give delivered messages back, to be delivered again after `delay` seconds.

    Arguments:
        dead_letter: move them to the dead-letter queue instead, with `reason`.
        again: this repeats a nack whose answer was lost; what the delivery has no more was given back.
        undelivered: nobody has had them, so that this was no attempt.

    A nack cannot be repeated message by message as an ack can, for what was given back is stale.
    So of a range all are given back or none: whoever is refused can ask again for each.

    Errors: StaleReceipt for a range that the delivery does not have as a whole (any more), none of it is
    given back then; Unknown as for `ack`; Refused when there is no dead-letter queue to move to.
    """
    if dead_letter and partition.settings.dead_letter is None:
        raise Refused(
            "this queue has no dead-letter queue; set one with: dmq queue set NAME --dead-letter QUEUE"
        )
    missing = count - partition.holds.count(delivery, log, low, low + count)
    if missing and not (again and _given_back(partition, log, low, count, missing, dead_letter=dead_letter)):
        _stale(partition, delivery, log, low, count, missing, again=again)
        return
    segments = partition.holds.settle(delivery, log, low, low + count)
    if undelivered:
        _not_tried(segments)
    else:
        partition.counters.nacked += count - missing
    if dead_letter:
        partition.exhaust(segments, reason or "refused by the consumer")
    else:
        last = "nacked at the last attempt"
        partition.exhaust(
            [s for s in segments if partition.spent(s)], f"{last}: {reason}" if reason else last
        )
        kept = [s for s in segments if not partition.spent(s)]
        if kept:
            partition.holds.delay(now.run + delay if delay > 0 else -math.inf, kept)
            partition.touch()


def extend(
    partition: Partition, now: Now, delivery: int, log: LogId, low: int, count: int, visibility: float
) -> None:
    """Hide delivered messages for `visibility` seconds from now.

    Errors: StaleReceipt as for `ack`.
    """
    found = partition.holds.extend(delivery, log, low, low + count, now.run + visibility)
    if found < count:
        _stale(partition, delivery, log, low, count, count - found, again=False)


def take_back(partition: Partition, delivery: int, log: LogId, low: int, count: int) -> None:
    """A delivery never left the node: as if it had not been."""
    segments = partition.holds.settle(delivery, log, low, low + count)
    _not_tried(segments)
    if segments:
        partition.holds.delay(-math.inf, segments)


def _not_tried(segments: list[Segment]) -> None:
    for segment in segments:
        segment.attempt -= 1


def _given_back(
    partition: Partition, log_id: LogId, low: int, count: int, missing: int, *, dead_letter: bool
) -> bool:
    """Tell whether what a delivery has no more is where a nack would bring it.

    To others, that is, whoever gave it back: the nack before, or the end of its visibility.
    """
    log = partition.logs.get(log_id)
    if log is None:
        return log_id in partition.closed
    if not dead_letter:
        return low + count <= log.end
    dead = log.dead.ranges.overlap(low, low + count)
    return dead + partition.exhausted.count(log_id, low, low + count) >= missing


def _stale(
    partition: Partition,
    delivery: int,
    log_id: LogId,
    low: int,
    count: int,
    missing: int,
    *,
    again: bool,
    acked: int = 0,
) -> None:
    """Say why a delivery has not got all of a range, of which `acked` are dead only since just now."""
    log = partition.logs.get(log_id)
    known = log is not None or log_id in partition.closed
    dead = log.dead.ranges.overlap(low, low + count) if log is not None else count if known else 0
    if again and dead == count:
        return
    name = message_id(log_id, low)
    which = f"message {name}" if count == 1 else f"{missing} of {count} messages from {name} on"
    if not known:
        raise StaleReceipt(f"this queue has no {which}; the receipt is of another queue or cluster")
    if dead - acked >= missing:
        raise StaleReceipt(f"{which}: already acked, expired or moved; nothing is left to do")
    if again:  # an earlier leader may have it on its disk, and bring it
        raise Unknown(f"{which}: no longer held by this delivery; perhaps an attempt before was done")
    if partition.holds.has(delivery):
        raise StaleReceipt(f"{which}: no longer held by this delivery; receive again")
    raise StaleReceipt(
        f"{which}: given back, or its visibility ended; it is or will be delivered again: receive again"
    )
