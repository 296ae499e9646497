"""What a leader knows of the homes that follow it in one partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple, TypeAlias

from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.log import Log
from dmqnode.peer_messages import Entry
from dmqnode.port import Then
from dmqnode.ranges import RangeSet
from dmqnode.smallrows import Gaps

Ranges: TypeAlias = "tuple[tuple[LogId, int, int], ...]"
"""Messages: (log, low, high)."""


class Waiting(NamedTuple):
    """Something that waits until enough homes have entry `seq`, and the messages that it is about.

    `brought` are those that the entry itself wrote, `relied` those that were sent before: a repeated send is
    answered as the first was, but the first may not have come far.
    """

    seq: int
    then: Then
    brought: Ranges
    relied: Ranges

    @property
    def about(self) -> Ranges:
        """All its messages."""
        return self.brought + self.relied


def _lacks(missing: RangeSet | None, log: LogId, low: int, high: int, brought: Iterable[Waiting]) -> bool:
    """Tell whether some of messages `low` … `high` - 1 are missing, but for those that came since."""
    if missing is None or not missing.overlap(low, high):
        return False
    left = RangeSet(missing.within(low, high))
    for entry in brought:
        for other, a, b in entry.brought:
            if other == log:
                left.remove(a, b)
    return left.size > 0


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
        "brought",
        "buffered",
        "confirmed",
        "filling",
        "gaps",
        "lacks",
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
        self.lacks: list[Gaps] = []
        """What entries told it that it lacks, while it is being aligned."""
        self.brought: deque[tuple[int, Ranges]] = deque()
        """(seq, messages) of entries shipped and not confirmed that bring what may be gaps."""
        self.filling = False
        self.sizes: deque[tuple[int, int]] = deque()
        """(seq, bytes) of entries shipped and not confirmed."""
        self.under_way = 0

    def ship(self, seq: int, lacks: Gaps, voids: Gaps, brought: Ranges) -> None:
        """An entry is on its way to this home; see `Streams.collected`."""
        self.lack(lacks)
        self.forget(voids)
        if brought:
            self.brought.append((seq, brought))

    def confirm(self, seq: int) -> None:
        """Entries up to `seq` are on this home's disk: what they brought it does not lack any more."""
        self.confirmed = max(self.confirmed, seq)
        while self.brought and self.brought[0][0] <= self.confirmed:
            for log, low, high in self.brought.popleft()[1]:
                self.forget({log: RangeSet([(low, high)])})

    def lack(self, lacks: Gaps) -> None:
        """An entry tells this home of messages that nobody has who follows."""
        if self.stage is not Stage.FOLLOWING:
            self.lacks.append(lacks)
            return
        for log, missing in lacks.items():
            mine = self.gaps.setdefault(log, RangeSet())
            for low, high in missing:
                mine.add(low, high)

    def forget(self, voids: Gaps) -> None:
        """Messages died that this home may lack: it need not have them."""
        for log, died in voids.items():
            if log in self.gaps:
                for low, high in died:
                    self.gaps[log].remove(low, high)
                if not self.gaps[log].size:
                    del self.gaps[log]

    def aligned(self, seq: int, gaps: Gaps) -> None:
        """This home follows now, and lacks `gaps` besides what later entries told it that it lacks."""
        self.stage = Stage.FOLLOWING
        self.gaps = gaps
        self.confirmed = max(self.confirmed, seq)
        lacks, self.lacks = self.lacks, []
        for missing in lacks:
            self.lack(missing)

    def has(self, waiting: Waiting, under_way: Iterable[Waiting] = ()) -> bool:
        """Tell whether an entry, and the messages that it is about, are on this home's disk.

        Arguments:
            under_way: all that waits; what one of those entries brought need not be filled in any more.
        """
        if self.confirmed < waiting.seq:
            return False
        about = waiting.about if waiting.seq <= self.aligned_at else waiting.relied
        if not about or self.holds(about):
            return True
        brought = [w for w in under_way if self.aligned_at < w.seq <= self.confirmed]
        return not any(_lacks(self.gaps.get(log), log, low, high, brought) for log, low, high in about)

    def holds(self, ranges: Ranges) -> bool:
        """Tell whether this home lacks none of some messages."""
        return not any(log in self.gaps and self.gaps[log].overlap(low, high) for log, low, high in ranges)

    def begin_again(self) -> None:
        """This home does not follow: it is to be asked what it holds."""
        self.stage = Stage.ASKED
        self.asked_at = float("-inf")
        self.confirmed = -1
        self.buffered = None
        self.lacks = []
        self.brought.clear()
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
        self.waiting: deque[Waiting] = deque()
        self.unsealed: Then | None = None
        """What is done once a majority of the homes knows where this leader ends the older logs (F2)."""
        self.certain = False
        """Whether what homes that do not follow yet take for dead, and this node does not, lives (F2)."""
        self.missing: Gaps = {}
        """What no home has, as far as anybody can tell: nobody waits for it."""

    def has(self, waiting: Waiting) -> bool:
        """Tell whether an entry, and the messages that it is about, are on this node's disk."""
        if self.durable < waiting.seq or not waiting.relied:
            return self.durable >= waiting.seq
        brought = [w for w in self.waiting if w.seq <= self.durable]
        logs = ((self.logs.get(log), low, high) for log, low, high in waiting.relied)
        return not any(g is not None and _lacks(g.gaps, g.id, low, high, brought) for g, low, high in logs)

    def lacking(self, gaps: Gaps) -> Gaps:
        """Return `gaps` without what entries have brought to this node's disk that too few homes have yet.

        They stay gaps until enough have them, and perhaps only a change of homes makes enough.
        """
        left = {log: RangeSet(ranges) for log, ranges in gaps.items()}
        for waiting in self.waiting if left else ():
            for log, low, high in waiting.brought if waiting.seq <= self.durable else ():
                if log in left:
                    left[log].remove(low, high)
        return {log: ranges for log, ranges in left.items() if ranges.size}

    def relied_on(self, gaps: Gaps) -> list[tuple[LogId, int, int]]:
        """Return what of some gaps those rely on who wait; what entries under way bring is none any more."""
        relied = [r for w in self.waiting for r in w.relied if r[0] in gaps]
        brought = [w for w in self.waiting if w.brought]
        pieces = [(log, a, b) for log, low, high in relied for a, b in gaps[log].within(low, high)]
        return [(log, a, b) for log, a, b in pieces if _lacks(gaps[log], log, a, b, brought)]

    def sealed(self, me: NodeId) -> bool:
        """Tell whether a majority of the homes, of both sets while they change, has followed this leader."""
        have = [f.node for f in self.followers.values() if f.confirmed >= 0]
        return self.record().has_majority([me, *have])

    def following(self) -> list[NodeId]:
        """Return the homes that follow."""
        return [f.node for f in self.followers.values() if f.stage is Stage.FOLLOWING]

    def missing_homes(self) -> list[NodeId]:
        """Return the homes that do not have everything."""
        return [f.node for f in self.followers.values() if not self.complete(f)]

    def complete(self, follower: Follower) -> bool:
        """Tell whether a home has everything that there is."""
        return follower.stage is Stage.FOLLOWING and self.nothing_but_missing(follower.gaps)

    def nothing_but_missing(self, gaps: Gaps) -> bool:
        """Tell whether some gaps are of what no home has."""
        return all(
            log in self.missing and all(self.missing[log].covers(low, high) for low, high in ranges)
            for log, ranges in gaps.items()
        )
