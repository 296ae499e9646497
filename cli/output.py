"""Standard output: data only, written at once, and quiet when nobody reads it any more."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import termios
import time
from collections.abc import Iterable

STDOUT = 1
PATIENCE = 0.5
"""Seconds that a reader has to take what is in a pipe, before it counts as slow."""


class ReaderGone(Exception):
    """Whoever read our standard output has gone: there is nothing left to do, and nothing to say."""


def write(data: bytes) -> None:
    """Write all of `data` to standard output and return when the system has it.

    Errors: ReaderGone when the pipe is closed; OSError, naming standard output, when it cannot be written
    for another reason.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(STDOUT, view) :]
        except BrokenPipeError:
            raise ReaderGone from None
        except BlockingIOError:
            select.select((), (STDOUT,), ())
        except OSError as error:
            why = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OSError(error.errno, why, "standard output") from None


def write_text(text: str) -> None:
    """Write text and a newline."""
    write(text.encode("utf-8", "surrogateescape") + b"\n")


def write_lines(lines: Iterable[str]) -> None:
    """Write a line each, all at once."""
    text = "\n".join(lines)
    if text:
        write_text(text)


def taken() -> bool:
    """Wait until whoever reads our pipe has taken all of it; return whether that was so in time.

    A pipe holds thousands of short messages that `head -n 1` never reads.  Where standard output is no
    pipe, what is written is taken.

    Errors: ReaderGone when the reader left with something untaken.
    """
    if not stat.S_ISFIFO(os.fstat(STDOUT).st_mode):
        return True
    watch = select.poll()
    watch.register(STDOUT, 0)  # only errors: that nobody reads any more
    until, step = time.monotonic() + PATIENCE, 1
    while struct.unpack("i", fcntl.ioctl(STDOUT, termios.FIONREAD, bytes(4)))[0]:
        if watch.poll(step):
            raise ReaderGone
        if time.monotonic() >= until:
            return False
        step = min(2 * step, 20)
    return True
