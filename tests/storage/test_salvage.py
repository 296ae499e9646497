"""What can be read of a damaged database is copied, once, whatever interrupts it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import plyvel
import pytest

from storage import salvage
from storage.errors import StoreFailed
from storage.leveldb import LevelStore
from storage.opening import OPTIONS
from storage.ops import WriteBatch
from tests.storage.damage import fill, pages
from tests.storage.test_inspection import log_of
from tests.storage.writing import put

ROWS = {b"k%d" % number: bytes(number) for number in range(300)}


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """The directory of a store that is to be copied."""
    store = LevelStore.open(tmp_path)
    put(store, ROWS)
    store.close()
    salvage.mark(tmp_path / "store", "a block is bad")
    return tmp_path


def assert_copied(directory: Path) -> None:
    store = LevelStore.open(directory)
    assert dict(pages(store)[0]) == ROWS
    store.close()
    assert salvage.reason(directory / "store") is None
    assert not (directory / "store.salvaging").exists()
    assert len(list(directory.glob("store.damaged-*"))) == 1


def test_a_marked_database_is_copied_and_kept(marked: Path) -> None:
    assert salvage.reason(marked / "store") == "a block is bad"
    store = LevelStore.open(marked)
    assert "a block is bad" in store.notices[0]
    (kept,) = marked.glob("store.damaged-*")
    assert str(kept) in store.notices[0]
    assert store.renamed_aside is None
    store.close()
    assert_copied(marked)


def test_a_copy_that_was_interrupted_is_begun_anew(marked: Path) -> None:
    (marked / "store.salvaging").mkdir()
    (marked / "store.salvaging" / "CURRENT").write_text("half")
    assert_copied(marked)


def test_a_copy_that_was_whole_is_taken(marked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(salvage, "finish", lambda _: None)
        salvage.copy(marked / "store", OPTIONS, {})
    assert not (marked / "store").exists()
    assert_copied(marked)


def test_nothing_is_marked_by_itself(tmp_path: Path) -> None:
    LevelStore.open(tmp_path).close()
    assert salvage.reason(tmp_path / "store") is None


def test_what_takes_no_write_from_the_start_is_copied_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, writes=100)
    log = log_of(tmp_path)
    raw = bytearray(log.read_bytes())
    raw[40_000] ^= 4
    log.write_bytes(raw)
    write = LevelStore._write
    refusals = [plyvel.CorruptionError(b"Corruption: block checksum mismatch")]

    def written(self: LevelStore, batch: WriteBatch, sync: bool) -> None:
        if refusals:
            raise refusals.pop()
        write(self, batch, sync)

    monkeypatch.setattr(LevelStore, "_write", written)
    store = LevelStore.open(tmp_path)
    assert not refusals
    assert "block checksum mismatch" in store.notices[0]
    assert len(pages(store)[0]) > 50
    store.close()
    assert salvage.reason(tmp_path / "store") is None


def test_a_copy_for_which_there_is_no_room_is_tried_once(
    marked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(files: Path, options: dict[str, Any], without: dict[bytes, bytes]) -> Path:
        tried.append(files)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(salvage, "copy", refuse)
        with pytest.raises(StoreFailed):
            LevelStore.open(marked)
    assert len(tried) == 1
    assert_copied(marked)
