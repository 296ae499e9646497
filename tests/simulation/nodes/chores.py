"""More that clients of whole nodes do: with fifo and dead-letter queues, purges, growth, pauses, repetitions.

The seeds that draw these are others than those of `errands`, which mean what they meant.  All time is virtual
(MockClock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import trio

from dmqnode.client import Client, Message
from dmqnode.errors import DMQError, PartlyFailed, Refused, Unavailable, Unknown
from tests.simulation.nodes.accounts import ATTEMPTS
from tests.simulation.nodes.errands import QUEUES, TIMEOUT, Errands

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEAD = "dead"
GROWN = "grown"
SWEPT = "swept"
KINDS = ("plain", "line", "line", "line", "named", "named", "spent", "spent", SWEPT, GROWN)
"""What is sent, as often as it is named here."""


class Chores(Errands):
    """Errands, with queues of every kind."""

    queues: ClassVar = {
        **QUEUES,
        "line": {"ordering": "fifo"},
        DEAD: {},
        "spent": {"dead_letter": DEAD, "max_attempts": ATTEMPTS},
        SWEPT: {"partitions": 2},
        GROWN: {},
    }
    waits = (0.0, 0.0, 0.3)

    # --- sending -------------------------------------------------------------------------------------

    async def _send(self, client: Client, producer: int) -> None:
        match self._rng.choice(KINDS):
            case "plain":
                await super()._send(client, producer)
            case "line":
                await self._send_in_line(client, producer)
            case "named":
                await self._send_twice(client)
            case queue:
                await self._send_to(client, queue)

    async def _send_to(self, client: Client, queue: str) -> None:
        """Send to a queue; what is swept waits or expires sometimes, so that a purge finds some of it."""
        accounts, swept = self._world.accounts, queue == SWEPT
        delay, ttl = self._rng.choice(((1.5, None), (2.5, None), (None, 1.5))) if swept else (None, None)
        sent = [accounts.new(queue, delay or 0.0) for _ in range(self._rng.choice((1, 3)))]
        for message in sent:
            message.ttl = ttl or 0.0
        bodies = [m.body for m in sent]
        accounts.outcome(
            sent, await outcome_of(lambda: client.send_many(queue, bodies, delay=delay, ttl=ttl))
        )

    async def _send_in_line(
        self,
        client: Client,
        producer: int,
        queue: str = "line",
        groups: tuple[str | None, ...] = ("red", "green", None),
    ) -> None:
        """Send to a fifo queue, each after the outcome of the one before."""
        accounts = self._world.accounts
        group = self._rng.choice(groups)
        sent = [accounts.new(queue, 0.0) for _ in range(self._rng.choice((1, 1, 4)))]
        accounts.fates.line_up(sent, producer, group, client)
        bodies = [m.body for m in sent]
        accounts.outcome(sent, await outcome_of(lambda: client.send_many(queue, bodies, group=group)))

    async def _send_twice(self, client: Client) -> None:
        """Send under a name, and again through another node, whatever became of it: that is stored once."""
        accounts = self._world.accounts
        queue = self._rng.choice(("wide", "plain"))
        (sent,) = [accounts.new(queue, 0.0)]
        sent.named = True
        name = f"name {sent.number}"
        found = [await outcome_of(lambda: client.send(queue, sent.body, dedup_id=name))]
        await trio.sleep(self._rng.choice((0.0, 0.1, 2.0)))
        async with self.client("again") as other:
            found.append(await outcome_of(lambda: other.send(queue, sent.body, dedup_id=name)))
        outcome = next((o for o in ("stored", "unknown") if o in found), "not stored")
        accounts.outcome([sent], outcome)

    # --- settling ------------------------------------------------------------------------------------

    async def _settle(self, client: Client, queue: str, messages: list[Message]) -> None:
        if queue != "spent" or self._world.calm or self._rng.random() < 0.5:
            await super()._settle(client, queue, messages)
            return
        accounts = self._world.accounts
        for message in [accounts.received(bytes(m.body), queue) for m in messages]:
            message.buried = True
        try:
            await client.nack(messages, dead_letter=True, reason="spoilt")
            accounts.counts["buried"] += len(messages)
        except DMQError as error:
            self._world.note("bury", queue, error)

    # --- operators -----------------------------------------------------------------------------------

    async def operate(self) -> None:
        """Purge, let grow, pause and resume, until it is calm; leave nothing paused."""
        self.producing += 1
        partitions = 1
        while not self._world.calm:
            await trio.sleep(self._rng.uniform(1.0, 5.0))
            await self._rest()
            async with self.client("operator") as client:
                match self._rng.choice(("purge", "grow", "pause")):
                    case "purge":
                        await self._purge(client)
                    case "grow":
                        partitions = min(partitions + self._rng.choice((1, 3)), 8)
                        await self._insist(client, lambda c: c.set_queue(GROWN, partitions=partitions))  # noqa: B023
                    case "pause":
                        await self._insist(client, lambda c: c.pause_queue(SWEPT))
                        await trio.sleep(self._rng.uniform(0.5, 2.0))
                        await self._insist(client, lambda c: c.resume_queue(SWEPT))
        self.producing -= 1

    async def _purge(self, client: Client) -> None:
        fates = self._world.accounts.fates
        sweep = fates.sweep(SWEPT)
        try:
            await client.purge_queue(SWEPT)
            fates.swept(sweep, certain=True)
        except DMQError as error:
            self._world.note("purge", error)
            fates.swept(sweep, certain=False)

    async def _done(self, command: Awaitable[object]) -> bool:
        try:
            await command
        except DMQError as error:
            self._world.note("operate", error)
            return False
        return True

    async def _insist(self, client: Client, command: Callable[[Client], Awaitable[object]]) -> None:
        """Have a command done, however often that takes.  Errors: Broken, if it is in vain in calm times."""
        since = None
        while True:
            if await self._done(command(client)):
                return
            if self._world.calm:
                since = trio.current_time() if since is None else since
                if trio.current_time() > since + 3 * TIMEOUT:
                    self._world.accounts.broken("P7", "unusable", "a queue cannot be set")
                # All whose addresses it has may have burned.
                async with self.client("operator") as other:
                    if await self._done(command(other)):
                        return
            await trio.sleep(0.5)


async def outcome_of(send: Callable[[], Awaitable[object]]) -> str:
    """Send, and tell what became of it."""
    try:
        await send()
    except (PartlyFailed, Unknown):
        return "unknown"
    except (Refused, Unavailable):
        return "not stored"
    return "stored"
