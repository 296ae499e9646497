"""Beginning a store anew: the old one is kept under another name, some of its records go on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import plyvel

from storage.keys import u16
from storage.leveldb import FORMAT, LevelStore
from storage.opening import FILES, FORMAT_KEY, FRESH, OPTIONS, failure
from storage.records import seal


def begin_anew(directory: Path, start: bytes, stop: bytes) -> Path:
    """Rename the store in `directory`, and leave one with nothing but the records of [start, stop).

    Returns its new name.  A crash in the middle leaves the old store as it was, or the new one; damaged
    records stay behind.

    Errors: StorageError.
    """
    store = LevelStore.open(directory)
    try:
        return _begin(directory, store, start, stop)
    except (plyvel.Error, OSError) as error:
        raise failure(directory, "begin anew", error) from error
    finally:
        store.close()


def _begin(directory: Path, store: LevelStore, start: bytes, stop: bytes) -> Path:
    fresh = directory / FRESH
    if fresh.exists():
        shutil.rmtree(fresh)  # of an attempt that did not end; all of it is in the store, too
    db = plyvel.DB(os.fspath(fresh), create_if_missing=True, **OPTIONS)
    db.put(FORMAT_KEY, seal(FORMAT_KEY, u16(FORMAT)), sync=True)
    while True:
        page = store.scan(start, stop, limit=1000)
        batch = db.write_batch(sync=True)
        for key, value in page.rows:
            batch.put(key, seal(key, value))
        batch.write()
        ends = [*[row.key for row in page.rows], *[record.key for record in page.damaged]]
        if not page.more or not ends:
            break
        start = max(ends) + b"\x00"
    db.close()
    renamed = store.put_aside()
    fresh.rename(directory / FILES)
    return renamed
