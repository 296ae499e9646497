"""Shorthand for what tests write."""

from __future__ import annotations

from storage.ops import WriteBatch
from storage.store import Store


def batch(puts: dict[bytes, bytes] | None = None, *deletes: bytes) -> WriteBatch:
    """Return a batch that puts and deletes."""
    made = WriteBatch()
    for key, value in (puts or {}).items():
        made.put(key, value)
    for key in deletes:
        made.delete(key)
    return made


def put(store: Store, puts: dict[bytes, bytes], *, sync: bool = True) -> None:
    """Write `puts`."""
    store.write(batch(puts), sync=sync)
