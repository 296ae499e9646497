"""Copying what is readable of a damaged database into a new one.

LevelDB refuses every write once a compaction has met a damaged block, and would meet it again after every
start. Reading is another matter: `storage.walk` gets past it.

    store/  store.damage             a database, and the word that it must be copied
    store/  store.damage  store.salvaging/     being copied; begun anew if it is interrupted
    store.damaged-…/      store.salvaging/     copied, renamed
    store/                                     done
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import plyvel

from storage import aside
from storage.inspection import rename_aside
from storage.records import collect, seal
from storage.walk import Walk

AT_ONCE = 1 << 20
"""Bytes per write while copying."""


def mark(files: Path, why: str) -> None:
    """Have the database in `files` copied when it is opened next."""
    _marker(files).write_text(why + "\n")


def reason(files: Path) -> str | None:
    """Return why the database in `files` must be copied, None if it need not be."""
    try:
        return _marker(files).read_text().strip()
    except FileNotFoundError:
        return None


def copy(files: Path, options: dict[str, Any], without: dict[bytes, bytes]) -> Path:
    """Copy the database in `files`, put the copy in its place, and return where it went itself.

    What could not be read is noted in the copy (`storage.aside`).

    Arguments:
        files: not open.
        options: LevelDB's.
        without: sealed records that the copy has where the database has none, or none that can be read.

    Errors: plyvel.Error, OSError.
    """
    target = _target(files)
    shutil.rmtree(target, ignore_errors=True)
    source = plyvel.DB(os.fspath(files), **options)
    try:
        copied = plyvel.DB(os.fspath(target), create_if_missing=True, **options)
        try:
            for key, record in without.items():
                copied.put(key, record)
            _copy(source, copied)
        finally:
            copied.close()
    finally:
        source.close()
    renamed = rename_aside(files, "damaged")
    finish(files)
    return renamed


def finish(files: Path) -> None:
    """Put a copy that is whole in the place of what it was made of, if that is gone from there."""
    if files.exists():
        return
    if _target(files).exists():
        _target(files).rename(files)
    _marker(files).unlink(missing_ok=True)


def _marker(files: Path) -> Path:
    return files.with_name(f"{files.name}.damage")


def _target(files: Path) -> Path:
    return files.with_name(f"{files.name}.salvaging")


def _copy(source: plyvel.DB, target: plyvel.DB) -> None:
    position, more = b"", True
    while more:
        with Walk(source, position, aside.END) as walk:
            found = collect(walk, position, aside.END, limit=AT_ONCE, max_bytes=AT_ONCE)
            gaps = walk.damaged(found)
        more = found.more
        seen = [row.key for row in found.rows] + [damaged.key for damaged in found.damaged]
        position = max(seen, default=position) + b"\x00"
        batch = target.write_batch(sync=not more)
        for row in found.rows + [aside.place(damaged) for damaged in gaps + found.damaged]:
            batch.put(row.key, seal(row.key, row.value))
        batch.write()
