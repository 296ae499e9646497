"""Counts what a process encodes, decodes and checks, where another can read it; see `calls`.

The counts are numbers in a file that both have mapped, so that they can be read while the process runs.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2

ENCODED, DECODED, CHECKED, CHECKED_BYTES = range(4)
NAMES = ("encodes", "decodes", "checksums", "checked")
SIZE = 8 * len(NAMES)

Counts = memoryview


def counts(file: Path | None) -> Counts:
    """Return the counts in a file, which is made if it is not there; None: of this process only."""
    if file is None:
        return memoryview(mmap.mmap(-1, SIZE)).cast("Q")
    if not file.exists():
        file.write_bytes(bytes(SIZE))
    with file.open("r+b") as opened:
        return memoryview(mmap.mmap(opened.fileno(), SIZE)).cast("Q")


def install(file: Path | None) -> Counts:
    """Begin to count, before anything of dmq is imported: modules take what they use by name."""
    found = counts(file)
    library: Any = cbor2
    library.dumps = counting(cbor2.dumps, found, ENCODED)
    library.loads = counting(cbor2.loads, found, DECODED)
    library.CBORDecoder = counting(cbor2.CBORDecoder, found, DECODED)  # one for each frame
    checks: Any = zlib
    check = zlib.crc32

    def checked(data: Any, value: int = 0) -> int:
        found[CHECKED] += 1
        found[CHECKED_BYTES] += len(data)
        return check(data, value)

    checks.crc32 = checked
    return found


def counting(call: Callable[..., Any], found: Counts, which: int) -> Callable[..., Any]:
    """Return a function that counts its calls."""

    def counted(*args: Any, **options: Any) -> Any:
        found[which] += 1
        return call(*args, **options)

    return counted
