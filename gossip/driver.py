"""A `Swim` with a clock, a socket and a way to exchange states. It decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from gossip.effects import Event, PushPull, SendPacket
from gossip.messages import NodeId
from gossip.swim import Swim
from gossip.transport import Datagrams, ExchangeStates, Unreachable

EXCHANGES_LIMIT = 8
"""Exchanges that this node has begun at one time; further ones are dropped, the core asks again."""
EXCHANGE_TIMEOUT = 2.0
"""Seconds after which an exchange is given up."""
FAREWELL_TIME = 0.05
"""Seconds for the last packets to leave."""


class Membership:
    """Runs one node's membership.

    Arguments:
        swim: made with `trio.current_time()`, of the same clock.
        datagrams: the socket.
        exchange: carries states over TCP; the other node has its `answer` called with what arrives.
        tell: called with every event, in order; must not wait.
    """

    def __init__(
        self, swim: Swim, datagrams: Datagrams, exchange: ExchangeStates, tell: Callable[[Event], None]
    ) -> None:
        self.swim = swim
        self.exchanges_dropped = 0
        self._datagrams = datagrams
        self._exchange = exchange
        self._tell = tell
        self._exchanging = 0
        self._nursery: trio.Nursery | None = None
        self._wake = trio.Event()
        self._sleeping_until = -math.inf

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; the others then find this node dead, unless `stop` came before."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._datagrams.run)
            nursery.start_soon(self._receive)
            nursery.start_soon(self._keep_time)
            task_status.started()

    # --- what the node calls -----------------------------------------------------------------------------

    def answer(self, state: bytes) -> bytes:
        """Answer a state that came over TCP."""
        reply = self.swim.answer(trio.current_time(), state)
        self._perform()
        return reply

    def meet(self, address: str) -> None:
        """Exchange states with an address out of turn: a connection to it came up, say."""
        self._push_pull(address)

    def probe_now(self, node: NodeId) -> None:
        """Look at once whether a member is still there."""
        self.swim.probe_now(trio.current_time(), node)
        self._perform()

    def describe(
        self, *, zone: str | None = None, weight: float | None = None, meta: bytes | None = None
    ) -> None:
        """Change what this node says of itself. Errors: InvalidSetting."""
        self.swim.describe(trio.current_time(), zone=zone, weight=weight, meta=meta)
        self._perform()

    def forget(self, node: NodeId) -> None:
        """Tell everybody that a member is gone for good, as was decided elsewhere."""
        self.swim.forget(trio.current_time(), node)
        self._perform()

    async def stop(self) -> None:
        """Tell the others that this node stops; returns when that has left."""
        self.swim.stop(trio.current_time())
        self._perform()
        await trio.sleep(FAREWELL_TIME)

    async def leave(self) -> None:
        """Tell the others that this node leaves for good; returns when that has left."""
        self.swim.leave(trio.current_time())
        self._perform()
        await trio.sleep(FAREWELL_TIME)

    # --- turning the crank -------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            sender, data = await self._datagrams.receive()
            self.swim.receive(trio.current_time(), sender, data)
            self._perform()

    async def _keep_time(self) -> None:
        while True:
            self._wake = trio.Event()
            self._sleeping_until = self.swim.next_deadline()
            with trio.move_on_at(self._sleeping_until):
                await self._wake.wait()
            self._sleeping_until = -math.inf
            if self.swim.next_deadline() <= trio.current_time():
                self.swim.tick(trio.current_time())
                self._perform()

    def _perform(self) -> None:
        for effect in self.swim.take_effects():
            match effect:
                case SendPacket():
                    self._datagrams.send(effect.address, effect.data)
                case PushPull():
                    self._push_pull(effect.address)
                case _:
                    self._tell(effect)
        if self.swim.next_deadline() < self._sleeping_until:
            self._wake.set()

    def _push_pull(self, address: str) -> None:
        if self._nursery is None or self._exchanging >= EXCHANGES_LIMIT:
            self.exchanges_dropped += 1
            return
        self._exchanging += 1
        state = self.swim.state_for_push_pull(trio.current_time())
        self._nursery.start_soon(self._carry, address, state)

    async def _carry(self, address: str, state: bytes) -> None:
        try:
            with trio.fail_after(EXCHANGE_TIMEOUT):
                reply = await self._exchange(address, state)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, Unreachable):
            return
        finally:
            self._exchanging -= 1
        self.swim.merge(trio.current_time(), address, reply)
        self._perform()
