"""What one write that must be on disk costs here, without any queue: python benchmarks/fsync.py [DIR]

Appends 4 KiB to a file and calls fdatasync, again and again; prints percentiles in milliseconds. A message
that is sent by itself cannot be stored sooner.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

BLOCK = 4096


def fdatasync_seconds(directory: Path, count: int = 1000) -> list[float]:
    """Return how long `count` appends of 4 KiB took, each with its fdatasync, shortest first."""
    taken = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        block = os.urandom(BLOCK)
        for _ in range(count):
            begun = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description="How long fdatasync takes.")
    parser.add_argument(
        "directory", nargs="?", default=tempfile.gettempdir(), type=Path, help="where to write"
    )
    parser.add_argument("--count", type=int, default=1000, help="writes (1000)")
    args = parser.parse_args()
    taken = fdatasync_seconds(args.directory, args.count)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        print(f"{name:4}{taken[min(len(taken) - 1, int(len(taken) * share))] * 1e3:9.3f} ms")


if __name__ == "__main__":
    main()
