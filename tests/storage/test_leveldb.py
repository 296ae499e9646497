"""What only the store on disk can show: a killed writer, real errors, golden files."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import plyvel
import pytest

from storage import leveldb, opening
from storage.errors import Corrupt, InUse, StoreFailed
from storage.keys import u64
from storage.leveldb import FORMAT, LevelStore
from storage.store import Damaged
from tests.storage.damage import SMALL, noted, pages
from tests.storage.writing import batch, put

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
WRITER = """
import sys
from pathlib import Path
from storage.keys import u64
from storage.leveldb import LevelStore
from storage.ops import WriteBatch
store = LevelStore.open(Path(sys.argv[1]))
number = len(store.scan(b"a", b"b", limit=1_000_000).rows)
while True:
    batch = WriteBatch()
    batch.put(b"a" + u64(number), bytes(3000))
    batch.put(b"b" + u64(number), bytes(10))
    batch.put(b"last", u64(number))
    store.write(batch, sync=True)
    print(number, flush=True)
    number += 1
"""


def test_what_was_answered_before_kill_9_is_there_in_whole_batches(tmp_path: Path) -> None:
    answered = -1
    for enough in (30, 90, 150):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=-1, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            while answered < enough:
                answered = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().splitlines()
        # The last line may be cut off.
        answered = max([answered, *map(int, rest[:-1])])
        store = LevelStore.open(tmp_path)
        assert (store.renamed_aside, store.notices) == (None, [])
        last = store.get(b"last")
        assert last is not None
        count = int.from_bytes(last, "big") + 1
        assert count > answered
        for prefix, end in ((b"a", b"b"), (b"b", b"c")):
            rows, damaged = pages(store, prefix, end)
            assert [row.key for row in rows] == [prefix + u64(number) for number in range(count)]
            assert not damaged
        store.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = LevelStore.open(tmp_path)
    with pytest.raises(InUse, match=f"in use by process {os.getpid()} "):
        LevelStore.open(tmp_path)
    put(store, {b"a": b"1"})
    store.close()
    LevelStore.open(tmp_path).close()


def test_a_store_that_is_refused_lets_go_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the directory should be")
    for _ in range(2):
        with pytest.raises(StoreFailed):
            LevelStore.open(tmp_path)
        (tmp_path / "store").unlink()
        (tmp_path / "store").write_text("again")
    (tmp_path / "store").unlink()
    LevelStore.open(tmp_path).close()


def test_the_first_error_of_the_disk_is_the_last_answer(tmp_path: Path) -> None:
    """A limit on the size of files makes the system refuse a write, as a full disk does."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from storage.errors import StoreFailed
from storage.leveldb import LevelStore
from storage.ops import WriteBatch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LevelStore.open(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
written = 0
for number in range(1000):
    batch = WriteBatch()
    batch.put(b"k%03d" % number, bytes(5000))
    try:
        store.write(batch, sync=True)
    except StoreFailed as failed:
        print(written, failed.why, sep="|")
        break
    written += 1
for call in (lambda: store.get(b"k000"), lambda: store.write(batch, sync=False)):
    try:
        call()
    except StoreFailed as failed:
        print(failed.why)
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=30, check=True
    )
    first, *later = done.stdout.splitlines()
    written, _, why = first.partition("|")
    assert 20 < int(written) < 100
    assert "File too large" in why
    assert later == [why, why]
    store = LevelStore.open(tmp_path)
    assert store.renamed_aside is None
    assert len(pages(store)[0]) >= int(written)
    store.close()


def test_a_full_disk_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LevelStore.open(tmp_path)

    def refuse(*_: object) -> None:
        raise plyvel.IOError(b"IO error: 000003.log: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write", refuse)
        with pytest.raises(StoreFailed, match="make room on the disk") as failed:
            put(store, {b"a": b"1"})
    assert failed.value.disk_full
    with pytest.raises(StoreFailed) as again:
        store.get(b"a")
    assert again.value.disk_full
    store.close()


def test_notes_of_gaps_have_a_bound_and_records_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leveldb, "GAPS_LIMIT", 3)
    store = LevelStore.open(tmp_path)
    for number in range(6):
        store.set_aside(Damaged(b"g%d" % number, b"", "a block", upto=b"h"))
    assert store.statistics().set_aside == 3
    store._db.put(b"k", b"not a record")
    with pytest.raises(Corrupt):
        store.get(b"k")
    store.set_aside(store.scan(b"k", b"l", limit=1).damaged[0])
    assert store.statistics().set_aside == 4
    assert (len(noted(store)), store.get(b"k")) == (4, None)
    store.close()


def test_closing_ends_a_long_compaction_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LevelStore.open(tmp_path)
    done: list[bytes] = []
    cut = [(bytes((n,)), bytes((n + 1,))) for n in range(65, 85)]
    monkeypatch.setattr(leveldb, "pieces", lambda *_: iter(cut))

    def span(low: bytes, _: bytes) -> None:
        done.append(low)
        if len(done) == 3:
            store.end_compactions()

    monkeypatch.setattr(store, "_span", span)
    store.compact(b"A", b"Z")
    assert len(done) == 3
    store.close()


def test_disk_use_stays_bounded_while_much_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPTIONS", {**opening.OPTIONS, **SMALL})
    store = LevelStore.open(tmp_path)
    put(store, {b"p" + u64(0): b"stuck for ever"})
    for number in range(1, 1500):
        puts = {b"p" + u64(number): os.urandom(5000), b"s": u64(number)}
        store.write(batch(puts, b"p" + u64(number - 2) if number > 2 else b"x"), sync=False)
        if number % 300 == 0:
            store.compact(b"p", b"q")
            assert store.statistics().bytes_on_disk < 600_000
    assert len(pages(store, b"p", b"q")[0]) == 3
    store.close()


def test_memory_does_not_grow_with_what_is_stored(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from storage.keys import u64
from storage.leveldb import LevelStore
from storage.ops import WriteBatch
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
store = LevelStore.open(Path({str(tmp_path)!r}))
before, body = anonymous(), os.urandom(1 << 18)
for number in range(600):
    batch = WriteBatch()
    batch.put(b"p" + u64(number), body)
    store.write(batch, sync=False)
position, more = b"p", True
while more:
    page = store.scan(position, b"q", limit=4)
    position, more = max([position, *(row.key for row in page.rows)]) + b"\\0", page.more
print(anonymous() - before)
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert int(done.stdout) < 60_000, "KiB for 150 MiB"


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_stores_of_every_format_stay_readable(tmp_path: Path, number: int) -> None:
    golden = GOLDEN / f"format-{number}"
    wanted = json.loads((golden / "rows.json").read_text())
    shutil.copytree(golden / "files", tmp_path / "store")
    # Version control and packaging pass over *.log.
    for log in (tmp_path / "store").glob("*.kept"):
        log.rename(log.with_suffix(""))
    store = LevelStore.open(tmp_path)
    assert (store.renamed_aside, store.notices) == (None, [])
    rows, damaged = pages(store, b"\x01", b"\xff")
    assert {row.key.hex(): row.value.hex() for row in rows} == wanted["rows"]
    assert not damaged
    assert [[d.key.hex(), d.raw.hex(), d.why] for d in noted(store)] == wanted["set aside"]
    assert {row.key.hex(): (store._db.get(row.key) or b"").hex() for row in rows} == wanted["records"]
    store.close()


def test_the_limit_on_open_files_suffices() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > opening.OPTIONS["max_open_files"] or soft == resource.RLIM_INFINITY


def test_where_no_file_can_be_opened_the_size_stays_the_last_that_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LevelStore.open(tmp_path)
    seen = store.statistics().bytes_on_disk
    assert seen > 0

    def refuses(number: int) -> Callable[[Path], None]:
        def scandir(path: Path) -> None:
            raise OSError(number, os.strerror(number), os.fspath(path))

        return scandir

    monkeypatch.setattr(os, "scandir", refuses(errno.EMFILE))
    assert store.statistics().bytes_on_disk == seen
    monkeypatch.setattr(os, "scandir", refuses(errno.EIO))
    with pytest.raises(StoreFailed, match="Input/output error"):
        store.statistics()
    monkeypatch.undo()
    store.close()
