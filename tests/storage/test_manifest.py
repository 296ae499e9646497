"""Which tables there must be, as LevelDB's own MANIFEST says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crc32c import crc32c

from storage import opening
from storage.leveldb import LevelStore
from storage.logfile import _mask
from storage.manifest import tables
from tests.storage.damage import SMALL, fill, pages


def manifest_of(files: Path) -> bytes:
    return (files / (files / "CURRENT").read_text().strip()).read_bytes()


def test_tables_are_those_that_are_there_with_their_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OPTIONS", {**opening.OPTIONS, **SMALL})
    fill(tmp_path)
    files = tmp_path / "store"
    found = tables(manifest_of(files))
    assert found
    # What a compaction has replaced may still be there.
    there = {int(path.stem): path.stat().st_size for path in files.glob("*.ldb")}
    assert found.items() <= there.items()


def test_any_table_that_was_cut_short_is_found_when_the_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OPTIONS", {**opening.OPTIONS, **SMALL})
    rng = random.Random(2)
    fill(tmp_path)
    table = tmp_path / "store" / f"{rng.choice(sorted(tables(manifest_of(tmp_path / 'store')))):06}.ldb"
    with table.open("r+b") as file:
        file.truncate(rng.randrange(table.stat().st_size))
    store = LevelStore.open(tmp_path)
    assert store.renamed_aside is not None
    assert table.name in store.notices[0]
    assert pages(store)[0] == []
    store.close()


@pytest.mark.parametrize("edit", [b"\x63", b"\x07\x80"])
def test_what_is_not_known_is_refused(edit: bytes) -> None:
    record = len(edit).to_bytes(2, "little") + b"\x01" + edit
    raw = _mask(crc32c(record[2:])).to_bytes(4, "little") + record
    with pytest.raises(ValueError, match="MANIFEST"):
        tables(raw)
