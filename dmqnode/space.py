"""Where records that are gone still take room: found in the store's files, whoever deleted them, and when.

A store gives the room of deleted records back when it merges the files that they are in, and keys that only
ascend hardly make it do that.  So the ranges of the partitions are looked at in turn, of led and followed
copies alike, and what lies between two, which nobody needs any more: where the files have much more of a
range than its records are long, it is compacted.
"""

from __future__ import annotations

from typing import NamedTuple

from dmqnode.effects import Compact

COMPACT_BYTES = 64 << 20
"""Bytes that a range has in vain, at least, and at least as many as live there, to be compacted."""
COMPACT_WHEN_SHORT = 1 << 20
"""The same while the disk is short of space: sends wait for it."""


class Stretch(NamedTuple):
    """A range of keys: how many bytes the files have of it, and how many its records are long."""

    start: bytes
    stop: bytes
    size: int
    live: int


class Space:
    """Decides which ranges are compacted."""

    def __init__(self) -> None:
        self.position = b""
        """Where to look next; empty: at the first range."""
        self._left: dict[bytes, int] = {}
        """What the files had of ranges, by their start, when they were last compacted, where that is much."""
        self._left_next: dict[bytes, int] = {}
        """The same, of those that were met since the first range."""

    def worth(self, store_bytes: int, *, short: bool) -> bool:
        """Tell whether to look at all: a small store has nothing to give back."""
        return store_bytes >= (COMPACT_WHEN_SHORT if short else COMPACT_BYTES)

    def looked(self, found: list[Stretch], position: bytes, *, short: bool) -> list[Compact]:
        """Take in some ranges, in their order; return which to compact.

        Arguments:
            position: where to go on; empty: these were the last.
            short: whether the disk is short of space.
        """
        self.position = position
        wanted: list[Compact] = []
        for start, stop, size, live in found:
            # What a compaction has left lives, whatever is known of it: it would leave it again.
            left = self._left.get(start, 0)
            lives = max(live, left)
            if size - lives > (COMPACT_WHEN_SHORT if short else max(COMPACT_BYTES, lives)):
                self._left[start] = left = size
                wanted.append(Compact(start, stop))
            if left > live + COMPACT_WHEN_SHORT:
                self._left_next[start] = left
        if not position:
            self._left, self._left_next = self._left_next, {}
        return wanted

    def compacted(self, compact: Compact, size: int) -> None:
        """A range was compacted, after which the files have `size` bytes of it."""
        for known in (self._left, self._left_next):
            if compact.start in known:
                known[compact.start] = size
