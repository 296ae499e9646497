"""One flipped bit in a table of LevelDB: what is missing is named, and nothing wrong comes up."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from storage import opening
from storage.errors import StoreFailed
from storage.leveldb import LevelStore
from storage.store import Damaged
from tests.storage.damage import SMALL, check_honest, fill, flip_a_bit, names, pages
from tests.storage.writing import put


def tables(directory: Path) -> list[Path]:
    """Return the tables of a store; one that LevelDB had only begun when it was closed is empty."""
    return sorted(path for path in directory.glob("store/*.ldb") if path.stat().st_size)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """A closed store of several tables, and what is in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "OPTIONS", {**opening.OPTIONS, **SMALL})
        for _ in range(20):
            directory = tmp_path_factory.mktemp("filled")
            wanted = fill(directory)
            # How many there are depends on how far LevelDB came with merging them.
            if len(tables(directory)) >= 4:
                return directory, wanted
    raise AssertionError("LevelDB always merged all tables into fewer than four")


@pytest.fixture(autouse=True)
def _small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPTIONS", {**opening.OPTIONS, **SMALL})


def test_a_flipped_bit_is_never_a_crash_nor_a_wrong_value_nor_silent(
    filled: tuple[Path, dict[bytes, bytes]], tmp_path: Path, seeds: range
) -> None:
    source, wanted = filled
    named = salvaged = 0
    for seed in seeds:
        rng = random.Random(seed)
        directory = tmp_path / str(seed)
        shutil.copytree(source, directory)
        flip_a_bit(rng.choice(tables(directory)), rng)
        store = LevelStore.open(directory)
        assert store.renamed_aside is None
        check_honest(store, wanted)
        _, damaged = pages(store)
        named += bool(damaged)
        if not mended(store, damaged):
            store.close()
            store = LevelStore.open(directory)
            assert "what could be read of it was copied" in store.notices[0]
            salvaged += 1
        check_honest(store, wanted)
        store.compact(b"a", b"z")
        store.close()
        shutil.rmtree(directory)
    assert named > len(seeds) // 2
    assert salvaged


def mended(store: LevelStore, damaged: list[Damaged]) -> bool:
    """Set all aside and rewrite all tables; return whether LevelDB did, or will have no more writes."""
    try:
        for found in damaged:
            store.set_aside(found)
        store.compact(b"a", b"z")
        put(store, {b"0": b"written"})
    except StoreFailed:
        return False
    return True


def test_most_of_a_damaged_table_is_still_read(
    filled: tuple[Path, dict[bytes, bytes]], tmp_path: Path
) -> None:
    source, wanted = filled
    found = 0
    for table in tables(source):
        copy = tmp_path / table.stem
        shutil.copytree(source, copy)
        raw = bytearray(table.read_bytes())
        raw[len(raw) // 3] ^= 1
        (copy / "store" / table.name).write_bytes(raw)
        store = LevelStore.open(copy)
        rows, damaged = pages(store)
        missing = wanted.keys() - dict(rows).keys()
        # A table that LevelDB had merged into others and not yet removed holds nothing.
        found += bool(damaged)
        assert all(names(damaged, key) for key in missing)
        assert len(missing) < 60, "one block holds about 20 rows"
        store.close()
    assert found
