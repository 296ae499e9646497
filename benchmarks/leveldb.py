"""What LevelDB's settings cost: python benchmarks/leveldb.py [DIRECTORY]

What a home writes of a stream that is received a little later: groups of records, each group synced; and,
`BEHIND` groups later, the deletion of the oldest.  For records of 4 KiB (a batch of short messages) and of
16 KiB, and each setting in turn: the processor time of a record, LevelDB's own threads with it, and how many
bytes reach the files for each byte.  The records cannot be compressed, but for one row, where they are JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import plyvel

from storage.opening import OPTIONS

GROUP = 64 << 10
"""Bytes that are written at once."""
BEHIND = 500
"""Groups that wait, at any time: 32 MiB."""
SETTINGS: dict[str, dict[str, Any]] = {
    "as dmq has it": {},
    "write buffer 4 MiB": {"write_buffer_size": 4 << 20},
    "write buffer 64 MiB": {"write_buffer_size": 64 << 20},
    "blocks of 16 KiB": {"block_size": 16 << 10},
    "blocks of 64 KiB": {"block_size": 64 << 10},
    "files of 8 MiB": {"max_file_size": 8 << 20},
    "files of 32 MiB": {"max_file_size": 32 << 20},
    "no bloom filter": {"bloom_filter_bits": 0},
    "snappy": {"compression": "snappy"},
    "snappy, JSON": {"compression": "snappy"},
}


def record(size: int, *, compressible: bool) -> bytes:
    """Return what is written: chance, or orders in JSON."""
    if not compressible:
        return os.urandom(size)
    orders = bytearray()
    while len(orders) < size:
        order = {"order": secrets.token_hex(8), "amount": secrets.randbelow(10**6), "currency": "EUR"}
        orders += json.dumps(order).encode()
    return bytes(orders[:size])


def used() -> float:
    """Return the seconds of processor time that this process has taken."""
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime


def written() -> int:
    """Return the bytes that this process has written to files."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def work(directory: Path, options: dict[str, Any], body: bytes, groups: int) -> tuple[float, float]:
    """Write and delete; return the seconds of a record, and the bytes written for each of its own."""
    size = len(body)
    each = max(1, GROUP // size)
    db = plyvel.DB(str(directory), create_if_missing=True, **{**OPTIONS, **options})
    began, bytes_before = used(), written()
    for group in range(groups):
        batch = db.write_batch(sync=True)
        for n in range(each):
            batch.put(b"partition-1 b%08d%04d" % (group, n), body)
            if group >= BEHIND:
                batch.delete(b"partition-1 b%08d%04d" % (group - BEHIND, n))
        batch.write()
    db.close()
    return (used() - began) / groups / each, (written() - bytes_before) / groups / each / size


def main() -> None:
    parser = argparse.ArgumentParser(description="What LevelDB's settings cost.")
    parser.add_argument(
        "directory", nargs="?", default=tempfile.gettempdir(), type=Path, help="where to write"
    )
    parser.add_argument("--groups", type=int, default=3000, help="of 64 KiB (3000)")
    parser.add_argument("--rounds", type=int, default=3, help="of each; the median is told (3)")
    args = parser.parse_args()
    for size in (4 << 10, 16 << 10):
        print(f"\nrecords of {size >> 10} KiB{'CPU µs':>18}{'to dmq’s':>10}{'written':>10}")
        usual = 0.0
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
        for _ in range(args.rounds):
            for name, options in SETTINGS.items():
                body = record(size, compressible=name.endswith("JSON"))
                with tempfile.TemporaryDirectory(dir=args.directory) as place:
                    taken[name].append(work(Path(place), options, body, args.groups))
        for name, found in taken.items():
            cpu, wrote = (statistics.median(column) for column in zip(*found))
            usual = usual or cpu
            print(f"{name:22}{cpu * 1e6:>12.1f}{cpu / usual:>9.2f}×{wrote:>9.2f}×", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
