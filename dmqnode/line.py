"""Drives a client's core over trio streams: the tasks behind a `Client`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import trio

from dmqnode.asking import Asking
from dmqnode.batch import Batch
from dmqnode.calls import Call, LaneKey, stored_ids
from dmqnode.errors import DMQError, UsageError
from dmqnode.introduction import reason
from dmqnode.messages import Delivered, Held, Message, Stored
from dmqnode.outcomes import CLOSED
from dmqnode.outgoing import PIPELINE, Columns, Outgoing, Sent, cut
from dmqnode.questions import Question, proceed
from dmqnode.route import Route

CONNECT_TIMEOUT = 5.0
"""Seconds that one dial may take."""
DIRECT_TIMEOUT = 1.0
"""The same to a leader: meanwhile everything goes as it did before."""
PARTING = 0.5
"""Seconds that leaving takes at most to give back what nobody took."""
READ_SIZE = 1 << 20

T = TypeVar("T")
Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]
Start = Callable[[Callable[[], Awaitable[object]]], None]


class Waiter:
    """Where the outcome of one call arrives, and the task that waits for it."""

    __slots__ = ("call", "done", "error", "task", "value")

    def __init__(self) -> None:
        self.call: Call | None = None
        self.done = False
        self.value: Any = None
        self.error: DMQError | None = None
        self.task: trio.lowlevel.Task | None = None

    def give_up(self, _: object) -> trio.lowlevel.Abort:
        """Its task is cancelled, and runs soon: an outcome that comes before that must not wake it again."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class _Wire:
    """The shell's side of a route: the event that wakes its writer, and what closes its connection."""

    __slots__ = ("connected", "written")

    def __init__(self) -> None:
        self.written = trio.Event()
        """Set when there may be something to write, or to connect for."""
        self.connected: trio.CancelScope | None = None

    async def something(self) -> None:
        """Wait for more to write."""
        self.written = trio.Event()
        await self.written.wait()


class Line:
    """A core with tasks that connect, read, write and keep time for it.

    Arguments:
        core: new.
        dial: opens a stream to (host, port).
    """

    def __init__(self, core: Asking, dial: Dial) -> None:
        self._core = core
        self._dial = dial
        self._home = _Wire()
        self._wires: dict[Route, _Wire] = {core.home: self._home}
        self._start: Start | None = None
        self._time = trio.Event()
        self._sleeping_until = -math.inf
        self._room = trio.Event()
        self._parted = trio.Event()
        self.closed = True
        """Whether nothing can be asked: not yet, or no more."""

    def begin(self, start: Start) -> None:
        """Begin to connect, and to keep time.

        Arguments:
            start: runs a task until the client is closed.
        """
        self._start = start
        self.closed = False
        start(self.keep_time)
        start(self.connect)

    # --- calls ---------------------------------------------------------------------------------------

    @property
    def batch_bytes(self) -> int:
        """How many bytes of bodies a batch should have."""
        return self._core.routes.batch_bytes

    async def run(self, question: Question[T]) -> T:
        """Ask what `question` asks; return its result.  Cancelling withdraws the request under way."""
        deadline = trio.current_time() + self._core.timeout
        answer: Any = None
        while True:
            try:
                request = proceed(question, answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            try:
                answer = await self.wait(await self.start(request, deadline))
            except DMQError as error:
                answer = error

    async def start(self, request: Message, deadline: float | None = None) -> Waiter:
        """Begin to ask `request`, to be answered until `deadline`; waits while too much is under way."""
        waiter = await self._waiter()
        self._begin(waiter, self._core.ask(trio.current_time(), request, waiter, deadline))
        return waiter

    async def start_receive(self, request: Message, wait: float) -> Waiter:
        """Begin to receive; the time that it waits for messages comes on top of the client's timeout."""
        return await self.start(request, trio.current_time() + wait + self._core.timeout)

    async def start_batch(self, key: LaneKey, batch: Batch) -> Waiter:
        """Begin to send a batch; waits while too much is under way."""
        waiter = await self._waiter()
        self._begin(waiter, self._core.send_batch(trio.current_time(), key, batch, waiter))
        return waiter

    async def send(self, key: LaneKey, body: bytes, columns: Columns) -> str:
        """Send one message; return its id."""
        waiter = await self._waiter() if self._core.full or self.closed else Waiter()
        self._begin(waiter, self._core.send(trio.current_time(), key, body, columns, waiter))
        id_: str = await self.wait(waiter)
        return id_

    async def ack(self, held: Held) -> None:
        """Ack one message, together with others that wait."""
        waiter = await self._waiter() if self._core.full or self.closed else Waiter()
        self._begin(waiter, self._core.ack(trio.current_time(), held, waiter))
        await self.wait(waiter)

    async def _waiter(self) -> Waiter:
        while self._core.full and not self.closed:
            if self._room.is_set():  # else others wait for this very event
                self._room = trio.Event()
            await self._room.wait()
        if self.closed and self._start is None:
            raise UsageError("this client is not open; use it in: async with dmqnode.connect(…) as client")
        if self.closed:
            raise UsageError(CLOSED)
        return Waiter()

    def _begin(self, waiter: Waiter, call: Call) -> None:
        waiter.call = call
        if self._core.routes.stirred:
            self._wake()
        if call.deadline < self._sleeping_until:
            self._time.set()

    async def wait(self, waiter: Waiter) -> Any:
        """Return the outcome of a call.  Cancelling withdraws it.

        Errors: the call's.
        """
        try:
            if waiter.done:
                await trio.lowlevel.checkpoint()
            else:
                waiter.task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(waiter.give_up)
        except BaseException:
            waiter.task = None
            self.withdraw(waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        return waiter.value

    def withdraw(self, waiter: Waiter) -> None:
        """Nobody waits for the call any more; messages that it has brought are given back."""
        if isinstance(waiter.value, Delivered):
            self._core.give_back(trio.current_time(), waiter.value)
            waiter.value = None
        elif not waiter.done and waiter.call is not None:
            self._core.withdraw(waiter.call, waiter)
        waiter.call = None
        self._wake()
        self._make_room()

    def _make_room(self) -> None:
        # Also where nobody is told of an outcome, since all who asked have withdrawn.
        if self.closed or not self._core.full:
            self._room.set()

    async def batches(
        self, key: LaneKey, bodies: Iterable[bytes | Outgoing], shared: Columns
    ) -> AsyncGenerator[Sent, None]:
        """Send bodies as `cut` does; yield what became of each batch, PIPELINE of them under way.

        A body or option that cannot be ends the sending: it is the last that is told of.
        """
        window: deque[tuple[int, Waiter]] = deque()
        last: list[Sent] = []
        try:
            for batch in cut(bodies, shared, lambda: self.batch_bytes):
                if isinstance(batch, UsageError):
                    last.append((1, [], batch))
                    break
                try:
                    window.append((batch.count, await self.start_batch(key, batch)))
                except UsageError as error:
                    last.append((batch.count, [], error))
                    break
                if len(window) >= PIPELINE:
                    yield await self._sent(*window.popleft())
            while window:
                yield await self._sent(*window.popleft())
            for sent in last:
                yield sent
        finally:
            for _, waiter in window:
                self.withdraw(waiter)

    async def _sent(self, count: int, waiter: Waiter) -> Sent:
        try:
            stored: Stored = await self.wait(waiter)
        except DMQError as error:
            return count, [], error
        return count, stored_ids(stored), None

    def _wake(self) -> None:
        for route in self._core.routes.take_stirred():
            wire = self._wires.get(route)
            if wire is not None:
                wire.written.set()
                if route.retired and route.ended and wire.connected is not None:
                    wire.connected.cancel()

    def _hand_out(self) -> None:
        outcomes = self._core.take_outcomes()
        for waiter, value, error in outcomes:
            waiter.value, waiter.error, waiter.done = value, error, True
            if waiter.task is not None:
                trio.lowlevel.reschedule(waiter.task)
                waiter.task = None
        self._make_room()
        routes = self._core.routes
        if routes.stirred:
            self._wake()
        if routes.wanted and self._start is not None and not self.closed:
            for route in routes.open_routes(trio.current_time()):
                self._start(partial(self._go_directly, route))
        if self._core.next_deadline() < self._sleeping_until:
            self._time.set()

    # --- tasks ---------------------------------------------------------------------------------------

    async def keep_time(self) -> None:
        """Call the core when something is due."""
        core = self._core
        while True:
            core.tick(trio.current_time())
            for route, wire in self._wires.items():
                wire.written.set()
                if wire.connected is not None and route.ended:
                    wire.connected.cancel()
            self._time = trio.Event()
            self._sleeping_until = -math.inf
            self._hand_out()
            self._sleeping_until = core.next_deadline()
            with trio.move_on_at(self._sleeping_until):
                await self._time.wait()

    async def connect(self) -> None:
        """Connect whenever there is something to ask, and serve each connection until its end."""
        core = self._core
        while True:
            if not core.wants_connection:
                await self._home.something()
                continue
            await trio.sleep_until(core.dial_at)
            if core.wants_connection:
                await self._connect_once(core.home, self._home, CONNECT_TIMEOUT)
                self._hand_out()

    async def _go_directly(self, route: Route) -> None:
        """Connect to a leader, once, and serve that connection until its end."""
        self._wires[route] = wire = _Wire()
        await self._connect_once(route, wire, DIRECT_TIMEOUT)
        del self._wires[route]
        self._hand_out()

    async def _connect_once(self, route: Route, wire: _Wire, patience: float) -> None:
        core = self._core
        try:
            with trio.fail_after(patience):
                stream = await self._dial(*route.link.dialling.address)
        except trio.TooSlowError:
            core.dial_failed(trio.current_time(), "no answer to the dial", route)
            return
        except OSError as error:
            core.dial_failed(trio.current_time(), reason(error), route)
            return
        core.connected(trio.current_time(), route)
        self._hand_out()
        try:
            async with trio.open_nursery() as nursery:
                wire.connected = nursery.cancel_scope
                nursery.start_soon(self._write, stream, route, wire)
                await self._read(stream, route, wire)
                nursery.cancel_scope.cancel()
        finally:
            wire.connected = None
            self._parted.set()
            core.disconnected(trio.current_time(), "the connection was closed", route)
            await trio.aclose_forcefully(stream)

    async def _read(self, stream: trio.abc.Stream, route: Route, wire: _Wire) -> None:
        core = self._core
        while not route.ended:
            try:
                data = bytes(await stream.receive_some(READ_SIZE))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                route.link.broken("the connection broke")
                return
            core.receive_data(trio.current_time(), data, route)
            self._hand_out()
            wire.written.set()
            self._parted.set()

    async def _write(self, stream: trio.abc.Stream, route: Route, wire: _Wire) -> None:
        core = self._core
        while True:
            data = core.data_to_send(trio.current_time(), route)
            if not data:
                self._hand_out()
                await wire.something()
                continue
            try:
                await stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The reader learns of it, too, after it has taken what came before.
                return

    async def part(self) -> None:
        """Tell those who still wait that the client is closed, and let what nobody took be given back.

        Waits for that for PARTING seconds at most; not to be cancelled.
        """
        self.closed = True
        self._core.end(trio.current_time())
        self._hand_out()
        with trio.move_on_after(PARTING, shield=True):
            while self._core.routes.parting:
                self._parted = trio.Event()
                await self._parted.wait()
