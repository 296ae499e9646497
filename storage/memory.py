"""A store in memory that behaves like one on a disk, power cuts included.

For tests and simulations: it obeys the same contract as `LevelStore`, never sleeps and starts no thread.

    write(a, sync=False)  write(b, sync=True)  write(c, sync=False)  write(d, sync=False)   crash()
    └──────────── durable, for b's sync covers a ───────┘└─── none, c, or c and d survive ───┘
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator

from storage import aside
from storage.errors import Corrupt, DiskFull, StoreFailed
from storage.faults import Faults
from storage.ops import WriteBatch
from storage.records import BAD_CHECKSUM, collect, seal, unseal
from storage.store import PAGE, Damaged, Scan, StoreStatistics

UNSYNCED_LIMIT = 10_000
"""Batches that can be lost in a crash; a real log would have been written out long before that."""
ENDLESS = 1 << 50
NAME = "memory"


class MemoryStore:
    """A `Store` in memory.

    faults: what goes wrong and how often; None: nothing, and a crash loses all that was not synced.
    """

    def __init__(self, faults: Faults | None = None) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self._records: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._undo: deque[dict[bytes, bytes | None]] = deque(maxlen=UNSYNCED_LIMIT)
        self._bytes = 0
        self._writes = 0
        self._synced_writes = 0
        self._failure: tuple[str, str] | None = None

    # --- the contract (docstrings: storage.store.Store) --------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            self._check_read()
            raw = self._records.get(key)
        if raw is None:
            return None
        value = unseal(key, raw)
        if value is None:
            raise Corrupt(key, BAD_CHECKSUM)
        return value

    def scan(
        self, start: bytes, stop: bytes, *, limit: int, max_bytes: int = PAGE, reverse: bool = False
    ) -> Scan:
        with self._lock:
            self._check_read()
            return collect(self._pairs(start, stop, reverse), start, stop, limit, max_bytes)

    def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
        with self._lock:
            self._check()
            self._check_room(batch.size, reserve)
            self._write(list(batch), sync)

    def compact(self, start: bytes, stop: bytes) -> None:
        with self._lock:
            self._check()

    def end_compactions(self) -> None:
        pass

    def size(self, start: bytes, stop: bytes) -> int:
        with self._lock:
            self._check_read()
            return sum(len(record) for key, record in self._pairs(start, stop, False) if key < stop)

    def set_aside(self, damaged: Damaged) -> None:
        row = aside.place(damaged)
        with self._lock:
            self._check()
            there = damaged.upto is None and self._records.get(damaged.key) == damaged.raw
            gone = [(damaged.key, None)] if there else []
            self._write([*gone, (row.key, row.value)], sync=True)

    def free_bytes(self) -> int:
        capacity = self._faults.capacity if self._faults else None
        return ENDLESS if capacity is None else max(0, capacity - self._bytes)

    def statistics(self) -> StoreStatistics:
        with self._lock:
            set_aside = len(self._keys) - bisect_left(self._keys, aside.FIRST)
            return StoreStatistics(self._bytes, set_aside, self._writes, self._synced_writes)

    def close(self) -> None:
        with self._lock:
            self._failure = self._failure or ("answer", "it is closed")

    # --- what only a simulated disk can do ---------------------------------------------------------------

    def crash(self, rng: random.Random | None = None) -> MemoryStore:
        """Cut the power: this store is closed, and the one returned has what survived.

        rng: decides whether none, all, or some of the unsynced batches survive, oldest first; default: the
        generator of the faults, and without one none survives.
        """
        rng = rng or (self._faults.rng if self._faults else None)
        unsynced = len(self._undo)
        kept = rng.choice((0, unsynced, rng.randint(0, unsynced))) if rng else 0
        with self._lock:
            while len(self._undo) > kept:
                for key, raw in self._undo.pop().items():
                    self._replace(key, raw)
        self._undo.clear()
        return self.reopen()

    def reopen(self) -> MemoryStore:
        """End the process, not the machine: this store is closed, and the one returned has everything."""
        self.close()
        after = MemoryStore(self._faults)
        after._records, after._keys = self._records, self._keys
        after._undo, after._bytes = self._undo, self._bytes
        self._records, self._keys, self._undo = {}, [], deque()
        return after

    def delay(self, *, sync: bool = False) -> float:
        """Draw how long a call takes on this disk, in seconds."""
        if self._faults is None:
            return 0.0
        seconds = self._faults.rng.uniform(*self._faults.delay)
        return seconds + self._faults.rng.uniform(*self._faults.sync_delay) if sync else seconds

    def damage(self, key: bytes, rng: random.Random) -> None:
        """Change one bit of what is stored under `key`. Errors: KeyError if it does not exist."""
        with self._lock:
            self._records[key] = Faults(rng=rng).flip_bit(self._records[key])

    # --- inside ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._failure is not None:
            raise StoreFailed(NAME, *self._failure)

    def _check_read(self) -> None:
        self._check()
        if self._faults and self._faults.happens(self._faults.read_error):
            self._fail("read")

    def _check_room(self, size: int, reserve: int) -> None:
        free = self.free_bytes()
        if free < size + reserve:
            raise DiskFull(NAME, free, size + reserve)

    def _fail(self, action: str) -> None:
        self._failure = (action, "Input/output error")
        self._check()

    def _pairs(self, start: bytes, stop: bytes, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        if reverse:
            places = range(bisect_left(self._keys, stop) - 1, -1, -1)
        else:
            places = range(bisect_left(self._keys, start), len(self._keys))
        for place in places:
            key = self._keys[place]
            yield key, self._records[key]

    def _write(self, operations: list[tuple[bytes, bytes | None]], sync: bool) -> None:
        faults = self._faults
        refused = faults is not None and faults.happens(faults.write_error)
        if not refused or (faults is not None and faults.rng.random() < 0.5):
            self._apply(operations)
        if refused:
            self._fail("write")
        self._writes += 1
        if sync:
            if faults is not None and faults.happens(faults.sync_error):
                self._fail("sync")
            self._synced_writes += 1
            self._undo.clear()

    def _apply(self, operations: list[tuple[bytes, bytes | None]]) -> None:
        undo: dict[bytes, bytes | None] = {}
        for key, value in operations:
            undo.setdefault(key, self._records.get(key))
            self._replace(key, None if value is None else seal(key, value))
        self._undo.append(undo)
        faults = self._faults
        if faults is not None and faults.happens(faults.flip):
            written = [key for key, value in operations if value is not None]
            if written:
                key = faults.rng.choice(written)
                self._records[key] = faults.flip_bit(self._records[key])

    def _replace(self, key: bytes, raw: bytes | None) -> None:
        before = self._records.get(key)
        if before is not None:
            self._bytes -= len(key) + len(before)
        if raw is not None:
            self._bytes += len(key) + len(raw)
            if before is None:
                insort(self._keys, key)
            self._records[key] = raw
        elif before is not None:
            del self._keys[bisect_left(self._keys, key)]
            del self._records[key]
