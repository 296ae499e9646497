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
from dmqnode.errors import DMQError, UsageError
from dmqnode.logs import say_rarely

FILE = "members"
LOOK_EVERY = 2.0
"""Seconds between two looks at whether the members are others."""
TRY_EVERY = 60.0
"""Seconds until it is tried again where that could not be written."""


class Unreadable(DMQError):
    """Others were there, and nobody knows where."""

    code = "cannot-start"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"this node has lost its store, and {path}, which says where the other members are, cannot be "
            f"read: {why}; give --join and the address of a member, or remove it to begin alone"
        )


def read(data: Path) -> tuple[str, ...]:
    """Return where the members were, this node among them; nothing if it was alone.

    Arguments:
        data: the directory of the node's data.

    Errors: Unreadable if there is such a file, and it says nothing.
    """
    path = data / FILE
    try:
        lines = path.read_bytes().decode(errors="replace").split()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from None
    found = tuple(filter(_is_address, lines))
    if not found:
        raise Unreadable(path, "there is no address in it")
    return found


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
        addresses, pause = sorted(current()), LOOK_EVERY
        if addresses != kept:
            try:
                await trio.to_thread.run_sync(write, data, addresses)
                kept = addresses
            except OSError as error:
                why, pause = error.strerror or error, TRY_EVERY
                say_rarely("cannot note where the members are", level=logging.WARNING, why=why)
        await trio.sleep(pause)
