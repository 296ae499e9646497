"""All that clients of whole nodes do: also with groups, several lines, times to live, extensions, and ahead.

The seeds that draw these are others than those of `errands` and `chores`.  All time is virtual (MockClock).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from dmqnode.client import Client, Message
from dmqnode.errors import DMQError, PartlyFailed
from dmqnode.received import many
from tests.simulation.nodes.chores import Chores, outcome_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LANES = "lanes"
GROUPED = "grouped"
MORE = (LANES, LANES, GROUPED, GROUPED, "brief", *("chore",) * 5)
"""What is sent, as often as it is named here."""
AHEAD = 0.3
"""How often a consumer takes ahead."""
LONGER = 0.2
"""How often it asks for more time, or less."""


class Labours(Chores):
    """Chores, and more."""

    queues: ClassVar = {
        **Chores.queues,
        LANES: {"ordering": "fifo", "partitions": 3},
        GROUPED: {"partitions": 2},
    }

    _settled = 0
    """How often something came and was settled."""

    def client(self, host: str) -> Client:
        """Return a client of whose extensions the accountant hears."""
        client = super().client(host)
        told: Any = client
        told.extend = partial(self._extend, client.extend)
        return client

    # --- sending -------------------------------------------------------------------------------------

    async def _send(self, client: Client, producer: int) -> None:
        match self._rng.choice(MORE):
            case "lanes":
                # Between partitions there is no order, so without a group there is none here.
                await self._send_in_line(client, producer, LANES, ("red", "green", "blue"))
            case "grouped":
                await self._send_together(client, producer)
            case "brief":
                await self._send_briefly(client)
            case _:
                await super()._send(client, producer)

    async def _send_together(self, client: Client, producer: int) -> None:
        """Send to a group of a queue that is not fifo, each after the outcome of the one before."""
        accounts = self._world.accounts
        group = self._rng.choice(("red", "green"))
        sent = [accounts.new(GROUPED, 0.0) for _ in range(self._rng.choice((1, 1, 4)))]
        accounts.fates.gather(sent, producer, group)
        bodies = [m.body for m in sent]
        accounts.outcome(sent, await outcome_of(lambda: client.send_many(GROUPED, bodies, group=group)))

    async def _send_briefly(self, client: Client) -> None:
        """Send what may expire before anybody takes it."""
        accounts = self._world.accounts
        queue, ttl = self._rng.choice(("plain", "wide")), self._rng.choice((0.3, 2.0, 6.0))
        sent = [accounts.new(queue, 0.0) for _ in range(self._rng.choice((1, 3)))]
        for message in sent:
            message.ttl = ttl
        bodies = [m.body for m in sent]
        accounts.outcome(sent, await outcome_of(lambda: client.send_many(queue, bodies, ttl=ttl)))

    # --- receiving -----------------------------------------------------------------------------------

    async def _receive(self, client: Client, queue: str) -> None:
        if self._world.calm:
            before = -1
            while before < self._settled:  # of a group only one comes at a time, and many may be left
                before = self._settled
                await super()._receive(client, queue)
        elif self._rng.random() < AHEAD:
            await self._take_ahead(client, queue)
        else:
            await super()._receive(client, queue)

    async def _take_ahead(self, client: Client, queue: str) -> None:
        """Take from a stream for a while; what was taken ahead then is given back."""
        prefetch, visibility = self._rng.choice((1, 5, 40)), self._rng.choice((None, 1.5))
        self._world.accounts.counts["ahead"] += 1
        with trio.move_on_after(self._rng.choice((0.3, 1.0, 4.0))):
            try:
                async with client.consume(queue, prefetch, visibility) as stream:
                    async for message in stream:
                        await self._settle(client, queue, [message])
            except DMQError as error:
                self._world.note("ahead", queue, error)

    async def _settle(self, client: Client, queue: str, messages: list[Message]) -> None:
        if not self._world.calm and self._rng.random() < LONGER:
            try:
                await client.extend(messages, self._rng.choice((1.0, 6.0, 10.0)))
                await trio.sleep(self._rng.choice((0.0, 0.0, 2.0, 5.0)))
            except DMQError as error:
                self._world.note("extend", queue, error)
        await super()._settle(client, queue, messages)
        self._settled += 1

    async def _extend(self, extend: Callable[..., Awaitable[None]], messages: Any, seconds: float) -> None:
        """Extend, and tell the accountant what was asked and what was answered."""
        accounts, messages = self._world.accounts, many(messages)
        until = trio.current_time() + seconds
        held = [accounts.find(bytes(m.body)) for m in messages]
        marks = [accounts.extending(sent, seconds) for sent in held]
        failed: set[int] = set()
        try:
            await extend(messages, seconds)
        except PartlyFailed as partly:
            failed = {at for at, _ in partly.failures}
            raise
        except BaseException:
            failed = set(range(len(held)))
            raise
        finally:
            for n, (sent, mark) in enumerate(zip(held, marks, strict=True)):
                if n not in failed:
                    accounts.extended(sent, until, mark)
