"""The contract of a store: what `LevelStore` and `MemoryStore` both do, and what callers may rely on.

All methods block; tasks call them in worker threads. A store may be used from several threads at once.

- Keys are ordered as bytes. Keys that begin with 00 or ff belong to the store itself.
- Every value is stored behind a CRC-32C of key and value, verified on every read. What does not match is
  never returned as a value and never removed for good: `set_aside` moves it out of the way.
- A batch is written whole or not at all. An unsynced one survives the end of the process, but not of the
  machine. A synced write makes those before it durable too, but for those in front of the last 16 MiB or so:
  LevelDB does not sync a log that it ends.
- The first error of the disk is the last answer: from then on every call but `close` raises `StoreFailed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from storage.ops import WriteBatch

PAGE = 1 << 20
"""How many bytes of values a scan returns if nobody says otherwise."""


class Row(NamedTuple):
    """A key and its value, intact."""

    key: bytes
    value: bytes


class Damaged(NamedTuple):
    """A record that does not match its checksum: its bytes as found, and why they were refused.

    With `upto` it is not one record: the medium is damaged so that rows of `key` <= … < `upto` may be missing
    from the scan, nobody can say which. What the scan returns of that range is intact and up to date.
    """

    key: bytes
    raw: bytes
    why: str
    upto: bytes | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan found, in its order; `more`: it ended because of a limit, not because of `stop`."""

    rows: list[Row]
    damaged: list[Damaged]
    more: bool


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Figures since the store was opened; `bytes_on_disk` and `set_aside` are of the store itself."""

    bytes_on_disk: int
    set_aside: int
    """Damaged records that were moved out of the way, ever."""
    writes: int
    synced_writes: int


class Store(Protocol):
    """Ordered keys and values that survive. See the module for what holds of every store."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None if it does not exist.

        Errors: Corrupt if its record is damaged; StoreFailed.
        """

    def scan(
        self, start: bytes, stop: bytes, *, limit: int, max_bytes: int = PAGE, reverse: bool = False
    ) -> Scan:
        """Return rows with `start` <= key < `stop`, ascending, or descending if `reverse`.

        At most `limit` records, damaged ones included, and `max_bytes` bytes of values, but at least one
        record if there is one; ranges that may miss rows come first and do not count. Errors: StoreFailed.
        """

    def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
        """Write `batch`, whole or not at all; with `sync`, return once it is on disk.

        reserve: bytes that must remain free on the disk after it.
        Errors: DiskFull if less would be left (nothing was written, the store goes on); StoreFailed.
        """

    def compact(self, start: bytes, stop: bytes) -> None:
        """Give back the room of what was deleted in a range; may take long. Errors: StoreFailed."""

    def end_compactions(self) -> None:
        """The store is to be closed soon: what `compact` does ends after the piece that it is at."""

    def size(self, start: bytes, stop: bytes) -> int:
        """Return about how many bytes the files have of a range, of what was deleted, too.

        What was written last may not be in a file yet.  Errors: StoreFailed.
        """

    def set_aside(self, damaged: Damaged) -> None:
        """Move a damaged record out of the way, durably, keeping its bytes for inspection (`storage.aside`).

        The same record twice counts once; one that was replaced meanwhile stays. Errors: StoreFailed.
        """

    def free_bytes(self) -> int:
        """How many bytes the disk has left."""

    def statistics(self) -> StoreStatistics:
        """Return the figures of this moment."""

    def close(self) -> None:
        """Finish what is under way in other threads, then close; later calls raise StoreFailed."""
