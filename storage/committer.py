"""Group commit: one write at a time, and all that arrives while it is under way makes up the next.

    kick() kick()          kick() kick() kick()               kick()
       └─ collect ─ write 1 ──────────────── collect ─ write 2 ────── collect ─ write 3 …
                      └─ a worker thread       └─ written(1) went before

The loop is the only writer of its store, so writes reach the disk in the order in which they were collected.

Handing a write to a thread and its end back costs more than a quick disk takes for a small one.  So while
the disk is quick, a small group is written at once, and everything else waits for it: a pause of the
process like any other, and a short one.  When writes turn out slow, a thread makes them, and only now and
then one is tried like that again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
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

    @property
    def looks(self) -> Sequence[object]:
        """What is to be read behind it."""


G = TypeVar("G", bound=Group)
ROOM_WAIT = 5.0
"""Seconds for which a group waits for room on a full disk: sends are refused meanwhile, so acks make some."""
ROOM_STEP = 0.05
QUICK = 0.002
"""Seconds that a write takes at most which is worth no thread."""
STALL = 0.25
"""Seconds of one write after which threads write from then on."""
TRUST, SLIP = 64, 8
"""Trust in a quick disk: what it is at most, one quick write adding 1, and what one that was not takes."""
THREADS = (64, 4096)
"""Writes that threads make, once trust is gone, until the disk is tried again: at first, and at most."""
SMALL = 32 << 10
"""Bytes of a group that may be written without a thread."""


class Shell(Protocol[G]):
    """Who has something to write, and wants to know when it is done. None of it may block."""

    def collect(self) -> G | None:
        """Return everything that is to be written now, None if there is nothing."""

    def look(self, group: G, /) -> None:
        """Read what must be seen right behind `group`, before the next is written; in a worker thread.

        Errors: StorageError.
        """

    def wants_write(self) -> bool:
        """Whether `collect` would return something."""

    def written(self, group: G, /) -> None:
        """`group` is on disk, or with the system if it was not to be synced."""

    def failed(self, error: StorageError, /) -> None:
        """The disk refused: whether the last group is on it is unknown, and no other will be written."""


class Committer(Generic[G]):
    """Writes what `shell` collects to `store`.

    `in_thread` calls what blocks, as `trio.to_thread.run_sync` does.
    `stopwatch` gives seconds, to learn how quick the disk is; without it a thread makes every write.
    `free_bytes`: what the disk had left after the last write, None before the first.
    """

    def __init__(
        self,
        store: Store,
        shell: Shell[G],
        in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync,
        stopwatch: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._shell = shell
        self._in_thread = in_thread
        self._stopwatch = stopwatch
        self._kicked = trio.Event()
        self._thread = trio.CapacityLimiter(1)
        self._trust = TRUST
        self._threads, self._pause = 0, THREADS[0]
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
                if self._shell.wants_write():
                    # What came meanwhile, and was not heard where this thread wrote itself, joins the next.
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.checkpoint_if_cancelled()

    async def _write(self, group: G) -> None:
        try:
            if self._at_once(group):
                try:
                    self.free_bytes = self._write_timed(group)
                    return
                except DiskFull:
                    pass  # nothing was written; others may make room
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

    def _at_once(self, group: G) -> bool:
        """Tell whether a group is to be written without a thread."""
        if self._threads:
            self._threads -= 1
            return False
        return self._stopwatch is not None and group.batch.size <= SMALL and not group.looks

    def _write_timed(self, group: G) -> int:
        assert self._stopwatch is not None
        begun = self._stopwatch()
        free = self._write_now(group)
        taken = self._stopwatch() - begun
        if taken <= QUICK:
            self._trust = min(TRUST, self._trust + 1)
            if self._trust == TRUST:
                self._pause = THREADS[0]
        else:
            self._trust -= SLIP if taken < STALL else TRUST
            if self._trust <= 0:
                # One more that is slow, and threads write for longer.
                self._trust = SLIP
                self._threads, self._pause = self._pause, min(2 * self._pause, THREADS[1])
        return free
