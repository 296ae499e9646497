"""Where the members are, in a file beside the store: for a node whose store does not open any more (I2).

Only what the store cannot tell is taken from it.  A node without others keeps none: nobody is to be joined.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from dmqnode.config import host_port
from dmqnode.errors import UsageError
from dmqnode.logs import say_rarely

FILE = "members"
LOOK_EVERY = 2.0
"""Seconds between two looks at whether the members are others."""


def read(data: Path) -> tuple[str, ...]:
    """Return where the members were, this node among them; nothing if it was alone, or nobody can tell.

    Arguments:
        data: the directory of the node's data.
    """
    try:
        lines = (data / FILE).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(filter(_is_address, lines))


def _is_address(line: str) -> bool:
    try:
        host_port(line)
    except UsageError:
        return False
    return True


def write(data: Path, addresses: Sequence[str]) -> None:
    """Keep these addresses; none if there is but one.  Errors: OSError."""
    path, new = data / FILE, data / f"{FILE}.new"
    if len(addresses) < 2:
        path.unlink(missing_ok=True)
        return
    with new.open("w", encoding="utf-8") as file:
        file.write("".join(f"{address}\n" for address in addresses))
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


async def keep(data: Path, current: Callable[[], Sequence[str]]) -> None:
    """Keep the addresses of the members as they change, until cancelled.

    Arguments:
        data: the directory of the node's data.
        current: returns the addresses of all members; none where the node is alone.
    """
    kept: list[str] | None = None
    while True:
        addresses = sorted(current())
        if addresses != kept:
            try:
                await trio.to_thread.run_sync(write, data, addresses)
                kept = addresses
            except OSError as error:
                why = error.strerror or error
                say_rarely("cannot note where the members are", level=logging.WARNING, why=why)
        await trio.sleep(LOOK_EVERY)
