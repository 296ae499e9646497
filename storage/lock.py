"""One process per store: a file held with flock, in which the holder says who it is."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from storage.errors import InUse


class DirectoryLock:
    """Holds `directory`/NAME for as long as this process lives, or until `release`.

    The kernel lets go when the process ends, however it ends, so a lock is never stale. The file stays:
    removing it would let two processes hold two files of the same name.
    """

    NAME = "LOCK.dmq"

    def __init__(self, directory: Path) -> None:
        """Take the lock. Errors: InUse if another holds it; OSError."""
        self._file = os.open(directory / self.NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, command = _read_holder(self._file)
            os.close(self._file)
            raise InUse(directory, pid, command) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n{_own_command()}\n".encode(errors="replace"), 0)

    def release(self) -> None:
        """Let go; twice is harmless."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _own_command() -> str:
    """The program and its first words. Not all of them: an argument may be a secret."""
    return " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:3]])


def _read_holder(file: int) -> tuple[int | None, str]:
    lines = os.pread(file, 4096, 0).decode(errors="replace").splitlines()
    if lines and lines[0].isdecimal():
        return int(lines[0]), lines[1] if len(lines) > 1 else ""
    return None, ""
