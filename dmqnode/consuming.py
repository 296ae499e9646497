"""Consuming: messages taken ahead, kept hidden while they wait or are worked on, given back at the end."""

from __future__ import annotations

import copy
import heapq
from collections import deque
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import ref

import trio

from dmqnode import questions
from dmqnode.background import Background
from dmqnode.errors import DMQError, PartlyFailed, StaleReceipt, UsageError
from dmqnode.line import Line
from dmqnode.messages import Delivered
from dmqnode.received import unpack

if TYPE_CHECKING:
    from dmqnode.client import Client, Message

WAIT = 20.0
"""Seconds that one receive waits."""
EXTENDED_AFTER, TRIED_AFTER = 1 / 2, 1 / 8
"""Parts of a visibility after which it is extended, and after which once more if that failed."""
SHORTEST_PAUSE = 0.05
"""Seconds between two extensions, at least."""
EXTENDED_AT_ONCE = 32
"""Deliveries whose visibility is being extended at the same time, at most: where nobody leads a partition
the answer takes long, and the others' visibility does not wait for it."""
GIVING_BACK = 5.0
"""Seconds that leaving takes at most to give back what was taken ahead."""


class Consumer:
    """An `async with` block whose value is an endless async iterator of messages.

        async with client.consume("orders") as stream:
            async for message in stream:
                await message.ack()

    Up to `prefetch` messages are taken ahead.  The visibility of every message is extended when half of it
    is over, as long as it waits to be handed over, or is held: neither acked nor nacked, and the object
    not yet let go of.  Several tasks may iterate over one consumer.  Leaving the block, by cancelling too,
    gives back what was taken and not handed over; what was handed over stays with its holder, but its
    visibility is extended no more.

    Errors: those of `receive`, raised by the iteration after what was taken ahead is handed over;
    UsageError where a task iterates outside of the block, or still does when it ends.
    """

    def __init__(
        self,
        client: Client,
        line: Line,
        cls: type[Message],
        queue: str,
        prefetch: int,
        visibility: float | None,
    ) -> None:
        if prefetch < 1:
            raise UsageError(f"prefetch is {prefetch}; it must be at least 1")
        questions.receiving(queue, prefetch, WAIT, visibility, "")
        self._client = client
        self._line = line
        self._cls = cls
        self._queue = queue
        self._prefetch = prefetch
        self._visibility = visibility
        self._background = Background()
        self._ahead: deque[Message] = deque()
        self._taken = trio.Event()
        self._came = trio.Event()
        self._failure: DMQError | None = UsageError(
            "a consumer takes nothing yet; use it in: async with client.consume(…) as stream"
        )
        self._held: list[tuple[float, int, _Held]] = []
        """Heap of deliveries by when they are to be extended."""
        self._order = count()
        self._earlier = trio.Event()
        self._places = trio.Semaphore(EXTENDED_AT_ONCE)

    async def __aenter__(self) -> Consumer:
        await self._background.open()
        self._failure = None
        self._background.start(self._take)
        self._background.start(self._extend)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._background.close()
        finally:
            left, self._ahead = list(self._ahead), deque()
            self._failure = self._failure or UsageError("the block of this consumer has ended; begin another")
            self._came.set()
        if left:
            with trio.move_on_after(GIVING_BACK, shield=True):
                try:
                    await self._client.nack(left)
                except DMQError:
                    # Then they come again when their visibility ends, as after a crash.
                    pass

    def __aiter__(self) -> Consumer:
        return self

    async def __anext__(self) -> Message:
        """Return the next message, waiting for it.  Cancelling takes none."""
        await trio.lowlevel.checkpoint()
        while not self._ahead:
            if self._failure is not None:
                # Each task gets one of its own, for it is raised with a traceback of its own.
                raise copy.copy(self._failure)
            if self._came.is_set():  # else others wait for this very event
                self._came = trio.Event()
            await self._came.wait()
        self._taken.set()
        return self._ahead.popleft()

    # --- taking ahead --------------------------------------------------------------------------------

    async def _take(self) -> None:
        try:
            while True:
                while len(self._ahead) > self._prefetch // 2:
                    self._taken = trio.Event()
                    await self._taken.wait()
                await self._take_once(self._prefetch - len(self._ahead))
        except DMQError as error:
            self._failure = error
            self._came.set()

    async def _take_once(self, most: int) -> None:
        request = questions.receiving(self._queue, most, WAIT, self._visibility, "")
        waiter = await self._line.start_receive(request, WAIT)
        delivered: Delivered = await self._line.wait(waiter)
        messages = unpack(self._cls, self._client, delivered.queue, delivered.parts)
        if messages:
            self._ahead += messages
            self._came.set()
            self._hold(_Held(delivered.visibility, messages))

    # --- extending -----------------------------------------------------------------------------------

    def _hold(self, held: _Held, part: float = EXTENDED_AFTER) -> None:
        due = trio.current_time() + max(SHORTEST_PAUSE, held.visibility * part)
        heapq.heappush(self._held, (due, next(self._order), held))
        self._earlier.set()

    async def _extend(self) -> None:
        while True:
            self._earlier = trio.Event()
            due = self._held[0][0] if self._held else float("inf")
            if due > trio.current_time():
                with trio.move_on_at(due):
                    await self._earlier.wait()
                continue
            held = heapq.heappop(self._held)[2]
            await self._places.acquire()
            self._background.start(partial(self._extend_again, held))

    async def _extend_again(self, held: _Held) -> None:
        try:
            if part := await self._extend_one(held):
                self._hold(held, part)
        finally:
            self._places.release()

    async def _extend_one(self, held: _Held) -> float:
        """Extend what is still held of a delivery.

        Returns after which part of its visibility to do so again; 0.0 if nothing is held any more.
        """
        messages = held.present()
        if not messages:
            return 0.0
        try:
            await self._client.extend(messages, held.visibility)
        except PartlyFailed as error:
            # The others' leader was away, or did not answer: they are still ours.
            stale = [at for at, why in error.failures if isinstance(why, StaleReceipt)]
            self._lose([messages[at] for at in stale])
            return EXTENDED_AFTER if len(stale) == len(error.failures) else TRIED_AFTER
        except StaleReceipt:
            self._lose(messages)
        except DMQError:
            # The node is not to be reached; perhaps next time.
            return TRIED_AFTER
        return EXTENDED_AFTER

    def _lose(self, messages: list[Message]) -> None:
        """These are others' now: do not hand them over, extend them no more."""
        for message in messages:
            message.settled = True
        self._ahead = deque(m for m in self._ahead if not m.settled)
        self._taken.set()


class _Held:
    """The messages of one delivery, as long as anybody holds them."""

    __slots__ = ("_messages", "visibility")

    def __init__(self, visibility: float, messages: list[Message]) -> None:
        self.visibility = visibility
        self._messages = [ref(m) for m in messages]

    def present(self) -> list[Message]:
        """Return those that somebody holds and has not settled."""
        found = [m for r in self._messages if (m := r()) is not None and not m.settled]
        self._messages = [ref(m) for m in found]
        return found
