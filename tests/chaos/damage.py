"""What can become of the files of a store while its node is down."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path


def _files(data: Path) -> list[Path]:
    """Return the files that matter."""
    found = [path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0]
    names = ("MANIFEST", "CURRENT")
    return sorted(path for path in found if path.suffix in (".log", ".ldb") or path.name.startswith(names))


def _some(data: Path, rng: random.Random) -> list[Path]:
    """Return one of the files that matter, or two, or three."""
    files = _files(data)
    return rng.sample(files, min(len(files), rng.choice((1, 1, 2, 3))))


def truncated(data: Path, rng: random.Random) -> None:
    for path in _some(data, rng):
        with path.open("r+b") as file:
            file.truncate(rng.randrange(path.stat().st_size))


def flipped(data: Path, rng: random.Random) -> None:
    rate = rng.choice((1e-3, 1e-4, 1e-5))
    for path in _files(data):
        raw = bytearray(path.read_bytes())
        for _ in range(max(1, round(len(raw) * rate))):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)


def file_removed(data: Path, rng: random.Random) -> None:
    for path in _some(data, rng):
        path.unlink()


def wiped(data: Path, rng: random.Random) -> None:
    shutil.rmtree(data)


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": truncated,
    "flipped": flipped,
    "file removed": file_removed,
    "wiped": wiped,
}
