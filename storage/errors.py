"""What can go wrong with a store, as a tree.

StorageError
    Corrupt         one record does not match its checksum; the others are fine
    InUse           another process has the store open
    NewerFormat     the store was written by a newer program
    DiskFull        there is not enough room; nothing was written and the store goes on
    StoreFailed     the disk refused a write or a read; this store answers nothing any more
"""

from __future__ import annotations

from pathlib import Path


class StorageError(Exception):
    """Everything that storage raises on purpose; its text is one sentence for the operator."""


class Corrupt(StorageError):
    """The record under `key` does not match its checksum, or its block cannot be read."""

    def __init__(self, key: bytes, why: str) -> None:
        super().__init__(f"the record {key.hex()} is damaged: {why}")
        self.key = key
        self.why = why


class InUse(StorageError):
    """The store in `directory` is open in another process, which said to be `pid`, running `command`."""

    def __init__(self, directory: Path, pid: int | None = None, command: str = "") -> None:
        holder = "another process" if pid is None else f"process {pid}" + (f" ({command})" if command else "")
        super().__init__(
            f"the store in {directory} is in use by {holder}; stop it, or choose another directory"
        )
        self.directory = directory
        self.pid = pid
        self.command = command


class NewerFormat(StorageError):
    """The store in `directory` has format `found`; this program knows up to `known`."""

    def __init__(self, directory: Path, found: int, known: int) -> None:
        super().__init__(
            f"the store in {directory} has format {found} and this version knows formats up to {known}; "
            "run the newer version that wrote it"
        )
        self.directory = directory
        self.found = found
        self.known = known


class DiskFull(StorageError):
    """Nothing was written: `free` bytes are left and `needed` must be, this write included."""

    def __init__(self, directory: Path | str, free: int, needed: int) -> None:
        super().__init__(
            f"the disk of {directory} is full: {free} bytes are free and {needed} are needed; "
            "make room, or consume messages"
        )
        self.directory = directory
        self.free = free
        self.needed = needed


class StoreFailed(StorageError):
    """The store in `directory` could not `action` (“write”, “read”, “open”) because of `why`.

    Whether the last write is on disk is unknown, so nothing is tried again: what follows fails as well.
    """

    def __init__(self, directory: Path | str, action: str, why: str, *, disk_full: bool = False) -> None:
        advice = "make room on the disk" if disk_full else "check the disk and the system's log"
        super().__init__(f"the store in {directory} failed to {action}: {why}; {advice}, then start again")
        self.directory = directory
        self.action = action
        self.why = why
        self.disk_full = disk_full
