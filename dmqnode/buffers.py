"""Who holds how much of a node's memory for bytes that have not all come, or not all gone."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Buffers(Generic[K]):
    """Sizes by owner, and their sum.

    Arguments:
        limit: bytes; what happens beyond it is for the owner of this to say.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._sizes: dict[K, int] = {}

    def set(self, owner: K, size: int) -> None:
        """`owner` holds `size` bytes now."""
        self.total += size - (self._sizes.pop(owner, 0))
        if size:
            self._sizes[owner] = size

    @property
    def owners(self) -> list[K]:
        """Who holds anything."""
        return list(self._sizes)

    @property
    def overflows(self) -> bool:
        """Whether the sum is above the limit."""
        return self.total > self.limit

    def largest(self) -> K:
        """Return who holds most; there must be somebody."""
        return max(self._sizes, key=self._sizes.__getitem__)
