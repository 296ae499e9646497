"""In which order messages come out: in fifo queues, within groups, and of one producer in any queue (P9).

In a fifo queue nothing of a group comes before all that its producer sent earlier is settled, whoever leads,
nor behind what it sent later, be it that nobody knew whether it was stored.
In others two messages are compared only if one log has both, that of one leader, and only their first
deliveries count.  What a leader's copy lacks (it was away when it was sent) it passes over; who overtakes it
in that way is excused, and nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.ids import LOG_ID_SIZE, PARTITION_ID_SIZE, LogId, PartitionId
from dmqnode.keys import DEBTS
from dmqnode.messages import Part
from dmqnode.ranges import RangeSet
from storage.ops import WriteBatch
from tests.simulation.sent import Sent

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.ledger import Ledger


class Order:
    """Knows what came out last of each log, and who has something of each group."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lines: dict[tuple[str, str], list[Sent]] = {}
        """What one producer sent to a group of a fifo queue."""
        self._kept: set[LogId] = set()
        """Logs of nodes that took something in while nobody led."""
        self._furthest: dict[tuple[LogId, str, str | None], tuple[int, Sent]] = {}
        """What came out farthest in a log, of one producer and group."""
        self._lacking: dict[LogId, RangeSet] = {}
        """What a leader lacked when something behind it came out."""
        self._out: dict[tuple[PartitionId, str], dict[Sent, tuple[LogId, int]]] = {}
        """What was delivered of each group, and under which id."""

    def new(self, sent: Sent) -> None:
        """A message was made up."""
        if _is_fifo(sent):
            self._lines.setdefault((sent.queue.name, sent.producer + (sent.group or "")), []).append(sent)

    def wrote(self, batch: WriteBatch) -> None:
        """A node has written."""
        at = len(DEBTS) + PARTITION_ID_SIZE
        self._kept.update(LogId(key[at : at + LOG_ID_SIZE]) for key, _ in batch if key[:1] == DEBTS)

    def wrong(self, host: Host, part: Part, seq: int, message: Sent) -> str | None:
        """A message is about to be delivered: tell what is wrong with its turn."""
        in_line = self._in_line(message) if _is_fifo(message) else self._in_log(host, part, seq, message)
        return in_line or self._within_group(host, part, seq, message)

    # --- a fifo queue --------------------------------------------------------------------------------

    def _in_line(self, message: Sent) -> str | None:
        line, ledger = self._lines[message.queue.name, message.producer + (message.group or "")], self._ledger
        for other in line:
            if other is message:
                break
            settled = other.outcome != "stored" or other.acking_at >= 0
            if not (settled or ledger.fates.may_be_over(other) or ledger.damage.excuses(other.number)):
                return f"delivered before message {other.number} was settled"
        else:
            return None
        later = next((m for m in line[line.index(message) + 1 :] if m.first_at >= 0), None)
        if later is not None and message.first_at < 0:
            return f"delivered behind message {later.number}"
        return None

    # --- a group -------------------------------------------------------------------------------------

    def _within_group(self, host: Host, part: Part, seq: int, message: Sent) -> str | None:
        if message.group is None and not _is_fifo(message):
            return None
        out = self._out.setdefault((part.partition, message.group or ""), {})
        for other, (log, at) in list(out.items()):
            if other is message or not self._has(host, part, other):
                del out[other]
            elif (log == part.log and at < seq) or 0 <= other.stored_at <= message.at:
                return f"delivered while message {other.number}, earlier of its group, is with a consumer"
        out[message] = part.log, seq
        return None

    def _has(self, host: Host, part: Part, other: Sent) -> bool:
        """Tell whether a consumer has a message for certain; an ack of it may be heard of late."""
        hold, ledger = other.hold, self._ledger
        if hold is None or other.acking_at >= 0 or ledger.fates.may_be_over(other):
            return False
        if ledger.fates.doubled(other) or ledger.damage.excuses(other.number):
            return False
        if ledger.notes.over(host, part.partition, hold):
            return False
        return not ledger.forgotten(host, part.partition, hold)

    # --- a log ---------------------------------------------------------------------------------------

    def _in_log(self, host: Host, part: Part, seq: int, message: Sent) -> str | None:
        if part.attempt > 1 or message.deliveries > 1 or message.delay or part.log in self._kept:
            return None
        lacking = self._lacking.setdefault(part.log, RangeSet())
        for low, high in self._gaps(host, part, seq):
            lacking.add(low, high)
        key = part.log, message.producer, message.group
        farthest, later = self._furthest.get(key, (-1, message))
        if seq > farthest:
            self._furthest[key] = seq, message
        elif lacking.overlap(seq, seq + 1):
            self._ledger.counts["overtaken"] += 1
        elif message.outcome in ("", "stored"):
            return f"delivered behind message {later.number}, which was sent later"
        return None

    @staticmethod
    def _gaps(host: Host, part: Part, seq: int) -> list[tuple[int, int]]:
        shard = host.clustering.hosted.served(part.partition)
        logs = [p.logs[part.log] for p in (shard.partitions if shard else ()) if part.log in p.logs]
        return [gap for log in logs for gap in log.gaps.within(0, seq)]


def _is_fifo(message: Sent) -> bool:
    return message.queue.settings.get("ordering") == "fifo"
