"""Walking over LevelDB's rows, past damaged blocks, without keeping quiet about them.

LevelDB keeps many rows in one block of a file and versions of one row in several files. A block whose
checksum does not match is skipped, and with it what it said: rows of it are missing, and rows that it
replaced or deleted come back to light. LevelDB tells only that there was such a block, once per iterator,
not which keys it held. So from the first sign of one to the end of the walk every row is looked up again:
a lookup goes from the newest version to the oldest and stops at a damaged block that may hold the row.
"""

from __future__ import annotations

from collections.abc import Iterator

import plyvel

from storage.store import Damaged, Scan


def reason(error: Exception) -> str:
    """Return what `error` says; LevelDB's words come as bytes."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(error)


class Walk:
    """Yields (key, record) from `start` on, ascending; or from before `stop` on, descending. To be closed.

    It does not end at the end of the range; whoever takes the rows does (see `records.collect`).
    """

    def __init__(self, db: plyvel.DB, start: bytes, stop: bytes, *, reverse: bool = False) -> None:
        self._db = db
        self._start = start
        self._stop = stop
        self._reverse = reverse
        self._rows = db.raw_iterator(verify_checksums=True, fill_cache=False)
        self._why = ""
        self._suspect_from = b""
        self._stale: list[Damaged] = []

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *exc: object) -> None:
        self._rows.close()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        rows = self._rows
        position = self._stop if self._reverse else self._start
        self._begin()
        while rows.valid():
            position = rows.key()
            if not self._why:
                yield position, rows.value()
            else:
                yield from self._look_up(position, rows.value())
            try:
                if self._reverse:
                    rows.prev()
                else:
                    rows.next()
            except plyvel.CorruptionError as error:
                self._suspect(error, position)

    def damaged(self, found: Scan) -> list[Damaged]:
        """Return what is, or may be, missing from `found`, which was made of this walk."""
        if not self._why:
            return []
        low, high = self._start, self._stop
        seen = [row.key for row in found.rows] + [damaged.key for damaged in found.damaged]
        if self._reverse:
            low = min(seen, default=low) if found.more else low
            high = max(low, self._suspect_from)
        else:
            high = max(seen, default=high) + b"\x00" if found.more else high
            low = min(high, self._suspect_from)
        stale = [damaged for damaged in self._stale if self._start <= damaged.key < self._stop]
        return [Damaged(low, b"", self._why, high), *stale]

    def _begin(self) -> None:
        rows = self._rows
        try:
            rows.seek(self._stop if self._reverse else self._start)
        except plyvel.CorruptionError as error:
            self._suspect(error, self._stop if self._reverse else self._start)
        if not self._reverse:
            return
        try:
            if rows.valid():
                rows.prev()
            else:
                rows.seek_to_last()
        except plyvel.CorruptionError as error:
            self._suspect(error, self._stop)

    def _suspect(self, error: plyvel.CorruptionError, position: bytes) -> None:
        if not self._why:
            self._why = reason(error)
            self._suspect_from = position

    def _look_up(self, key: bytes, record: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            newest = self._db.get(key, verify_checksums=True, fill_cache=False)
        except plyvel.CorruptionError as error:
            self._stale.append(Damaged(key, record, f"it may be out of date: {reason(error)}"))
            return
        if newest is not None:
            yield key, newest
