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


def main() -> NoReturn:
    """Run the command in `sys.argv` and leave with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    # Looking for garbage while everything is loaded finds none, and takes a millisecond or two.
    gc.set_threshold(GARBAGE_AFTER)
    from cli.running import end_by_signal, run

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_by_signal)
    leave(run(sys.argv[1:]))


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
