"""Notes when a process reads, writes to a connection and writes to its disk; see `hops`.

What is noted stays in memory until the process ends, and is then written to a file, as pickled tuples of
(nanoseconds of the system's monotonic clock, what, bytes).
"""

from __future__ import annotations

import atexit
import os
import pickle
import time
from collections import deque
from pathlib import Path
from typing import Any

import trio

from storage.leveldb import LevelStore

READ, WRITING, WRITTEN, SYNCING, SYNCED = range(5)
MOST = 2_000_000
"""Notes that are kept; what is more pushes the first ones out."""

Note = tuple[int, int, int]
notes: deque[Note] = deque(maxlen=MOST)


def note(what: int, size: int) -> None:
    """Note that something happens now."""
    notes.append((time.perf_counter_ns(), what, size))


def install(log: Path | None = None) -> None:
    """Begin to take notes; write them to `log` at the end."""
    send, receive = trio.SocketStream.send_all, trio.SocketStream.receive_some
    read, give, write = os.readv, os.write, LevelStore.write

    async def sending(self: trio.SocketStream, data: Any) -> None:
        note(WRITING, len(data))
        await send(self, data)
        note(WRITTEN, len(data))

    async def receiving(self: trio.SocketStream, max_bytes: int | None = None) -> Any:
        data = await receive(self, max_bytes)
        note(READ, len(data))
        return data

    def reading(number: int, buffers: Any) -> int:
        size = read(number, buffers)
        note(READ, size)
        return size

    def giving(number: int, data: Any) -> int:
        note(WRITING, len(data))
        given = give(number, data)
        note(WRITTEN, given)
        return given

    def writing(self: LevelStore, batch: Any, **options: Any) -> None:
        note(SYNCING, batch.size)
        write(self, batch, **options)
        note(SYNCED, batch.size)

    patched: Any = trio.SocketStream
    patched.send_all, patched.receive_some = sending, receiving
    os.readv, os.write = reading, giving
    stored: Any = LevelStore
    stored.write = writing
    if log is not None:
        atexit.register(lambda: log.write_bytes(pickle.dumps(list(notes))))
