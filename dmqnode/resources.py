"""What a node takes of its machine: memory, open files, and how Python tends its garbage."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

SPARE_FILES = 256
"""File descriptors kept for the store when connections are counted."""
MALLOC_ARENAS = -8
"""glibc's M_ARENA_MAX."""
SPARE_MEMORY = 4 << 20
"""Bytes that a process may grow before what is free in it is given back."""
QUIET = 20
"""Writes of one second below which a node is not busy."""
BUSY_PERIODS = 5
"""Seconds between two attempts of a busy one."""
SWITCH_INTERVAL = 0.0002
"""Seconds for which a thread may keep the interpreter when another wants it."""


def resident_memory() -> int:
    """Return the bytes of memory that this process alone occupies, files mapped by it not counted."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Spare:
    """Notices when what is free inside this process may be worth giving back to the system."""

    def __init__(self) -> None:
        self._kept = 0
        self._writes = 0
        self._busy = 0

    def grown(self, memory: int, writes: int) -> bool:
        """Tell whether there may be much, once a second; `kept` is to be called afterwards.

        Arguments:
            memory: bytes that the process has.
            writes: made since the start: those who write will need it again soon.
        """
        self._kept = min(self._kept, memory)
        quiet = writes - self._writes < QUIET
        self._writes = writes
        self._busy = 0 if quiet else self._busy + 1
        return memory >= self._kept + SPARE_MEMORY and (quiet or self._busy % BUSY_PERIODS == 0)

    def kept(self, memory: int) -> None:
        """So much is left after it was given back."""
        self._kept = memory


def give_memory_back() -> None:
    """Return to the system what is free inside this process; takes milliseconds, so for a worker thread."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library, which does as it likes


def keep_memory_together() -> None:
    """Have all threads share one arena: each thread's own would keep what it once needed for ever."""
    try:
        ctypes.CDLL(None).mallopt(MALLOC_ARENAS, 1)
    except (OSError, AttributeError):
        return


def switch_threads_soon() -> None:
    """Let a thread that has written go on at once, also while requests are being read: it is waited for."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def settle_garbage() -> None:
    """Take what is there now out of garbage collection, and collect the rest less often.

    What a node makes and forgets is freed by reference counts; cycles come from errors and tasks that end.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def raise_file_limit(max_connections: int) -> int:
    """Allow as many open files as the system lets us; return how many connections that bears."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return max_connections
    return max(1, min(max_connections, soft - SPARE_FILES))


def silence_stdout() -> None:
    """Send what else is written to stdout nowhere: its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
