"""A store that does not open is renamed aside; a newer one is refused; the unwilling system is no damage."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import plyvel
import pytest

from storage import opening
from storage.errors import NewerFormat, StoreFailed
from storage.keys import u16
from storage.leveldb import FORMAT, LevelStore
from storage.opening import FORMAT_KEY, failure
from storage.records import seal
from tests.storage.damage import SMALL, fill, noted
from tests.storage.writing import put

ROOT = os.geteuid() == 0


def manifest(files: Path) -> Path:
    (found,) = files.glob("MANIFEST-*")
    return found


def without(pattern: str) -> Callable[[Path], None]:
    def remove(files: Path) -> None:
        for path in files.glob(pattern):
            path.unlink()

    return remove


def cut(pattern: str) -> Callable[[Path], None]:
    def shorten(files: Path) -> None:
        for path in files.glob(pattern):
            os.truncate(path, path.stat().st_size // 2)

    return shorten


def flipped(pattern: str, at: int) -> Callable[[Path], None]:
    def flip(files: Path) -> None:
        for path in files.glob(pattern):
            raw = bytearray(path.read_bytes())
            raw[at] ^= 4
            path.write_bytes(raw)

    return flip


def both(*ruins: Callable[[Path], None]) -> Callable[[Path], None]:
    def one_after_the_other(files: Path) -> None:
        for ruin in ruins:
            ruin(files)

    return one_after_the_other


RUINS: dict[str, Callable[[Path], None]] = {
    "no CURRENT": without("CURRENT"),
    "no MANIFEST": without("MANIFEST-*"),
    "no tables": without("*.ldb"),
    "tables cut short": cut("*.ldb"),
    "empty CURRENT": lambda files: (files / "CURRENT").write_bytes(b"") and None,
    "CURRENT of zeros": lambda files: (files / "CURRENT").write_bytes(bytes(16)) and None,
    "CURRENT names nothing": lambda files: (files / "CURRENT").write_bytes(b"MANIFEST-999999\n") and None,
    "empty MANIFEST": lambda files: manifest(files).write_bytes(b"") and None,
    "MANIFEST of zeros": lambda files: manifest(files).write_bytes(bytes(300)) and None,
    "garbled MANIFEST": lambda files: manifest(files).write_bytes(os.urandom(300)) and None,
    "no MANIFEST, and a damaged log": both(flipped("*.log", 10), without("MANIFEST-*")),
    "no tables, and a damaged log": both(flipped("*.log", 10), without("*.ldb")),
}


@pytest.mark.parametrize("ruin", RUINS)
def test_what_does_not_open_is_renamed_explained_and_kept(tmp_path: Path, ruin: str) -> None:
    store = LevelStore.open(tmp_path)
    put(store, {b"a": b"1"})
    store.compact(b"", b"\xff")
    put(store, {b"b": b"2"})
    store.close()
    RUINS[ruin](tmp_path / "store")
    ruined = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}

    store = LevelStore.open(tmp_path)
    assert store.renamed_aside is not None
    assert store.renamed_aside.parent == tmp_path
    assert store.renamed_aside.name.startswith("store.damaged-2")
    assert str(store.renamed_aside) in store.notices[-1]
    kept = {path.name: path.read_bytes() for path in store.renamed_aside.iterdir()}
    beside = [path.read_bytes() for path in tmp_path.glob("store.damaged-*.log-*")]
    wanted = {name: raw for name, raw in ruined.items() if name not in ("LOG", "LOG.old", "LOCK")}
    assert all(kept[name] == raw or raw in beside for name, raw in wanted.items())
    assert store.get(b"a") is None
    put(store, {b"a": b"new"})
    store.close()
    again = LevelStore.open(tmp_path)
    assert again.renamed_aside is None
    assert again.get(b"a") == b"new"
    again.close()


def ruin_one(path: Path, others: list[Path], rng: random.Random) -> None:
    """Do one thing to a file: remove it, cut it short, put another in its place, or change some of it."""
    raw = bytearray(path.read_bytes())
    match rng.choice(("remove", "cut", "empty", "another", "zeros", "flip")):
        case "remove":
            path.unlink()
        case "cut":
            path.write_bytes(raw[: rng.randrange(len(raw) + 1)])
        case "empty":
            path.write_bytes(b"")
        case "another":
            path.write_bytes(rng.choice(others).read_bytes())
        case "zeros":
            at = rng.randrange(len(raw) + 1)
            raw[at : at + 4096] = bytes(len(raw[at : at + 4096]))
            path.write_bytes(raw)
        case "flip":
            for _ in range(rng.choice((1, len(raw) // 1000)) if raw else 0):
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            path.write_bytes(raw)


def test_whatever_was_done_to_its_files_a_store_opens_and_takes_writes(
    tmp_path: Path, seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OPTIONS", {**opening.OPTIONS, **SMALL})
    whole = tmp_path / "whole"
    whole.mkdir()
    fill(whole)
    for seed in seeds:
        rng = random.Random(seed)
        directory = tmp_path / str(seed)
        shutil.copytree(whole, directory)
        files = sorted((directory / "store").iterdir())
        for path in rng.choices(files, k=rng.randint(1, 4)):
            if path.exists():
                ruin_one(path, [other for other in files if other.exists()], rng)
        refused = 0
        for name in (b"one", b"two", b"three"):
            store = LevelStore.open(directory)
            try:
                put(store, {name: b"new"})
                assert store.get(name) == b"new"
            except StoreFailed:
                refused += 1  # a compaction has met something damaged: all is copied at the next start
            store.close()
        assert refused <= 1
        shutil.rmtree(directory)


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = LevelStore.open(tmp_path)
    put(store, {b"a": b"1"})
    store._db.put(FORMAT_KEY, seal(FORMAT_KEY, u16(FORMAT + 1)), sync=True)
    store.close()
    for _ in range(2):
        with pytest.raises(NewerFormat, match=f"has format {FORMAT + 1} and this version knows") as refused:
            LevelStore.open(tmp_path)
        assert (refused.value.found, refused.value.known) == (FORMAT + 1, FORMAT)
    assert [path.name for path in tmp_path.glob("store*")] == ["store"]


def test_a_damaged_format_number_costs_no_message(tmp_path: Path) -> None:
    store = LevelStore.open(tmp_path)
    put(store, {b"a": b"1"})
    store._db.put(FORMAT_KEY, b"\x00bad record")
    store.close()
    store = LevelStore.open(tmp_path)
    assert (store.get(b"a"), store.renamed_aside) == (b"1", None)
    assert [found.key for found in noted(store)] == [FORMAT_KEY]
    store.close()
    again = LevelStore.open(tmp_path)
    assert again.statistics().set_aside == 1
    assert again.get(FORMAT_KEY) == u16(FORMAT)
    again.close()


def test_where_the_format_number_can_be_written_no_more_all_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LevelStore.open(tmp_path)
    put(store, {b"a": b"1"})
    store.close()
    db = plyvel.DB(str(tmp_path / "store"))
    db.put(FORMAT_KEY, b"garbage")
    db.close()

    def refuse(db: plyvel.DB, known: int) -> None:
        raise plyvel.CorruptionError(b"Corruption: block checksum mismatch")

    with monkeypatch.context() as patch:
        patch.setattr(opening, "_write_number", refuse)
        store = LevelStore.open(tmp_path)
    assert store.get(b"a") == b"1"
    assert store.renamed_aside is None
    assert store.incomplete
    assert "block checksum mismatch" in store.notices[-1]
    assert FORMAT_KEY in [damaged.key for damaged in noted(store)]
    store.close()
    again = LevelStore.open(tmp_path)
    assert again.notices == []
    assert again.get(b"a") == b"1"
    again.close()


def test_the_database_of_another_program_is_renamed_aside(tmp_path: Path) -> None:
    db = plyvel.DB(os.fspath(tmp_path / "store"), create_if_missing=True)
    db.put(b"theirs", b"1")
    db.close()
    store = LevelStore.open(tmp_path)
    assert store.renamed_aside is not None
    assert "no format number" in store.notices[0]
    store.close()
    db = plyvel.DB(os.fspath(store.renamed_aside))
    assert db.get(b"theirs") == b"1"
    db.close()


def test_a_start_that_was_cut_short_is_no_damage(tmp_path: Path) -> None:
    LevelStore.open(tmp_path).close()
    files = tmp_path / "store"
    for path in [files / "CURRENT", *files.glob("*.log"), *files.glob("*.ldb")]:
        path.unlink()
    store = LevelStore.open(tmp_path)
    assert store.renamed_aside is None
    put(store, {b"a": b"1"})
    store.close()


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_files_that_may_not_be_read_are_no_damage(tmp_path: Path) -> None:
    LevelStore.open(tmp_path).close()
    (tmp_path / "store").chmod(0)
    try:
        with pytest.raises(StoreFailed, match="Permission denied"):
            LevelStore.open(tmp_path)
    finally:
        (tmp_path / "store").chmod(0o755)


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match=r"failed to open: .*No such file or directory"):
        LevelStore.open(tmp_path / "absent")


def test_which_errors_mean_that_the_disk_is_full() -> None:
    here = Path("/x")
    assert failure(here, "write", OSError(errno.ENOSPC, "no")).disk_full
    assert failure(here, "write", OSError(errno.EDQUOT, "no")).disk_full
    assert failure(
        here, "write", plyvel.IOError(b"IO error: /x/000012.ldb: No space left on device")
    ).disk_full
    assert not failure(here, "write", plyvel.IOError(b"IO error: Input/output error")).disk_full
    assert failure(here, "read", plyvel.CorruptionError(b"Corruption: bad")).why == "Corruption: bad"
