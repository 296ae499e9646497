"""What is left after a power cut: what was synced, and nothing that is needed less."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.shim import Machine, built, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")
WRITES = """
import os, sys
directory = sys.argv[1]
def put(name, text, sync):
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, text)
    if sync:
        os.fdatasync(fd)
    os.close(fd)
put("synced", b"kept", True)
put("current.new", b"2", True)
os.rename(f"{directory}/current.new", f"{directory}/current")
os.unlink(f"{directory}/old")
put("half", b"kept", True)
put("half", b" and not", False)
put("never", b"not", False)
"""


def machine(tmp_path: Path) -> tuple[Machine, Path]:
    library = built()
    assert library is not None
    data = tmp_path / "data"
    data.mkdir()
    return Machine(tmp_path / "machine", library), data


def run(machine: Machine, data: Path, code: str) -> str:
    command = [sys.executable, "-c", code, str(data.resolve())]
    done = subprocess.run(
        command, env=machine.environment(data), capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr


def test_what_was_not_synced_is_lost_in_a_power_cut(tmp_path: Path) -> None:
    shimmed, data = machine(tmp_path)
    halves = set()
    for seed in range(12):
        for path in data.iterdir():
            path.unlink()
        (data / "old").write_bytes(b"old")
        (data / "current").write_bytes(b"1")
        shimmed.forget()
        assert run(shimmed, data, WRITES) == ""
        shimmed.cut_power(random.Random(seed))
        assert (data / "synced").read_bytes() == b"kept"
        assert (data / "current").read_bytes() == b"2", "renamed before the last sync"
        assert not (data / "old").exists()
        half = (data / "half").read_bytes()
        assert half.startswith(b"kept")
        halves.add(half)
        assert not (data / "never").exists() or len((data / "never").read_bytes()) <= 3
    assert b"kept" in halves
    assert len(halves) > 1, "sometimes a part is there"


def test_names_after_the_last_sync_may_not_be_there(tmp_path: Path) -> None:
    shimmed, data = machine(tmp_path)
    seen = set()
    for seed in range(20):
        for path in data.iterdir():
            path.unlink()
        (data / "a").write_bytes(b"1")
        shimmed.forget()
        assert run(shimmed, data, "import os, sys; os.unlink(sys.argv[1] + '/a')") == ""
        shimmed.cut_power(random.Random(seed))
        seen.add((data / "a").exists())
        assert not (data / "a").exists() or (data / "a").read_bytes() == b"1"
    assert seen == {True, False}


def test_a_directory_that_is_renamed_takes_along_what_of_it_was_synced(tmp_path: Path) -> None:
    shimmed, data = machine(tmp_path)
    code = """
import os, sys
data = sys.argv[1]
def put(name, sync):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"kept")
    if sync:
        os.fdatasync(fd)
    os.close(fd)
os.mkdir(data + "/new")
put(data + "/new/synced", True)
put(data + "/new/not", False)
os.rename(data + "/new", data + "/there")
put(data + "/last", True)
"""
    left = set()
    for seed in range(20):
        shutil.rmtree(data)
        data.mkdir()
        shimmed.forget()
        assert run(shimmed, data, code) == ""
        shimmed.cut_power(random.Random(seed))
        assert (data / "there" / "synced").read_bytes() == b"kept"
        left.add((data / "there" / "not").stat().st_size)
    assert 0 in left


def test_what_is_removed_with_its_directory_may_be_there_again(tmp_path: Path) -> None:
    shimmed, data = machine(tmp_path)
    seen = set()
    for seed in range(20):
        shutil.rmtree(data)
        (data / "old").mkdir(parents=True)
        (data / "old" / "a").write_bytes(b"1")
        shimmed.forget()
        assert run(shimmed, data, "import shutil, sys; shutil.rmtree(sys.argv[1] + '/old')") == ""
        shimmed.cut_power(random.Random(seed))
        seen.add((data / "old" / "a").exists())
    assert seen == {True, False}


def test_clocks_disks_and_room_are_as_they_are_set(tmp_path: Path) -> None:
    shimmed, data = machine(tmp_path)
    shimmed.set_clock(-3600)
    now = float(run(shimmed, data, "import time; print(time.time())"))
    assert abs(now - (time.time() - 3600)) < 20
    write = "import os, sys; f = open(sys.argv[1] + '/f', 'wb'); f.write(bytes(1000)); f.flush(); "
    shimmed.room(500)
    assert "No space left" in run(shimmed, data, write)
    free = int(run(shimmed, data, "import shutil, sys; print(shutil.disk_usage(sys.argv[1]).free)"))
    assert free < 4096
    shimmed.room(None)
    shimmed.fail_syncs(True)
    assert "Input/output error" in run(shimmed, data, write + "os.fsync(f.fileno())")
    shimmed.fail_syncs(False)
    assert run(shimmed, data, write + "os.fsync(f.fileno())") == ""


def test_a_slow_disk_is_slow_to_write_and_to_sync(tmp_path: Path) -> None:
    shimmed, data = machine(tmp_path)
    took = (
        "import os, sys, time; f = os.open(sys.argv[1] + '/f', os.O_WRONLY | os.O_CREAT)\n"
        "a = time.monotonic(); os.write(f, b'x'); b = time.monotonic(); os.fsync(f)\n"
        "print(b - a, time.monotonic() - b)"
    )
    shimmed.slow_disk(0.3)
    assert all(float(seconds) >= 0.3 for seconds in run(shimmed, data, took).split())
