"""One process holds a directory; the others are told who."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import InUse
from storage.lock import DirectoryLock

ROOT = Path(__file__).parents[2]
HOLD = "import sys; from pathlib import Path; from storage.lock import DirectoryLock\n"
HOLD += "sys.argv = ['/usr/bin/dmq', 'node', 'start', '--token', 'secret']\n"
HOLD += "lock = DirectoryLock(Path({!r})); print('held', flush=True); sys.stdin.read()"


def test_another_process_is_named_until_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD.format(str(tmp_path))]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InUse) as refused:
            DirectoryLock(tmp_path)
        assert (refused.value.pid, refused.value.command) == (other.pid, "dmq node start")
        assert "secret" not in (tmp_path / DirectoryLock.NAME).read_text()
        other.kill()
    lock = DirectoryLock(tmp_path)
    assert (tmp_path / DirectoryLock.NAME).read_text().startswith(f"{os.getpid()}\n")
    lock.release()


def test_two_of_one_process_are_kept_apart_too(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(InUse, match=f"in use by process {os.getpid()}"):
        DirectoryLock(tmp_path)
    lock.release()
    lock.release()
    DirectoryLock(tmp_path).release()


def test_a_holder_that_does_not_say_who_it_is(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    (tmp_path / DirectoryLock.NAME).write_bytes(b"\xff\xfe not a number")
    with pytest.raises(InUse, match="by another process"):
        DirectoryLock(tmp_path)
    lock.release()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DirectoryLock(tmp_path / "absent")
