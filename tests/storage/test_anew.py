"""A store is begun anew with some of its records, and the old one is kept."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from storage.anew import begin_anew
from storage.errors import StoreFailed
from storage.leveldb import LevelStore
from storage.ops import WriteBatch


def test_only_a_range_goes_on_and_the_rest_is_kept(tmp_path: Path) -> None:
    store = LevelStore.open(tmp_path)
    batch = WriteBatch()
    for n in range(2500):
        batch.put(b"h%05d" % n, b"debt %d" % n)
    batch.put(b"g", b"before")
    batch.put(b"i", b"behind")
    store.write(batch, sync=True)
    store._db.put(b"h00007", b"garbage", sync=True)
    store.close()
    (tmp_path / "store.fresh").mkdir()  # of an attempt that did not end
    renamed = begin_anew(tmp_path, b"h", b"i")
    assert renamed.parent == tmp_path
    assert renamed.name.startswith("store.forgotten-")
    store = LevelStore.open(tmp_path)
    rows = store.scan(b"", b"\xf0", limit=5000, max_bytes=1 << 30).rows
    mine = [row for row in rows if row.key[:1] in (b"g", b"h", b"i")]
    assert [row.value for row in mine] == [b"debt %d" % n for n in range(2500) if n != 7]
    assert store.renamed_aside is None
    assert store.notices == []
    store.close()


def test_after_a_crash_between_the_two_renames_the_records_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LevelStore.open(tmp_path)
    batch = WriteBatch()
    batch.put(b"g", b"before")
    batch.put(b"h", b"debt")
    store.write(batch, sync=True)
    store.close()
    rename = Path.rename

    def crash(self: Path, target: Path) -> Path:
        if self.name == "store.fresh":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            begin_anew(tmp_path, b"h", b"i")
    assert not (tmp_path / "store").exists()
    store = LevelStore.open(tmp_path)
    assert (store.get(b"g"), store.get(b"h")) == (None, b"debt")
    store.close()


def test_a_full_disk_is_told_in_a_sentence_and_the_store_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LevelStore.open(tmp_path)
    batch = WriteBatch()
    batch.put(b"h", b"debt")
    store.write(batch, sync=True)
    store.close()

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        with pytest.raises(
            StoreFailed, match=r"failed to begin anew: .*No space left.*; make room on the disk"
        ):
            begin_anew(tmp_path, b"h", b"i")
    store = LevelStore.open(tmp_path)
    assert store.get(b"h") == b"debt"
    store.close()
