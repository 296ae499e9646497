"""Both stores, each with a way to open it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.leveldb import LevelStore
from storage.memory import MemoryStore
from storage.store import Store

Reopen = Callable[[Store], Store]


def reopen(store: Store) -> Store:
    """End the process, as far as the store is concerned, and begin another one."""
    if isinstance(store, MemoryStore):
        return store.reopen()
    assert isinstance(store, LevelStore)
    store.close()
    return LevelStore.open(store.directory)


@pytest.fixture(params=["level", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new store of either kind; closed at the end."""
    store: Store = LevelStore.open(tmp_path) if request.param == "level" else MemoryStore()
    yield store
    store.close()
