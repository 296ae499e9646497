"""What a node counts since it started; `dmq node status` and `dmq top` show exactly these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Cumulative numbers of messages, unless said otherwise."""

    sent: int = 0
    """Stored."""
    delivered: int = 0
    acked: int = 0
    nacked: int = 0
    expired: int = 0
    """Dropped because their time to live or the queue's retention was over."""
    dead_lettered: int = 0
    redriven: int = 0
    purged: int = 0
    duplicates: int = 0
    """Sends recognised as made before."""
    redelivered: int = 0
    """Deliveries of a message that was delivered before."""
    lost: int = 0
    """Messages whose record was damaged or missing; the record is set aside."""
    forgotten: int = 0
    """Producers forgotten before their five minutes were over."""
    refused: int = 0
    """Requests refused."""
    requests: int = 0
    writes: int = 0
    """Write groups."""
    synced_writes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
