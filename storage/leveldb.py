"""The store on disk: LevelDB in a directory of its own, under the contract of `storage.store`.

    directory/LOCK.dmq                    who has it open (`storage.lock`)
    directory/store/                      LevelDB's files
    directory/store.damaged-…/            an earlier one that did not open (`storage.opening`), or whose
                                          readable part was copied (`storage.salvage`)
    directory/store.torn-…/               one whose list of files was cut short (`storage.inspection`)
    directory/store.damaged-000012.log-…  a log that LevelDB could not read to its end

Every value is sealed (`storage.records`): what LevelDB returns is believed only if its CRC-32C matches.
Values are stored as they are, without compression: bodies are the user's business, and what is read
straight from mapped files needs no memory of ours.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import plyvel

from storage import aside, salvage
from storage.errors import Corrupt, DiskFull, StoreFailed
from storage.gate import Gate
from storage.inspection import rename_aside
from storage.lock import DirectoryLock
from storage.opening import FILES, failure, open_database
from storage.ops import WriteBatch
from storage.pieces import pieces
from storage.records import BAD_CHECKSUM, collect, seal, unseal
from storage.store import PAGE, Damaged, Scan, StoreStatistics
from storage.walk import Walk, reason

FORMAT = 1
"""What this program writes, and the highest that it reads; kept in the store under `opening.FORMAT_KEY`.

To change what is on disk (the records of `storage.records` and `storage.aside`, or any key or value that
users of the store make) in a way that an older program would misread:

1. Add 1 to FORMAT and say in the table below what changed.
2. Read both: either old records carry their own version and are understood for ever, or a step in
   `opening` rewrites them, in batches, each of which may be the last before a crash, and sets the format
   last.
3. Add a golden file made by the new format to `tests/storage/golden/`; those that are there stay as they are
   and must stay readable.
4. Name it in CHANGELOG.md: after the first start an older version refuses the directory (`NewerFormat`).

    1   sealed records; dmqnode/keys.py as of 0.1
"""
UNREADABLE = b""
"""Stands for a record in a damaged block; no record is so short."""
GAPS_LIMIT = 10_000
"""So many things set aside are kept before mere notes of gaps are not: one gap may be met again and again."""


class LevelStore:
    """A `Store` on disk. Made by `open`.

    `directory`: where it is.
    `renamed_aside`: where a store went that did not open, if there was one; this one is new then.
    `incomplete`: whether records may be missing of which nobody knows.
    `notices`: what the operator should know about how it opened, in sentences.
    """

    def __init__(self, directory: Path, lock: DirectoryLock) -> None:
        self.directory = directory
        self._lock = lock
        self._gate = Gate()
        self._writing = threading.Lock()
        self._failure: StoreFailed | None = None
        self._closing = False
        self._writes = 0
        self._synced_writes = 0
        self._set_aside = self._size = 0
        opened = open_database(directory, FORMAT)
        self._db = opened.db
        self._files = opened.files
        self.renamed_aside = opened.renamed_aside
        self.incomplete = opened.incomplete
        self.notices = opened.notices
        try:
            for damaged in opened.damaged:
                self.set_aside(damaged)
            self._set_aside = self._count_set_aside()
        except BaseException:
            self._db.close()
            raise

    def put_aside(self) -> Path:
        """Close the store and rename it, so that the next that is opened here is new; return its new name.

        Errors: OSError.
        """
        self.close()
        return rename_aside(self._files, "forgotten")

    @classmethod
    def open(cls, directory: Path) -> LevelStore:
        """Open the store in `directory`, which exists; begin one if there is none.

        One that does not open is renamed aside, never deleted, and a new one begun: see `renamed_aside`.

        Errors: InUse, NewerFormat, StoreFailed.
        """
        try:
            lock = DirectoryLock(directory)
        except OSError as error:
            raise failure(directory, "open", error) from error
        files = directory / FILES
        try:
            marked = salvage.reason(files)
            try:
                return cls(directory, lock)
            except StoreFailed:
                if marked is not None or salvage.reason(files) is None:
                    raise
                return cls(directory, lock)  # a compaction met something damaged: now all is copied first
        except BaseException:
            lock.release()
            raise

    # --- the contract (docstrings: storage.store.Store) --------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        with self._using("read"):
            try:
                raw = self._db.get(key, verify_checksums=True)
            except plyvel.CorruptionError as error:
                raise Corrupt(key, reason(error)) from error
        if raw is None:
            return None
        value = unseal(key, raw)
        if value is None:
            raise Corrupt(key, BAD_CHECKSUM)
        return value

    def scan(
        self, start: bytes, stop: bytes, *, limit: int, max_bytes: int = PAGE, reverse: bool = False
    ) -> Scan:
        with self._using("read"), Walk(self._db, start, stop, reverse=reverse) as walk:
            found = collect(walk, start, stop, limit, max_bytes)
            return Scan(found.rows, walk.damaged(found) + found.damaged, found.more)

    def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
        with self._using("write"):
            free = self.free_bytes()
            if free < batch.size + reserve:
                raise DiskFull(self.directory, free, batch.size + reserve)
            with self._writing:
                self._write(batch, sync)

    def compact(self, start: bytes, stop: bytes) -> None:
        with self._using("compact"):
            # The first call empties LevelDB's write buffer into a file, so that `pieces` sees all there is.
            self._db.compact_range(start=start, stop=start)
            for low, high in pieces(self._db, start, stop):
                if self._closing:
                    return
                self._span(low, high)
                self._db.compact_range(start=low, stop=high)

    def end_compactions(self) -> None:
        self._closing = True

    def size(self, start: bytes, stop: bytes) -> int:
        with self._using("look at"):
            found: int = self._db.approximate_size(start, stop)
            return found

    def set_aside(self, damaged: Damaged) -> None:
        row = aside.place(damaged)
        batch = WriteBatch()
        with self._using("write"), self._writing:
            new = self._look(row.key) is None
            if new and (damaged.upto is None or self._set_aside < GAPS_LIMIT):
                batch.put(row.key, row.value)
            if damaged.upto is None and self._look(damaged.key) in (damaged.raw, UNREADABLE):
                batch.delete(damaged.key)
            if len(batch):
                self._write(batch, sync=True)
                self._set_aside += new

    def free_bytes(self) -> int:
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def statistics(self) -> StoreStatistics:
        try:
            self._size = _size_of(self._files)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise failure(self.directory, "look at", error) from error
            # It is not worth a file that clients or LevelDB need: the size stays the last that was seen.
        return StoreStatistics(self._size, self._set_aside, self._writes, self._synced_writes)

    def close(self) -> None:
        self._closing = True
        with self._gate.alone():
            if self._db.closed:
                return
            self._failure = self._failure or StoreFailed(self.directory, "answer", "it is closed")
            self._db.close()
            self._lock.release()

    # --- inside ------------------------------------------------------------------------------------------

    @contextmanager
    def _using(self, action: str) -> Iterator[None]:
        """Be among those who use the database; turn what the disk says no to into the last answer."""
        with self._gate.passing():
            if self._failure is not None:
                raise _again(self._failure)
            try:
                yield
            except (plyvel.Error, OSError) as error:
                self._failure = failure(self.directory, action, error)
                if isinstance(error, plyvel.CorruptionError):
                    with suppress(OSError):
                        salvage.mark(self._files, reason(error))
                raise self._failure from error

    def _write(self, batch: WriteBatch, sync: bool) -> None:
        operations = self._db.write_batch(sync=sync)
        for key, value in batch:
            if value is None:
                operations.delete(key)
            else:
                operations.put(key, seal(key, value))
        operations.write()
        self._writes += 1
        self._synced_writes += sync

    def _span(self, *keys: bytes) -> None:
        """Write what is under `keys` once more, so that the newest file spans what lies between.

        LevelDB rewrites a file only to merge it with one above. A file that came with its rows' deletions
        would stay as it is.
        """
        with self._writing:
            for key in keys:
                raw = self._look(key)
                if raw is None:
                    self._db.delete(key)
                elif raw != UNREADABLE:
                    self._db.put(key, raw)

    def _look(self, key: bytes) -> bytes | None:
        """Return what lies under `key`, sealed as it is."""
        try:
            return self._db.get(key, verify_checksums=True)
        except plyvel.CorruptionError:
            return UNREADABLE

    def _count_set_aside(self) -> int:
        with self._using("open"), Walk(self._db, aside.FIRST, aside.END) as walk:
            return sum(1 for _ in walk)


def _again(failed: StoreFailed) -> StoreFailed:
    """Return a fresh exception that says the same, for one cannot be raised in two threads."""
    return StoreFailed(failed.directory, failed.action, failed.why, disk_full=failed.disk_full)


def _size_of(directory: Path) -> int:
    """The bytes of the files in `directory`; LevelDB may delete some meanwhile."""
    size = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                size += entry.stat().st_size
            except FileNotFoundError:
                continue
    return size
