"""A machine whose power can fail and whose clock can be set: `shim.c` under a node, and what it leaves.

The model of a power cut: of each file that many bytes are left as were synced, and perhaps a part of what
follows, or noise in its place.  Names (new files, renames, removals) are there in the order in which they
were made, as on a file system with an ordered journal; those after the last sync of anything may be there or
not.
"""

from __future__ import annotations

import atexit
import mmap
import os
import random
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent / "shim.c"
CLOCK, SYNC, ROOM, FAILS = range(4)


@cache
def compiler() -> str | None:
    """Return the C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc")


@cache
def built() -> Path | None:
    """Return the shim, compiled for this process; None where that is not possible."""
    directory = Path(tempfile.mkdtemp(prefix="dmq-chaos-made."))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = directory / "shim.so"
    if (cc := compiler()) is None:
        return None
    command = [cc, "-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
    return None if subprocess.run(command, capture_output=True, check=False).returncode else made


class Machine:
    """The disk and the clock of one node.

    Arguments:
        directory: for the journal.
        library: the shim.
    """

    def __init__(self, directory: Path, library: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._library = library
        self._journal = directory / "journal"
        self._attic = directory / "attic"
        self._attic.mkdir(exist_ok=True)
        self._control = directory / "control"
        self._control.write_bytes(bytes(4096))
        with self._control.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 4096)
        self._set(ROOM, -1)

    def close(self) -> None:
        """Give back what it holds."""
        self._page.close()

    def environment(self, data: Path) -> dict[str, str]:
        """Return what a process must have in its environment to run on this machine."""
        return {
            "LD_PRELOAD": str(self._library),
            "CHAOS_CONTROL": str(self._control),
            "CHAOS_DISK": str(data.resolve()),
            "CHAOS_JOURNAL": str(self._journal),
            "CHAOS_ATTIC": str(self._attic),
        }

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock so far from the true time."""
        self._set(CLOCK, round(seconds * 1e9))

    def slow_disk(self, seconds: float) -> None:
        """Let each sync, and each write, take so much longer."""
        self._set(SYNC, round(seconds * 1e6))

    def room(self, size: int | None) -> None:
        """Let the disk take so many bytes more; None: as many as there is room for."""
        self._set(ROOM, -1 if size is None else size)

    def fail_syncs(self, fails: bool) -> None:
        """Let every sync fail, or succeed again."""
        self._set(FAILS, int(fails))

    def _set(self, place: int, value: int) -> None:
        struct.pack_into("=q", self._page, 8 * place, value)

    def cut_power(self, rng: random.Random) -> list[str]:
        """Make the disk what it is after a power cut; the process was killed.  Return what was lost."""
        events = _read(self._journal) if self._journal.exists() else []
        told = _lose(events, self._attic, rng)
        self.forget()
        return told

    def forget(self) -> None:
        """Take everything that is there as synced, as after a shutdown, or on another machine."""
        self._journal.unlink(missing_ok=True)
        for old in self._attic.iterdir():
            old.unlink()


class _Event(NamedTuple):
    kind: str
    path: str
    more: str = ""
    kept: int = 0


def _read(journal: Path) -> list[_Event]:
    events = []
    for line in journal.read_text().splitlines():
        kind, *fields = line.split("\t")
        if kind == "R":
            events.append(_Event("R", fields[0], fields[1], int(fields[2])))
        elif kind == "U":
            events.append(_Event("U", fields[0], "", int(fields[1])))
        else:
            events.append(_Event(kind, fields[0], fields[1]))
    return events


def _lose(events: list[_Event], attic: Path, rng: random.Random) -> list[str]:
    """Undo what was not synced."""
    safe: dict[str, int] = {}
    """Per present name: how many bytes are on the disk."""
    last = max((n for n, e in enumerate(events) if e.kind == "S"), default=-1)
    undone = rng.randint(last + 1, len(events)) if last + 1 < len(events) else len(events)
    told = []
    for event in events[:undone]:
        if event.kind == "O":
            # What was there when it was opened first is there since long.
            safe.setdefault(event.path, int(event.more))
        elif event.kind == "S" and int(event.more) >= 0:
            safe[event.path] = max(safe.get(event.path, 0), int(event.more))
        elif event.kind == "R":
            safe[event.more] = safe.pop(event.path, 1 << 62)
            for below in [name for name in safe if name.startswith(f"{event.path}/")]:
                safe[event.more + below.removeprefix(event.path)] = safe.pop(below)
        elif event.kind == "U":
            safe.pop(event.path, None)
    for event in reversed(events[undone:]):
        told.append(f"{event.kind} {Path(event.path).name}")
        if event.kind == "R" and Path(event.more).exists():
            os.rename(event.more, event.path)
            if Path(event.path).is_file():
                safe[event.path] = safe.get(event.path, 0)
        if event.kind in ("R", "U") and event.kept:
            target = Path(event.more if event.kind == "R" else event.path)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(attic / str(event.kept), target)
        if event.kind == "O" and event.more == "0" and event.path not in safe:
            Path(event.path).unlink(missing_ok=True)
    for name, size in safe.items():
        path = Path(name)
        if path.is_file() and (present := path.stat().st_size) > size:
            left = size + rng.choice((0, 0, rng.randint(0, present - size)))
            told.append(f"{path.name} {present} -> {left}")
            with path.open("r+b") as file:
                file.truncate(left)
                if left > size and rng.random() < 0.3:
                    file.seek(size)
                    file.write(rng.randbytes(left - size))
    return told
