"""Records that turn bad on the disk of a node that is down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storage.leveldb import LevelStore


def spoil(data: Path, bad: Callable[[bytes, bytes], bool]) -> int:
    """Make records of partitions bad; return how many.

    Arguments:
        data: directory of the node.
        bad: which, by the partition's id and the rest of the key; the list of members is left alone.
    """
    store = LevelStore.open(data)
    keys = [row.key for row in store.scan(b"p", b"q", limit=1 << 30, max_bytes=1 << 40).rows]
    # The id of that list is nothing but zeros.
    found = [key for key in keys if key[1:9] != bytes(8) and bad(key[1:11], key[11:])]
    for key in found:
        store._db.put(key, b"bad!" + b"garbage", sync=True)
    store.close()
    return len(found)
