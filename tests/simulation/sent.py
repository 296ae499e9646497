"""One message as the accountant knows it, and who has it."""

from __future__ import annotations

from dmqnode.ids import LogId, NodeId, PartitionId
from tests.simulation.plan import QueuePlan

MARGIN = 0.2
"""Seconds by which clocks differ."""
AROUND = 3.5
"""Seconds around a fault in which deliveries may have been on their way."""

NOTES_LOST = ("power", "torn", "eio", "rust")
"""Faults by which a disk may forget notes of deliveries, however old they are."""


class Broken(Exception):
    """A promise was broken."""


class Sent:
    """One message."""

    __slots__ = (
        "acked_at", "acking_at", "at", "attributes", "body", "buried", "delay", "deliveries", "first_at",
        "given_back", "group", "hold", "id", "ids", "moved_at", "nack_until", "number", "order", "outcome",
        "producer", "queue", "stored_at", "tries", "ttl",
    )  # fmt: skip

    def __init__(self, number: int, body: bytes, queue: QueuePlan, producer: str, group: str | None):
        self.number = number
        self.body = body
        self.queue = queue
        self.producer = producer
        self.group = group
        self.delay = 0.0
        self.ttl = 0.0
        """Seconds after which it need not come out any more; 0: never."""
        self.attributes: dict[str, str] = {}
        self.at = 0.0
        self.order = 0
        self.tries = 0
        self.outcome = ""
        """Empty while it is under way, then stored, unknown or not stored."""
        self.ids: dict[tuple[LogId, int], None] = {}
        self.id: tuple[LogId, int] | None = None
        """Under which it is delivered."""
        self.deliveries = 0
        self.first_at = -1.0
        self.hold: Hold | None = None
        self.given_back: Hold | None = None
        """What a nack was to end."""
        self.acking_at = -1.0
        self.acked_at = -1.0
        self.nack_until = -1.0
        self.stored_at = -1.0
        self.moved_at = 0.0
        """When it was first delivered after a move between queues."""
        self.buried = False
        """Whether somebody asked to move it to the dead-letter queue."""


class Hold:
    """Who has a message: a delivery, decided at `at`, changed at `last`, hidden until `until`."""

    __slots__ = ("at", "delivery", "last", "leader", "lease", "offset", "partition", "until")

    def __init__(
        self, delivery: int, partition: PartitionId, leader: NodeId, at: float, until: float
    ) -> None:
        self.delivery = delivery
        self.partition = partition
        self.leader = leader
        self.at = self.last = at
        self.until = until
        self.lease: object = None
        self.offset = 0
        """By how many milliseconds the leader's wall clock was wrong."""
