"""The program `dmq`: signals, one command, an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

GARBAGE_AFTER = 100_000
"""Objects made before garbage is looked for."""
STANDARD = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
"""How /dev/null is opened in the place of standard input, output and error where they are closed.

Reading the one fails, and so does writing data to the other: neither may pass for done.  What is said on
standard error is lost, as whoever closed it wants.
"""


def main() -> NoReturn:
    """Run the command in `sys.argv` and leave with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    take_places()
    # Looking for garbage while everything is loaded finds none, and takes a millisecond or two.
    gc.set_threshold(GARBAGE_AFTER)
    from cli.failures import Signalled
    from cli.running import end_by_signal, run

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_by_signal)
    try:
        code = run(sys.argv[1:])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)  # nothing is held any more
    except Signalled as signalled:  # it came as the command had just ended
        code = 128 + signalled.number
    leave(code)


def take_places() -> None:
    """Open something in the place of each standard file that is closed.

    The next file that is opened would get its number: a connection to a node would be standard output.
    """
    for descriptor, how in enumerate(STANDARD):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one.  Commands that we run inherit it.
            os.set_inheritable(os.open(os.devnull, how), True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def leave(code: int) -> NoReturn:
    """Leave with an exit code, whatever is left to be torn down."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    # Everything is closed and on its way; tearing down the interpreter would only take time.
    os._exit(code)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
