"""What the homes that follow are to be told of a partition besides the records that it writes."""

from __future__ import annotations

from dmqnode.ids import LogId
from dmqnode.ranges import RangeSet


class Elsewhere:
    """Gathers until the next write group takes it along."""

    def __init__(self) -> None:
        self._lacks: dict[LogId, RangeSet] = {}
        self._voids: dict[LogId, RangeSet] = {}
        self.coming: dict[tuple[LogId, int], None] = {}
        """Debts (log, first seq) that are being taken in, and are not on enough homes yet."""

    def lack(self, log: LogId, low: int, high: int) -> None:
        """Messages belong to the partition from now on, and nobody who follows has them."""
        self._lacks.setdefault(log, RangeSet()).add(low, high)

    def void(self, log: LogId, low: int, high: int) -> None:
        """Messages died that are not held here: whoever holds them is to delete them."""
        self._voids.setdefault(log, RangeSet()).add(low, high)

    def take(self) -> tuple[dict[LogId, RangeSet], dict[LogId, RangeSet]]:
        """Return, once, what is lacking and what died."""
        lacks, voids, self._lacks, self._voids = self._lacks, self._voids, {}, {}
        return lacks, voids
