"""Opening LevelDB so that nothing is deleted, and nothing is lost without a word.

LevelDB deletes, when it opens, every file that its MANIFEST does not name, and begins a new database where
it finds no CURRENT file. So what does not open as a whole is renamed aside before anything new is begun.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plyvel

from storage import salvage
from storage.errors import NewerFormat, StoreFailed
from storage.inspection import INCOMPLETE, Damage, prepare, rename_aside
from storage.keys import u16
from storage.records import BAD_CHECKSUM, seal, unseal
from storage.store import Damaged
from storage.walk import reason

FILES = "store"
FRESH = "store.fresh"
"""What takes the place of a store that is begun anew, until it does."""
FORMAT_KEY = b"\x00format"
OPTIONS: dict[str, Any] = {
    # Two of these may be in memory at once, and so much is read and written again at the start after a crash.
    "write_buffer_size": 16 << 20,
    # What is deleted soon is written anew less often than with larger ones, and damage costs less.
    "max_file_size": 2 << 20,
    # What is read goes from mapped files to the reader; the cache is for blocks that do not come mapped.
    "lru_cache_size": 4 << 20,
    # Checksums of indexes are verified too, and a log that is damaged in the middle is not passed over.
    "paranoid_checks": True,
    # What one flipped bit makes unreadable.
    "block_size": 4 << 10,
    "compression": None,
    "max_open_files": 500,
    # A lookup reads no block that cannot hold the key: also what tells a damaged row from its neighbours.
    "bloom_filter_bits": 16,
}
"""LevelDB's settings."""


@dataclass(slots=True)
class Opened:
    """A database, and what was met on the way."""

    db: plyvel.DB
    files: Path
    renamed_aside: Path | None = None
    notices: list[str] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    incomplete: bool = False
    """Whether something may be missing of which nobody knows."""


def open_database(directory: Path, known: int) -> Opened:
    """Open the database in `directory`, or begin one; `known`: the highest format that may be in it.

    Errors: NewerFormat, StoreFailed.
    """
    files = directory / FILES
    try:
        salvage.finish(files)
        if not files.exists() and (directory / FRESH).is_dir():
            (directory / FRESH).rename(files)  # the old one was renamed before a crash, so this one is whole
        try:
            return _open_what_is_there(directory, files, known)
        except Damage as damage:
            renamed = rename_aside(files, "damaged")
            opened = _open(directory, files, known)
            opened.renamed_aside = renamed
            opened.notices.append(
                f"the store did not open ({damage}) and was renamed to {renamed}; this one is new"
            )
            return opened
    except (plyvel.Error, OSError, Damage) as error:
        raise failure(directory, "open", error) from error


def _open_what_is_there(directory: Path, files: Path, known: int) -> Opened:
    opened = _open(directory, files, known)
    why = salvage.reason(files)
    if why is None:
        return opened
    opened.db.close()
    renamed = salvage.copy(files, OPTIONS, {FORMAT_KEY: _number(known)})
    copied = _open(directory, files, known)
    copied.damaged, copied.incomplete = opened.damaged, True
    copied.notices = [
        *opened.notices,
        f"the store was damaged ({why}): what could be read of it was copied, "
        f"and it was renamed to {renamed}; {INCOMPLETE}",
    ]
    return copied


def failure(directory: Path, action: str, error: Exception) -> StoreFailed:
    """Return what `error`, from LevelDB or the system, means for the store as a whole."""
    number = error.errno if isinstance(error, OSError) else None
    why = reason(error) or type(error).__name__
    full = number in (errno.ENOSPC, errno.EDQUOT) or any(
        os.strerror(number) in why for number in (errno.ENOSPC, errno.EDQUOT)
    )
    return StoreFailed(directory, action, why, disk_full=full)


def _open(directory: Path, files: Path, known: int) -> Opened:
    new = not _holds_anything(files)
    if new:
        files.mkdir(exist_ok=True)
    found = prepare(files)
    try:
        db = plyvel.DB(os.fspath(files), create_if_missing=new, **OPTIONS)
    except plyvel.Error as error:
        raise _what(error) from error
    opened = Opened(db, files, notices=found.notices, damaged=found.damaged)
    try:
        _check_format(opened, directory, known)
    except BaseException:
        db.close()
        raise
    return opened


def _holds_anything(files: Path) -> bool:
    """Whether a database was begun here and may have been written to."""
    if not files.is_dir():
        return False
    return any(path.name == "CURRENT" or path.suffix in (".ldb", ".sst", ".log") for path in files.iterdir())


def _what(error: plyvel.Error) -> Exception:
    """Return Damage if the files are wrong, rather than the system unwilling."""
    if isinstance(error, plyvel.IOError) and os.strerror(errno.ENOENT) not in reason(error):
        return error
    return Damage(reason(error))


def _check_format(opened: Opened, directory: Path, known: int) -> None:
    db = opened.db
    try:
        record = db.get(FORMAT_KEY, verify_checksums=True)
    except plyvel.CorruptionError as error:
        opened.damaged.append(Damaged(FORMAT_KEY, b"", reason(error)))
        record = b""
    if record is None:
        if _has_rows(db):
            raise Damage("it holds records but no format number")
    elif (value := unseal(FORMAT_KEY, record)) is not None:
        found = int.from_bytes(value, "big")
        if found > known:
            raise NewerFormat(directory, found, known)
        return
    elif record:
        opened.damaged.append(Damaged(FORMAT_KEY, record, BAD_CHECKSUM))
    try:
        _write_number(db, known)
    except plyvel.CorruptionError as error:
        # A compaction, begun as it opened, has met something damaged: it takes no write any more.
        salvage.mark(opened.files, reason(error))


def _write_number(db: plyvel.DB, known: int) -> None:
    db.put(FORMAT_KEY, _number(known), sync=True)


def _number(known: int) -> bytes:
    return seal(FORMAT_KEY, u16(known))


def _has_rows(db: plyvel.DB) -> bool:
    with db.raw_iterator(verify_checksums=True) as rows:
        try:
            rows.seek_to_first()
        except plyvel.CorruptionError:
            return True
        return rows.valid()
