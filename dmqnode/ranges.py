"""Sets of sequence numbers that are mostly contiguous: the dead set, and what is taken.

Half-open ranges, sorted, disjoint and never touching, in two parallel lists: a membership test, an
addition or a removal is a bisection plus the list surgery, whatever the set's cardinality.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

import cbor2

_EMPTY = cbor2.dumps([])


class RangeSet:
    """A set of non-negative integers kept as ranges."""

    __slots__ = ("_highs", "_lows", "size")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self.size = 0
        for low, high in ranges:
            self.add(low, high)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._lows, self._highs, strict=True))

    def __len__(self) -> int:
        """Return the number of ranges (not of integers: that is `size`)."""
        return len(self._lows)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._lows, number) - 1
        return at >= 0 and number < self._highs[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._lows == other._lows and self._highs == other._highs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RangeSet({list(self)!r})"

    @property
    def watermark(self) -> int:
        """The lowest number that is not in the set."""
        return self._highs[0] if self._lows and self._lows[0] == 0 else 0

    @property
    def end(self) -> int:
        """One more than the highest number in the set, 0 when it is empty."""
        return self._highs[-1] if self._highs else 0

    def add(self, low: int, high: int) -> int:
        """Add low … high - 1; return how many of them were new."""
        if low >= high:
            return 0
        first = bisect_left(self._highs, low)
        last = bisect_right(self._lows, high)
        old = 0
        if first < last:
            old = sum(self._highs[i] - self._lows[i] for i in range(first, last))
            low = min(low, self._lows[first])
            high = max(high, self._highs[last - 1])
        self._lows[first:last] = [low]
        self._highs[first:last] = [high]
        new = high - low - old
        self.size += new
        return new

    def remove(self, low: int, high: int) -> int:
        """Remove low … high - 1; return how many of them were there."""
        if low >= high:
            return 0
        first = bisect_right(self._highs, low)
        last = bisect_left(self._lows, high)
        if first >= last:
            return 0
        old = sum(self._highs[i] - self._lows[i] for i in range(first, last))
        lows, highs = [], []
        if self._lows[first] < low:
            lows.append(self._lows[first])
            highs.append(low)
        if self._highs[last - 1] > high:
            lows.append(high)
            highs.append(self._highs[last - 1])
        kept = sum(highs) - sum(lows)
        self._lows[first:last] = lows
        self._highs[first:last] = highs
        self.size -= old - kept
        return old - kept

    def covers(self, low: int, high: int) -> bool:
        """Tell whether every number of low … high - 1 is in the set."""
        at = bisect_right(self._lows, low) - 1
        return low >= high or (at >= 0 and high <= self._highs[at])

    def overlap(self, low: int, high: int) -> int:
        """Return how many numbers of low … high - 1 are in the set."""
        return sum(b - a for a, b in self.within(low, high))

    def within(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the set's ranges clipped to low … high - 1."""
        first = bisect_right(self._highs, low)
        last = bisect_left(self._lows, high)
        return [(max(low, self._lows[i]), min(high, self._highs[i])) for i in range(first, last)]

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the ranges of low … high - 1 that are not in the set."""
        out = []
        for a, b in self.within(low, high):
            if low < a:
                out.append((low, a))
            low = b
        if low < high:
            out.append((low, high))
        return out

    def first_gap(self, low: int) -> int:
        """Return the lowest number >= low that is not in the set."""
        at = bisect_right(self._lows, low) - 1
        return self._highs[at] if at >= 0 and low < self._highs[at] else low

    def first_from(self, low: int) -> tuple[int, int] | None:
        """Return the first range that holds numbers at or above `low`, without those below it."""
        i = bisect_right(self._highs, low)
        return (max(low, self._lows[i]), self._highs[i]) if i < len(self._lows) else None

    def next_range(self, low: int, *, longer_than: int) -> tuple[int, int] | None:
        """Return the first range that starts at or above `low` and holds more than `longer_than` numbers."""
        for i in range(bisect_left(self._lows, low), len(self._lows)):
            if self._highs[i] - self._lows[i] > longer_than:
                return self._lows[i], self._highs[i]
        return None

    def encode(self) -> bytes:
        """Return the set as bytes: CBOR, the differences between neighbouring bounds."""
        if not self._lows:
            return _EMPTY
        bounds = [n for pair in self for n in pair]
        return cbor2.dumps([b - a for a, b in zip((0, *bounds), bounds, strict=False)])

    @classmethod
    def decode(cls, data: bytes) -> RangeSet:
        """Read what `encode` wrote.

        Errors: ValueError for anything else.
        """
        try:
            steps = cbor2.loads(data)
        except (cbor2.CBORDecodeError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
            raise ValueError(f"not an encoded range set: {error}") from error
        if not isinstance(steps, list) or len(steps) % 2 or not all(type(n) is int and n >= 0 for n in steps):
            raise ValueError("not an encoded range set")
        bounds = list(accumulate(steps))
        made = cls()
        made._lows, made._highs = bounds[::2], bounds[1::2]
        made.size = sum(made._highs) - sum(made._lows)
        if any(a >= b for a, b in pairwise(bounds)):
            raise ValueError("the ranges of an encoded set overlap or touch")
        return made
