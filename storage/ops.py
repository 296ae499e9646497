"""A write is a value: what is to be put and deleted, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator


class WriteBatch:
    """Puts and deletes that reach the disk together or not at all; the last operation on a key wins.

    `size` is the sum of the lengths of all keys and values.
    """

    __slots__ = ("_operations", "size")

    def __init__(self) -> None:
        self._operations: dict[bytes, bytes | None] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._operations)

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        return iter(self._operations.items())

    def put(self, key: bytes, value: bytes) -> None:
        """Store `value` under `key`."""
        if key in self._operations:
            self._forget(key)
        self._operations[key] = value
        self.size += len(key) + len(value)

    def delete(self, key: bytes) -> None:
        """Remove `key`; nothing happens if it does not exist."""
        if key in self._operations:
            self._forget(key)
        self._operations[key] = None
        self.size += len(key)

    def extend(self, other: WriteBatch) -> None:
        """Append the operations of `other`."""
        mine, more = self._operations, other._operations
        if not mine.keys().isdisjoint(more.keys()):
            for key in [key for key in more if key in mine]:
                self._forget(key)
        mine.update(more)
        self.size += other.size

    def _forget(self, key: bytes) -> None:
        self.size -= len(key) + len(self._operations.pop(key) or b"")
