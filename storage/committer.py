"""Group commit: one write at a time, and all that arrives while it is under way makes up the next.

    kick() kick()          kick() kick() kick()               kick()
       └─ collect ─ write 1 ──────────────── collect ─ write 2 ────── collect ─ write 3 …
                      └─ a worker thread       └─ written(1) went before

The loop is the only writer of its store, so writes reach the disk in the order in which they were collected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import trio

from storage.errors import DiskFull, StorageError
from storage.ops import WriteBatch
from storage.store import Store


class Group(Protocol):
    """What is written at once; its maker may have more in it."""

    @property
    def batch(self) -> WriteBatch:
        """What to write."""

    @property
    def sync(self) -> bool:
        """Whether it must be on disk before `written` is called."""


G = TypeVar("G", bound=Group)
ROOM_WAIT = 5.0
"""Seconds for which a group waits for room on a full disk: sends are refused meanwhile, so acks make some."""
ROOM_STEP = 0.05


class Shell(Protocol[G]):
    """Who has something to write, and wants to know when it is done. None of it may block."""

    def collect(self) -> G | None:
        """Return everything that is to be written now, None if there is nothing."""

    def look(self, group: G, /) -> None:
        """Read what must be seen right behind `group`, before the next is written; in a worker thread.

        Errors: StorageError.
        """

    def written(self, group: G, /) -> None:
        """`group` is on disk, or with the system if it was not to be synced."""

    def failed(self, error: StorageError, /) -> None:
        """The disk refused: whether the last group is on it is unknown, and no other will be written."""


class Committer(Generic[G]):
    """Writes what `shell` collects to `store`.

    `in_thread` calls what blocks, as `trio.to_thread.run_sync` does.
    `free_bytes`: what the disk had left after the last write, None before the first.
    """

    def __init__(
        self,
        store: Store,
        shell: Shell[G],
        in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync,
    ) -> None:
        self._store = store
        self._shell = shell
        self._in_thread = in_thread
        self._kicked = trio.Event()
        self._thread = trio.CapacityLimiter(1)
        self.free_bytes: int | None = None

    def kick(self) -> None:
        """There is something to write: collect it as soon as the write under way is done."""
        self._kicked.set()

    async def run(self) -> None:
        """Write for ever.

        Cancelling waits for the write under way and reports it to `written`, so that nothing is in doubt
        and nobody uses the store afterwards.

        Errors: StorageError, after `failed` was told.  Nothing is tried twice, but for a full disk: then
        nothing was written, and the group waits a moment for room.
        """
        while True:
            await self._kicked.wait()
            self._kicked = trio.Event()
            while (group := self._shell.collect()) is not None:
                await self._write(group)
                self._shell.written(group)
                await trio.lowlevel.checkpoint_if_cancelled()

    async def _write(self, group: G) -> None:
        try:
            # What was collected is written, come what may; a thread is never left alone with the store.
            with trio.CancelScope(shield=True):
                self.free_bytes = await self._write_when_there_is_room(group)
        except StorageError as error:
            self._shell.failed(error)
            raise

    async def _write_when_there_is_room(self, group: G) -> int:
        patience = trio.current_time() + ROOM_WAIT
        while True:
            try:
                free: int = await self._in_thread(self._write_now, group, limiter=self._thread)
                return free
            except DiskFull:
                if trio.current_time() >= patience:
                    raise
            await trio.sleep(ROOM_STEP)

    def _write_now(self, group: G) -> int:
        self._store.write(group.batch, sync=group.sync)
        self._shell.look(group)
        return self._store.free_bytes()
