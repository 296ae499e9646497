"""Reading bodies and lines in constant memory."""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmqnode.errors import LimitExceeded, UsageError

STDIN = 0
BLOCK = 1 << 20
LONGEST = 16 << 20
"""Bytes; no node takes a body as long as this, so a longer line or body is not even read to its end."""


class Source:
    """Where bytes come from.

    Arguments:
        descriptor: read from.
        name: for errors.

    `read_bytes` is how much was read so far; `size` how much there is, None if nobody knows; `ended`
    whether all lines have been read.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self.name = name
        self.read_bytes = 0
        self.ended = False
        self._rest = b""
        self._count = 0
        found = os.fstat(descriptor)
        self.size = found.st_size if stat.S_ISREG(found.st_mode) else None

    def lines(self) -> Iterator[bytes]:
        """Read line by line, without the newlines, until input has to be waited for; the last needs none.

        Whoever feeds us slowly wants each line sent when it comes, not when a batch is full.  At least
        one line comes, unless the input has ended: then `ended` is true.

        Errors: LimitExceeded for a line that no node would take.
        """
        while not self.ended:
            block = self._block()
            if not block:
                self.ended = True
                lines = [self._rest] if self._rest else []
            else:
                lines = (self._rest + block).split(b"\n")
                self._rest = lines.pop()
            self._count += len(lines)
            if len(self._rest) > LONGEST:
                raise _too_long(f"line {self._count + 1} of {self.name}")
            yield from lines
            if lines and not self._ready():
                return

    def _block(self) -> bytes:
        while True:
            try:
                block = os.read(self._descriptor, BLOCK)
            except BlockingIOError:
                # Whoever shares a pipe or terminal with us may have set it to that.
                select.select((self._descriptor,), (), ())
                continue
            self.read_bytes += len(block)
            return block

    def _ready(self) -> bool:
        if self.size is not None:
            return True
        return bool(select.select((self._descriptor,), (), (), 0)[0])

    def whole(self) -> bytes:
        """Read to the end.

        Errors: LimitExceeded for more than any node would take.
        """
        blocks = []
        while block := self._block():
            blocks.append(block)
            if self.read_bytes > LONGEST:
                raise _too_long(self.name)
        return b"".join(blocks)


def stdin() -> Source:
    """Return standard input.

    Errors: UsageError when it is closed.
    """
    try:
        if fcntl.fcntl(STDIN, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
            return Source(STDIN, "stdin")
    except OSError:
        pass
    # `main` has put something into its place that can be written only.
    raise UsageError("standard input is closed; give the input as an argument or a file")


@contextmanager
def opened(path: str | None) -> Iterator[Source]:
    """Open a file for reading, or standard input where `path` is None or "-".

    Errors: UsageError for a file that cannot be read.
    """
    if path in (None, "-"):
        yield stdin()
        return
    assert path is not None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    try:
        yield Source(descriptor, path)
    finally:
        os.close(descriptor)


def read_file(path: str) -> bytes:
    """Return the whole of a file.

    Errors: UsageError for a file that cannot be read; LimitExceeded for one that no node would take.
    """
    try:
        if not Path(path).is_dir():
            with opened(path) as source:
                return source.whole()
    except IsADirectoryError:
        pass
    raise UsageError(
        f"cannot read {path}: it is a directory; give its files, for example with find … -type f"
    )


def _too_long(what: str) -> LimitExceeded:
    return LimitExceeded(
        f"{what} is longer than {LONGEST >> 20}MiB; no queue takes that, split it up", code="too-large"
    )
