"""One write at a time; what arrives meanwhile is the next; nothing is answered that is not on disk."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import trio

from storage.committer import QUICK, ROOM_STEP, SLIP, SMALL, STALL, THREADS, TRUST, Committer
from storage.errors import DiskFull, StorageError, StoreFailed
from storage.faults import Faults
from storage.keys import u16
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from tests.storage.writing import batch, put


@dataclass
class Group:
    batch: WriteBatch
    sync: bool
    numbers: list[int]
    looks: list[object] = field(default_factory=list)


class SlowStore(MemoryStore):
    """Every write waits until it is let go."""

    def __init__(self, faults: Faults | None = None) -> None:
        super().__init__(faults)
        self.begun = threading.Semaphore(0)
        self.may_go = threading.Semaphore(0)
        self.under_way = 0

    def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
        assert self.under_way == 0
        self.under_way += 1
        self.begun.release()
        assert self.may_go.acquire(timeout=10)
        super().write(batch, sync=sync, reserve=reserve)
        self.under_way -= 1

    async def until_begun(self) -> None:
        """Wait until one more write is under way."""
        assert await trio.to_thread.run_sync(lambda: self.begun.acquire(timeout=10))


@dataclass
class Requests:
    """A shell whose requests are numbers."""

    wanted: list[int] = field(default_factory=list)
    sync: bool = True
    groups: list[list[int]] = field(default_factory=list)
    errors: list[StorageError] = field(default_factory=list)
    answered: trio.Event = field(default_factory=trio.Event)

    def collect(self) -> Group | None:
        numbers, self.wanted = self.wanted, []
        if not numbers:
            return None
        return Group(batch({u16(number): b"" for number in numbers}), self.sync, numbers)

    def wants_write(self) -> bool:
        return bool(self.wanted)

    def look(self, group: Group) -> None:
        """Nothing is to be read behind a group."""

    def written(self, group: Group) -> None:
        self.groups.append(group.numbers)
        self.answered.set()

    def failed(self, error: StorageError) -> None:
        self.errors.append(error)


@asynccontextmanager
async def running(store: MemoryStore, shell: Requests) -> AsyncIterator[Committer[Group]]:
    committer: Committer[Group] = Committer(store, shell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        yield committer
        nursery.cancel_scope.cancel()


async def test_all_that_arrives_during_a_write_is_one_write() -> None:
    store, shell = SlowStore(), Requests()
    async with running(store, shell) as committer:
        shell.wanted.append(1)
        committer.kick()
        await store.until_begun()
        for number in range(2, 50):
            shell.wanted.append(number)
            committer.kick()
        await trio.testing.wait_all_tasks_blocked()
        assert shell.groups == []
        store.may_go.release()
        await store.until_begun()
        assert shell.groups == [[1]]
        shell.answered = trio.Event()
        store.may_go.release()
        await shell.answered.wait()
    assert shell.groups == [[1], list(range(2, 50))]
    assert store.statistics().synced_writes == 2
    assert committer.free_bytes == store.free_bytes()


async def test_nothing_is_written_without_a_wish() -> None:
    store, shell = MemoryStore(), Requests()
    async with running(store, shell) as committer:
        committer.kick()
        committer.kick()
        await trio.testing.wait_all_tasks_blocked()
    assert (store.statistics().writes, shell.groups, committer.free_bytes) == (0, [], None)


async def test_a_group_is_synced_only_if_it_says_so() -> None:
    store, shell = MemoryStore(), Requests([1], sync=False)
    async with running(store, shell) as committer:
        committer.kick()
        await shell.answered.wait()
    assert (store.statistics().writes, store.statistics().synced_writes) == (1, 0)


async def test_a_kick_from_written_is_not_lost() -> None:
    store = MemoryStore()

    class Chain(Requests):
        def written(self, group: Group) -> None:
            self.groups.append(group.numbers)
            if len(self.groups) == 3:
                self.answered.set()
            else:
                self.wanted.append(len(self.groups))
                committer.kick()

    shell = Chain([0])
    async with running(store, shell) as committer:
        committer.kick()
        await shell.answered.wait()
    assert shell.groups == [[0], [1], [2]]


@pytest.mark.parametrize("kind", ["write_error", "sync_error"])
async def test_an_error_is_told_and_ends_it_and_nothing_is_answered(kind: str) -> None:
    import random

    store = MemoryStore(Faults(rng=random.Random(1), **{kind: 1.0}))
    shell = Requests([1])
    committer: Committer[Group] = Committer(store, shell)
    committer.kick()
    with pytest.raises(StoreFailed):
        await committer.run()
    assert shell.groups == []
    assert len(shell.errors) == 1


async def test_a_full_disk_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    import random

    faults = Faults(rng=random.Random(1), capacity=10)

    class Draining(MemoryStore):
        tries = 0

        def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
            self.tries += 1
            if self.tries == 5:
                faults.capacity = 100_000
            super().write(batch, sync=sync, reserve=reserve)

    store, shell = Draining(faults), Requests(list(range(20)))
    async with running(store, shell) as committer:
        committer.kick()
        await shell.answered.wait()
    assert (shell.groups, shell.errors) == ([list(range(20))], [])
    assert trio.current_time() <= 5 * ROOM_STEP


async def test_a_disk_that_stays_full_ends_it_with_nothing_written(
    autojump_clock: trio.testing.MockClock,
) -> None:
    import random

    store = MemoryStore(Faults(rng=random.Random(1), capacity=10))
    shell = Requests(list(range(20)))
    committer: Committer[Group] = Committer(store, shell)
    committer.kick()
    with pytest.raises(DiskFull, match="make room"):
        await committer.run()
    assert (shell.groups, store.free_bytes()) == ([], 10)
    assert isinstance(shell.errors[0], DiskFull)


async def test_cancelling_waits_for_the_write_and_answers_it() -> None:
    store, shell = SlowStore(), Requests([1])
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            committer: Committer[Group] = Committer(store, shell)
            nursery.start_soon(committer.run)
            committer.kick()
            await store.until_begun()
            shell.wanted.append(2)
            committer.kick()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                assert shell.groups == []
                assert store.under_way == 1
                store.may_go.release()
    assert scope.cancelled_caught
    assert shell.groups == [[1]]
    assert store.under_way == 0
    store.close()


async def test_what_is_answered_survives_a_crash_at_any_write() -> None:
    store, shell = MemoryStore(), Requests()
    async with running(store, shell) as committer:
        for number in range(30):
            shell.wanted.append(number)
            shell.answered = trio.Event()
            committer.kick()
            if number % 3:
                await shell.answered.wait()
                answered = [n for group in shell.groups for n in group]
                put(store, {b"zz": b"unsynced"}, sync=False)
                kept = {key for key in store._records if len(key) == 2 and key != b"zz"}
                assert {u16(n) for n in answered} <= kept
        await trio.testing.wait_all_tasks_blocked()
    numbers = [n for group in shell.groups for n in group]
    assert numbers == sorted(numbers)
    after = store.crash()
    assert all(after.get(u16(n)) == b"" for n in numbers)


class TimedStore(MemoryStore):
    """Says how long a write took, and who made it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.takes = 0.0
        self.clock = 0.0
        self.by: list[int] = []

    def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
        super().write(batch, sync=sync, reserve=reserve)
        self.by.append(threading.get_ident())
        self.clock += self.takes


async def write_groups(store: TimedStore, count: int, size: int = 1, looks: bool = False) -> None:
    """Write `count` groups one after the other."""

    class Sized(Requests):
        def collect(self) -> Group | None:
            numbers, self.wanted = self.wanted, []
            what = batch({u16(number): bytes(size) for number in numbers})
            return Group(what, True, numbers, [None] if looks else []) if numbers else None

    shell = Sized()
    committer: Committer[Group] = Committer(store, shell, stopwatch=lambda: store.clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        for number in range(count):
            shell.answered = trio.Event()
            shell.wanted.append(number)
            committer.kick()
            await shell.answered.wait()
        nursery.cancel_scope.cancel()
    assert shell.groups == [[number] for number in range(count)]


async def test_a_quick_disk_is_written_without_a_thread() -> None:
    store, me = TimedStore(), threading.get_ident()
    store.takes = QUICK / 2
    await write_groups(store, 300)
    assert set(store.by) == {me}
    store.by = []
    await write_groups(store, 3, size=SMALL)
    await write_groups(store, 3, looks=True)
    assert me not in store.by


async def test_a_slow_disk_is_written_by_threads_and_tried_ever_less_often() -> None:
    store, me = TimedStore(), threading.get_ident()
    store.takes = 2 * QUICK
    await write_groups(store, 2 * THREADS[1])
    tried = [at for at, thread in enumerate(store.by) if thread == me]
    assert tried[: TRUST // SLIP] == list(range(TRUST // SLIP))
    pauses = [later - at - 1 for at, later in pairwise(tried) if later > at + 1]
    assert pauses == [min(THREADS[0] << n, THREADS[1]) for n in range(len(pauses))]
    assert len(pauses) >= 6


async def test_one_very_slow_write_is_enough_for_threads() -> None:
    store, me = TimedStore(), threading.get_ident()
    store.takes = STALL
    await write_groups(store, 1 + THREADS[0])
    assert store.by[0] == me
    assert me not in store.by[1:]


async def test_what_came_while_a_quick_disk_was_written_joins_the_next_group() -> None:
    store = TimedStore()

    class Busy(Requests):
        def written(self, group: Group) -> None:
            super().written(group)
            if len(self.groups) == 1:
                self.wanted.append(2)

    shell = Busy([1])
    committer: Committer[Group] = Committer(store, shell, stopwatch=lambda: store.clock)

    class Arriving(trio.abc.Instrument):
        """What arrives once the loop turns: which of two tasks goes first in a turn is left to chance."""

        def before_io_wait(self, timeout: float) -> None:
            if len(shell.groups) == 1 and shell.wanted == [2]:
                shell.wanted.append(3)

    arriving = Arriving()
    trio.lowlevel.add_instrument(arriving)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        committer.kick()
        while len(shell.groups) < 2:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(arriving)
    assert shell.groups == [[1], [2, 3]]
