"""A small disk of a node's own, which can really be full: a file system in memory (tmpfs)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SIZE = 128 << 20
BLOCK = 4096
BALLAST = "ballast"


class SmallDisk:
    """A file system of a size of its own; needs root.

    Arguments:
        directory: where it is mounted; must be there, and empty.
        size: bytes.
    """

    def __init__(self, directory: Path, size: int = SIZE) -> None:
        self._directory = directory
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "dmq-chaos", str(directory))

    def room(self, size: int | None) -> None:
        """Leave so many bytes free; None: as many as there are."""
        ballast = self._directory / BALLAST
        ballast.unlink(missing_ok=True)
        if size is None:
            return
        taken = shutil.disk_usage(self._directory).free - size
        with ballast.open("wb") as file:
            while taken >= BLOCK:
                try:
                    os.posix_fallocate(file.fileno(), 0, taken - taken % BLOCK)
                    return
                except OSError:
                    taken -= 16 * BLOCK  # somebody has written meanwhile

    def close(self) -> None:
        """Take it away, with all that is on it; processes that used it must have ended."""
        _run("umount", str(self._directory))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@cache
def possible() -> bool:
    """Whether this machine lets us have such disks."""
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as directory:
        try:
            SmallDisk(Path(directory), 1 << 20).close()
        except (RuntimeError, FileNotFoundError):
            return False
    return True
