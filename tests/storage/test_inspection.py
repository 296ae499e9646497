"""Logs and lists of files that LevelDB would pass over in silence."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from storage import opening
from storage.errors import StoreFailed
from storage.inspection import Damage, prepare, rename_aside
from storage.leveldb import LevelStore
from storage.logfile import State, inspect
from tests.storage.damage import SMALL, fill, flip_a_bit, noted, pages
from tests.storage.writing import put

FILES = "store"


def log_of(directory: Path) -> Path:
    (log,) = (directory / FILES).glob("*.log")
    return log


def manifest_of(directory: Path) -> Path:
    return directory / FILES / (directory / FILES / "CURRENT").read_text().strip()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of a closed store whose rows, one per write, are all in its log."""
    store = LevelStore.open(tmp_path)
    for number in range(100):
        put(store, {b"k%03d" % number: bytes(3000)}, sync=False)
    store.close()
    return tmp_path


def test_a_whole_store_is_passed(directory: Path) -> None:
    prepared = prepare(directory / FILES)
    assert (prepared.notices, prepared.damaged) == ([], [])


def test_a_damaged_log_is_kept_said_and_the_rest_of_it_taken_in(directory: Path) -> None:
    log = log_of(directory)
    raw = bytearray(log.read_bytes())
    raw[100_000] ^= 4
    log.write_bytes(raw)
    store = LevelStore.open(directory)
    rows, _ = pages(store)
    assert 85 <= len(rows) < 100
    assert rows[-1].key == b"k099"
    assert len(store.notices) == 1
    (kept,) = directory.glob("store.damaged-*.log-*")
    assert str(kept) in store.notices[0]
    assert kept.read_bytes() == bytes(raw)
    assert [found.why for found in noted(store)] == [
        f"the log {log.name} is damaged at byte {inspect(bytes(raw)).at} of {len(raw)}"
    ]
    assert store.renamed_aside is None
    store.close()
    again = LevelStore.open(directory)
    assert again.notices == []
    assert pages(again)[0] == rows
    again.close()


def test_a_flipped_bit_in_a_log_is_never_silent(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        directory = tmp_path / str(seed)
        directory.mkdir()
        wanted = fill(directory, writes=20)
        flip_a_bit(log_of(directory), random.Random(seed))
        store = LevelStore.open(directory)
        assert dict(pages(store)[0]) == wanted or store.notices
        assert store.statistics().set_aside == len(store.notices)
        store.close()


def test_on_a_full_disk_a_damaged_log_stays_as_it_is(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(directory)
    flip_a_bit(log, random.Random(1))
    raw = log.read_bytes()

    def refuse(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", refuse)
        with pytest.raises(StoreFailed) as refused:
            LevelStore.open(directory)
    assert refused.value.disk_full
    assert log.read_bytes() == raw
    assert not [*directory.glob("store.*"), *(directory / FILES).glob("*.new")]
    store = LevelStore.open(directory)
    assert store.notices
    store.close()


def test_a_torn_log_is_no_damage(directory: Path) -> None:
    log = log_of(directory)
    log.write_bytes(log.read_bytes()[:-1000])
    store = LevelStore.open(directory)
    assert store.notices == []
    assert len(pages(store)[0]) == 99
    store.close()


def test_a_torn_list_of_files_costs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPTIONS", {**opening.OPTIONS, **SMALL})
    fill(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / FILES).glob("*.ldb")}
    manifest = manifest_of(tmp_path)
    manifest.write_bytes(manifest.read_bytes()[:-20])
    assert inspect(manifest.read_bytes()).state is State.TORN
    store = LevelStore.open(tmp_path)
    assert any("was cut short" in notice for notice in store.notices) or store.renamed_aside
    store.close()
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("store.*/*.ldb")}
    assert before.items() <= kept.items()


def test_a_damaged_list_of_files_is_not_opened(directory: Path) -> None:
    manifest = manifest_of(directory)
    raw = bytearray(manifest.read_bytes())
    raw[10] ^= 1
    manifest.write_bytes(raw)
    with pytest.raises(Damage, match=r"MANIFEST-\d+ is damaged at byte 0"):
        prepare(directory / FILES)


@pytest.mark.parametrize("said", [b"", b"MANIFEST-", b"../../etc/passwd\n", b"\x00\xff\n"])
def test_a_garbled_current_is_not_followed(directory: Path, said: bytes) -> None:
    (directory / FILES / "CURRENT").write_bytes(said)
    with pytest.raises(Damage, match="CURRENT says"):
        prepare(directory / FILES)


def test_names_are_never_used_twice(tmp_path: Path) -> None:
    taken = set()
    for _ in range(5):
        (tmp_path / "store").mkdir()
        taken.add(rename_aside(tmp_path / "store", "damaged").name)
    assert len(taken) == 5
    assert all(name.startswith("store.damaged-2") for name in taken)
