"""Where records that are gone still take room: found in the store's files, whoever deleted them, and when.

A store gives the room of deleted records back when it merges the files that they are in, and keys that only
ascend hardly make it do that.  So the ranges of all partitions are measured in turn, whether there is a copy
or was one, and what lies between them: where the files have much more of a range than its records are long,
it is compacted.  Nothing is searched for in them: whoever seeks passes all that was deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dmqnode.effects import Compact
from dmqnode.ids import PartitionId
from dmqnode.keys import COPIES, COPIES_END, DEBTS, DEBTS_END, PartitionKeys

COMPACT_BYTES = 64 << 20
"""Bytes that a range has in vain, at least, and at least as many as live there, to be compacted."""
COMPACT_WHEN_SHORT = 1 << 20
"""The same while the disk is short of space: sends wait for it."""
AT_ONCE = (32, 4096)
"""Ranges that are measured at once; while the disk is short, the worst of so many is compacted first."""


class Span(NamedTuple):
    """A range of keys; `copy`: of one partition."""

    start: bytes
    stop: bytes
    copy: bool


class Measured(NamedTuple):
    """A range: how many bytes the files have of it, and how many its records are long."""

    start: bytes
    stop: bytes
    size: int
    live: int


class Space:
    """Decides which ranges are measured, and which are compacted."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        """What is still to be measured in this round, the next last."""
        self._left: dict[bytes, int] = {}
        """What a compaction left of a range, by its start, beyond what lived: it would leave it again."""
        self._under_way: dict[bytes, int] = {}
        """What lives in the ranges that are being compacted."""

    def worth(self, store_bytes: int, *, short: bool) -> bool:
        """Tell whether to look at all: a small store has nothing to give back."""
        return store_bytes >= (COMPACT_WHEN_SHORT if short else COMPACT_BYTES)

    @property
    def over(self) -> bool:
        """Whether all ranges were measured, so that the next round is to `begin`."""
        return not self._spans

    def begin(self, partitions: Iterable[PartitionId], *, owes: bool) -> None:
        """Begin a round.

        Arguments:
            partitions: all that there are.
            owes: whether debts are kept; how long they are is not known.
        """
        spans = [] if owes else [Span(DEBTS, DEBTS_END, copy=False)]
        last = COPIES
        for prefix in sorted(PartitionKeys.of(partition).prefix for partition in partitions):
            spans += [Span(last, prefix, copy=False), Span(prefix, prefix + b"\xff", copy=True)]
            last = prefix + b"\xff"
        spans.append(Span(last, COPIES_END, copy=False))
        known = {span.start for span in spans}
        self._left = {start: size for start, size in self._left.items() if size and start in known}
        self._spans = spans[::-1]

    def take(self, *, short: bool) -> list[Span]:
        """Return the ranges that are to be measured next."""
        count = AT_ONCE[short]
        spans, self._spans = self._spans[: -count - 1 : -1], self._spans[:-count]
        return spans

    def measured(self, found: Iterable[Measured], *, short: bool) -> list[Compact]:
        """Take in some ranges; return which to compact, the worst first.

        Arguments:
            short: whether the disk is short of space: then one is compacted before the next are measured.
        """
        wanted: list[tuple[int, Compact, int]] = []
        for start, stop, size, live in found:
            lives = live + self._left.get(start, 0)
            if size - lives > (COMPACT_WHEN_SHORT if short else max(COMPACT_BYTES, lives)):
                wanted.append((lives - size, Compact(start, stop), live))
        wanted.sort()
        if short:
            del wanted[1:]
        self._under_way = {compact.start: live for _, compact, live in wanted}
        return [compact for _, compact, _ in wanted]

    def compacted(self, compact: Compact, size: int) -> None:
        """A range was compacted, after which the files have `size` bytes of it."""
        live = self._under_way.pop(compact.start, None)
        if live is not None:
            self._left[compact.start] = max(0, size - live)
