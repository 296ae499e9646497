"""What a leader knows of the homes that follow it in one partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log
from dmqnode.peer_messages import Entry
from dmqnode.port import Then
from dmqnode.smallrows import Gaps

Brought: TypeAlias = "tuple[tuple[LogId, int, int], ...] | None"
"""The messages (log, low, high) that an entry brought; None: not known."""


class Stage(Enum):
    """How far a home is with following."""

    ASKED = "asked"
    SEEN = "seen"
    ALIGNING = "aligning"
    FOLLOWING = "following"


class Follower:
    """What the leader knows of one home."""

    __slots__ = (
        "aligned_at",
        "asked_at",
        "buffered",
        "confirmed",
        "filling",
        "gaps",
        "node",
        "sizes",
        "stage",
        "under_way",
    )

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.stage = Stage.ASKED
        self.asked_at = float("-inf")
        self.confirmed = -1
        self.aligned_at = 0
        """Of entries up to this one it was told, but not given the batches: these may be gaps."""
        self.buffered: list[Entry] | None = None
        """Entries behind the small records that are being read; None before those are marked."""
        self.gaps: Gaps = {}
        self.filling = False
        self.sizes: deque[tuple[int, int]] = deque()
        """(seq, bytes) of entries shipped and not confirmed."""
        self.under_way = 0

    @property
    def complete(self) -> bool:
        """Whether this home has everything."""
        return self.stage is Stage.FOLLOWING and not self.gaps

    def has(self, seq: int, brought: Brought) -> bool:
        """Tell whether entry `seq`, and the batches that it brought, are on this home's disk."""
        if self.confirmed < seq:
            return False
        if seq > self.aligned_at or not self.gaps:
            return True
        if brought is None:
            return False
        return not any(log in self.gaps and self.gaps[log].overlap(low, high) for log, low, high in brought)

    def begin_again(self) -> None:
        """This home does not follow: it is to be asked what it holds."""
        self.stage = Stage.ASKED
        self.asked_at = float("-inf")
        self.confirmed = -1
        self.buffered = None
        self.filling = False
        self.sizes.clear()
        self.under_way = 0


class Stream:
    """One partition that this node leads: its entries, its homes, and who waits for them.

    Arguments:
        number: of the lease.
        record: returns the home set that counts now.
        logs: of the partition.
    """

    def __init__(
        self,
        partition: PartitionId,
        number: LeaseNumber,
        record: Callable[[], HomeSet],
        logs: dict[LogId, Log],
    ) -> None:
        self.partition = partition
        self.keys = PartitionKeys.of(partition)
        self.number = number
        self.record = record
        self.logs = logs
        self.seq = 0
        self.durable = 0
        """The last entry that is on this node's disk."""
        self.followers: dict[NodeId, Follower] = {}
        self.waiting: deque[tuple[int, Brought, Then]] = deque()

    def missing_homes(self) -> list[NodeId]:
        """Return the homes that do not have everything."""
        return [f.node for f in self.followers.values() if not f.complete]
