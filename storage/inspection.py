"""Looking at LevelDB's files before it does: it skips what it cannot read and deletes what it does not know.

- A log that is damaged in the middle: the writes in the damaged part are lost. LevelDB would either refuse to
  open, or go on without a word, and then without verifying the checksums of tables either, so that a
  compaction ends the process or spreads the damage. Here the log is written anew with what can be read of
  it; as it was it is kept, and the loss is said.
- A table that was cut short: LevelDB would open, and fail at the first read of it, so nothing is opened.
- The MANIFEST, which lists the tables: damaged, nothing is opened. Cut short, as by a power cut, LevelDB
  opens what it said before, deletes the rest or writes over it, so everything is copied first.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from storage.logfile import BLOCK, State, inspect, readable, written
from storage.manifest import tables
from storage.store import Damaged

INCOMPLETE = "messages may be missing or come again; delete it when nothing is missed"
TABLES = (".ldb", ".sst")
"""What the names of tables end in."""
_CURRENT = re.compile(r"MANIFEST-\d+\n")


class Damage(Exception):
    """The database cannot be opened as it is; its text says why."""


@dataclass(slots=True)
class Prepared:
    """What the operator should know, and what is to be set aside once the database is open."""

    notices: list[str] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)


def prepare(files: Path) -> Prepared:
    """Make the database in `files` fit to be opened.

    Errors: Damage if it must not be opened; OSError.
    """
    prepared = Prepared()
    _check_manifest(files, prepared)
    for log in sorted(files.glob("*.log")):
        raw = log.read_bytes()
        found = inspect(raw)
        if found.state is State.DAMAGED:
            kept = _free_name(files, f"damaged-{log.name}")
            _replace(log, written(readable(raw)), kept)
            why = f"the log {log.name} is damaged at byte {found.at} of {len(raw)}"
            prepared.notices.append(f"{why}: writes in it are lost; it was kept as {kept}; {INCOMPLETE}")
            prepared.damaged.append(
                Damaged(b"\x00" + log.name.encode(), raw[found.at : found.at + BLOCK], why)
            )
    return prepared


def _replace(log: Path, raw: bytes, kept: Path) -> None:
    """Copy `log` to `kept` and put `raw` in its place, or do neither."""
    # LevelDB would pass over the damage, too, but only where it verifies no checksum of a table either.
    new = log.with_suffix(".new")  # which it does not know, and leaves alone
    try:
        with new.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        shutil.copy2(log, kept)
    except OSError:
        for made in (new, kept):  # or each start on a full disk would leave one more
            made.unlink(missing_ok=True)
        raise
    new.rename(log)
    directory = os.open(log.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def rename_aside(files: Path, reason: str) -> Path:
    """Rename `files` and return its new name, which holds the time."""
    target = _free_name(files, reason)
    files.rename(target)
    return target


def put_aside_in(directory: Path) -> list[Path]:
    """Return the stores in a data directory that were renamed, since the node could not go on with them."""
    found = [*directory.glob("store.damaged-*"), *directory.glob("store.forgotten-*")]
    return sorted(path for path in found if path.is_dir())  # a damaged log is a file


def _check_manifest(files: Path, prepared: Prepared) -> None:
    try:
        current = (files / "CURRENT").read_bytes().decode(errors="replace")
        if _CURRENT.fullmatch(current) is None:
            raise Damage(f"CURRENT says {current[:40]!r}")
        manifest = (files / current.strip()).read_bytes()
        found = inspect(manifest)
    except FileNotFoundError:
        return  # LevelDB says so better
    if found.state is State.DAMAGED:
        raise Damage(f"{current.strip()} is damaged at byte {found.at}")
    if found.state is State.TORN:
        kept = _free_name(files, "torn")
        _copy(files, kept)
        prepared.notices.append(
            f"the list of its files was cut short; the store was kept as it was in {kept}; {INCOMPLETE}"
        )
    _check_tables(files, manifest)


def _check_tables(files: Path, manifest: bytes) -> None:
    """Raise Damage if a table has another size than it was written with: a read of it would fail."""
    try:
        sizes = tables(manifest)
    except ValueError:
        return  # a newer LevelDB, perhaps
    for number, size in sizes.items():
        for suffix in TABLES:
            path = files / f"{number:06}{suffix}"
            if path.exists() and path.stat().st_size != size:
                raise Damage(f"{path.name} has {path.stat().st_size} bytes and must have {size}")


def _copy(files: Path, target: Path) -> None:
    """Copy all files, or none. A second name would not do: LevelDB uses the numbers of files again."""
    try:
        shutil.copytree(files, target)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _free_name(files: Path, reason: str) -> Path:
    """Return a path beside `files` that does not exist, with `reason` and the time in it."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for number in range(1000):
        path = files.with_name(f"{files.name}.{reason}-{stamp}" + (f"-{number}" if number else ""))
        if not path.exists():
            return path
    raise OSError(errno.EEXIST, f"there are too many files like {files.name}.{reason}-{stamp}")
