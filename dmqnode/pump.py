"""Drives a client's core over sockets, whenever somebody waits for an outcome."""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from dmqnode.asking import Asking
from dmqnode.batch import Batch
from dmqnode.calls import Call, LaneKey, stored_ids
from dmqnode.errors import DMQError, UsageError
from dmqnode.introduction import reason
from dmqnode.messages import Delivered, Message, Stored
from dmqnode.outcomes import CLOSED
from dmqnode.outgoing import PIPELINE, Columns, Outgoing, Sent, cut
from dmqnode.questions import Question, proceed
from dmqnode.route import Route

CONNECT_TIMEOUT = 5.0
"""Seconds that one dial may take."""
DIRECT_TIMEOUT = 1.0
"""The same to a leader: meanwhile everything goes as it did before."""
READ_SIZE = 1 << 20
PARTING = 0.5
"""Seconds that closing takes at most to give back what nobody took."""
SHORT = 0.1
"""Seconds between two turns that are not worth being made up for."""
_FOR_EVER = 3600.0

T = TypeVar("T")


class Slot:
    """Where the outcome of one call arrives."""

    __slots__ = ("call", "done", "error", "value")

    def __init__(self) -> None:
        self.call: Call | None = None
        self.done = False
        self.value: Any = None
        self.error: DMQError | None = None


class _Wire:
    """The socket of a route."""

    __slots__ = ("begun", "connecting", "out", "route", "socket")

    def __init__(self, route: Route, socket_: socket.socket, now: float) -> None:
        self.route = route
        self.socket = socket_
        self.begun = now
        self.connecting = True
        self.out = memoryview(b"")


class Pump:
    """A core with its sockets.  For one thread.

    Arguments:
        core: new.
    """

    def __init__(self, core: Asking) -> None:
        self._core = core
        self._wires: list[_Wire] = []
        self._poll = select.poll()
        self._closed = False
        self._turned = time.monotonic()
        """When the latest turn ended."""

    def close(self) -> None:
        """Give back what was received and not handed over (PARTING seconds at most), and hang up."""
        self._closed = True
        self._core.end(time.monotonic())
        self._hand_out()
        try:
            limit = time.monotonic() + PARTING
            while self._core.routes.parting and time.monotonic() < limit:
                self._step(limit)
        finally:
            for wire in list(self._wires):
                if wire.connecting:
                    self._not_connected(wire, "the client was closed")
                else:
                    self._hang_up(wire)

    # --- calls ---------------------------------------------------------------------------------------

    @property
    def batch_bytes(self) -> int:
        """How many bytes of bodies a batch should have."""
        return self._core.routes.batch_bytes

    def run(self, question: Question[T]) -> T:
        """Ask what `question` asks; return its result."""
        deadline = time.monotonic() + self._core.timeout
        answer: Any = None
        while True:
            try:
                request = proceed(question, answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            try:
                answer = self.wait(self.start(request, deadline))
            except DMQError as error:
                answer = error

    def start(self, request: Message, deadline: float | None = None) -> Slot:
        """Begin to ask `request`, to be answered until `deadline`."""
        slot, now = self._slot(), time.monotonic()
        slot.call = self._core.ask(now, request, slot, deadline)
        return slot

    def start_receive(self, request: Message, wait: float) -> Slot:
        """Begin to receive; the time that it waits for messages comes on top of the client's timeout."""
        return self.start(request, time.monotonic() + wait + self._core.timeout)

    def start_batch(self, key: LaneKey, batch: Batch) -> Slot:
        """Begin to send a batch."""
        slot, now = self._slot(), time.monotonic()
        slot.call = self._core.send_batch(now, key, batch, slot)
        return slot

    def start_send(self, key: LaneKey, body: bytes, columns: Columns) -> Slot:
        """Begin to send one message."""
        slot, now = self._slot(), time.monotonic()
        slot.call = self._core.send(now, key, body, columns, slot)
        return slot

    def _slot(self) -> Slot:
        if self._closed:
            raise UsageError(CLOSED)
        return Slot()

    def wait(self, slot: Slot) -> Any:
        """Return the outcome of a call.

        An exception from outside (Ctrl-C) ends the wait, and the call is withdrawn.

        Errors: the call's.
        """
        try:
            while not slot.done:
                self._step(math.inf)
        except BaseException:
            self.withdraw(slot)
            raise
        if slot.error is not None:
            raise slot.error
        return slot.value

    def withdraw(self, slot: Slot) -> None:
        """Nobody waits for the call any more; messages that it has brought are given back."""
        if isinstance(slot.value, Delivered):
            self._core.give_back(time.monotonic(), slot.value)
            slot.value = None
        elif not slot.done and slot.call is not None:
            self._core.withdraw(slot.call, slot)
        slot.call = None

    def batches(
        self, key: LaneKey, bodies: Iterable[bytes | Outgoing], shared: Columns, *, stops: bool
    ) -> Iterator[Sent]:
        """Send bodies as `cut` does; yield what became of each batch, PIPELINE of them under way.

        A body or option that cannot be ends the sending: it is the last that is told of.

        Arguments:
            stops: none is sent behind one that failed.
        """
        window: deque[tuple[int, Slot]] = deque()
        last: list[Sent] = []
        try:
            for batch in cut(bodies, shared, lambda: self.batch_bytes):
                if isinstance(batch, UsageError):
                    last.append((1, [], batch))
                    break
                try:
                    window.append((batch.count, self.start_batch(key, batch)))
                except UsageError as error:
                    last.append((batch.count, [], error))
                    break
                self.nudge()
                if len(window) >= PIPELINE:
                    outcome = self._sent(*window.popleft())
                    yield outcome
                    if stops and outcome[2] is not None:
                        break
            while window:
                yield self._sent(*window.popleft())
            yield from last
        finally:
            for _, slot in window:
                self.withdraw(slot)

    def _sent(self, count: int, slot: Slot) -> Sent:
        try:
            stored: Stored = self.wait(slot)
        except DMQError as error:
            return count, [], error
        return count, stored_ids(stored), None

    def nudge(self) -> None:
        """Write what can be written and take in what has come, without waiting."""
        self._step(-math.inf)

    # --- one turn of the crank -----------------------------------------------------------------------

    def _step(self, limit: float) -> None:
        """Take a turn, before which calls lose no time in which no method ran and nothing could be read."""
        now = time.monotonic()
        if now - self._turned > SHORT:
            self._core.postpone(self._turned, now)
        try:
            self._turn(limit)
        finally:
            self._turned = time.monotonic()

    def _turn(self, limit: float) -> None:
        """Do what can be done now; if that is nothing, wait for a socket or the next deadline.

        Arguments:
            limit: when to stop waiting; in the past: do not wait.
        """
        core, now = self._core, time.monotonic()
        core.tick(now)
        if self._hand_out():
            return
        if core.wants_connection and core.dial_at <= now:
            if limit != -math.inf:
                self._dial(now)
        elif not self._wires:
            time.sleep(max(0.0, min(_FOR_EVER, self._next(limit) - now)))
        else:
            core.routes.take_stirred()
            for wire in self._wires:
                if not wire.connecting:
                    self._exchange(wire, now)
            if not (self._hand_out() or core.routes.take_stirred() or self._ended()):
                self._wait_and_read(now, self._next(limit))
        for wire in self._ended():
            self._hang_up(wire)
        self._hand_out()
        if core.routes.wanted and not self._closed:
            for route in core.routes.open_routes(now):
                self._go_directly(route, now)

    def _ended(self) -> list[_Wire]:
        return [wire for wire in self._wires if not wire.connecting and wire.route.ended]

    def _next(self, limit: float) -> float:
        """Return until when to wait for the sockets at most."""
        dial_at = self._core.dial_at if self._core.wants_connection else math.inf
        return min(limit, self._core.next_deadline(), dial_at)

    def _exchange(self, wire: _Wire, now: float) -> None:
        if not wire.route.under_way:
            # Nobody has read for a while: learn of the node's hanging up, behind what it said before, while
            # nothing is at risk.
            while not wire.route.ended and self._read(wire, now):
                pass
        if not wire.route.ended:
            self._write(wire, now)

    def _dial(self, now: float) -> None:
        core = self._core
        longest = DIRECT_TIMEOUT if self._wires else CONNECT_TIMEOUT
        patience = max(0.01, min(longest, core.next_deadline() - now))
        try:
            connected = socket.create_connection(core.dialling.address, patience)
        except OSError as error:
            core.dial_failed(time.monotonic(), reason(error))
            return
        connected.setblocking(False)
        self._wires.append(wire := _Wire(core.home, connected, now))
        self._connected(wire)

    def _go_directly(self, route: Route, now: float) -> None:
        """Begin to dial a leader, whose address is a number: to look a name up may take long."""
        host, port = route.link.dialling.address
        flags = 0 if host == "localhost" else socket.AI_NUMERICHOST
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=flags
            )[0]
            connecting = socket.socket(family, kind, protocol)
        except OSError as error:
            self._core.dial_failed(now, reason(error), route)
            return
        connecting.setblocking(False)
        self._wires.append(wire := _Wire(route, connecting, now))
        try:
            connecting.connect(address)
        except BlockingIOError:
            pass
        except OSError as error:
            self._not_connected(wire, reason(error))

    def _connected(self, wire: _Wire) -> None:
        wire.connecting = False
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._core.connected(time.monotonic(), wire.route)

    def _not_connected(self, wire: _Wire, why: str) -> None:
        self._wires.remove(wire)
        wire.socket.close()
        self._core.dial_failed(time.monotonic(), why, wire.route)

    def _hang_up(self, wire: _Wire) -> None:
        self._wires.remove(wire)
        wire.socket.close()
        self._core.disconnected(time.monotonic(), "the connection was closed", wire.route)

    def _write(self, wire: _Wire, now: float) -> None:
        if not wire.out:
            wire.out = memoryview(self._core.data_to_send(now, wire.route))
        try:
            while wire.out:
                wire.out = wire.out[wire.socket.send(wire.out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            wire.route.link.broken(reason(error))

    def _read(self, wire: _Wire, now: float) -> bool:
        """Take in what has come; tell whether there was anything, were it the end."""
        try:
            data = wire.socket.recv(READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            wire.route.link.broken(reason(error))
            return True
        self._core.receive_data(now, data, wire.route)
        return True

    def _wait_and_read(self, now: float, until: float) -> None:
        until = min(until, *(w.begun + DIRECT_TIMEOUT if w.connecting else math.inf for w in self._wires))
        for wire in self._wires:
            writes = wire.connecting or wire.out
            self._poll.register(wire.socket, select.POLLIN | (select.POLLOUT if writes else 0))
        try:
            found = dict(self._poll.poll(math.ceil(max(0.0, min(_FOR_EVER, until - now)) * 1000)))
        finally:
            for wire in self._wires:
                self._poll.unregister(wire.socket)
        now = time.monotonic()
        for wire in list(self._wires):
            events = found.get(wire.socket.fileno(), 0)
            if wire.connecting:
                self._see_whether_connected(wire, now, events)
            elif events & ~select.POLLOUT:
                self._read(wire, now)

    def _see_whether_connected(self, wire: _Wire, now: float, events: int) -> None:
        if events:
            error = wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._not_connected(wire, os.strerror(error).lower())
            else:
                self._connected(wire)
        elif now >= wire.begun + DIRECT_TIMEOUT:
            self._not_connected(wire, "no answer to the dial")

    def _hand_out(self) -> bool:
        """Bring outcomes to their slots; tell whether there were any: then somebody need wait no longer."""
        outcomes = self._core.take_outcomes()
        for slot, value, error in outcomes:
            slot.value, slot.error, slot.done = value, error, True
            slot.call = None  # which knows the slot: whole batches would wait for the garbage collector
        return bool(outcomes)
