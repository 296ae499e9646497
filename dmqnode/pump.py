"""Drives a client's core over one blocking socket, whenever somebody waits for an outcome."""

from __future__ import annotations

import math
import select
import socket
import time
from typing import Any, TypeVar

from dmqnode.asking import Asking
from dmqnode.batch import Batch
from dmqnode.calls import Call, LaneKey
from dmqnode.errors import DMQError, UsageError
from dmqnode.introduction import reason
from dmqnode.messages import Delivered, Message
from dmqnode.outgoing import Columns
from dmqnode.questions import Question

CONNECT_TIMEOUT = 5.0
"""Seconds that one dial may take."""
READ_SIZE = 1 << 20
PARTING = 0.5
"""Seconds that closing takes at most to give back what nobody took."""
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


class Pump:
    """A core with a socket.  For one thread.

    Arguments:
        core: new.
    """

    def __init__(self, core: Asking) -> None:
        self._core = core
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._out = memoryview(b"")
        self._closed = False

    def close(self) -> None:
        """Give back what was received and not handed over (PARTING seconds at most), and hang up."""
        self._closed = True
        try:
            limit = time.monotonic() + PARTING
            while self._socket is not None and self._core.parting and time.monotonic() < limit:
                self._step(limit)
        finally:
            self._hang_up()

    # --- calls ---------------------------------------------------------------------------------------

    @property
    def batch_bytes(self) -> int:
        """How many bytes of bodies a batch should have."""
        return self._core.link.batch_bytes

    def run(self, question: Question[T]) -> T:
        """Ask what `question` asks; return its result."""
        deadline = time.monotonic() + self._core.timeout
        answer: Any = None
        while True:
            try:
                request = question.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = self.wait(self.start(request, deadline))

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
            raise UsageError("this client is closed; connect again")
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

    def nudge(self) -> None:
        """Write what can be written and take in what has come, without waiting."""
        self._step(-math.inf)

    # --- one turn of the crank -----------------------------------------------------------------------

    def _step(self, limit: float) -> None:
        """Do what can be done now; if that is nothing, wait for the socket or the next deadline.

        Arguments:
            limit: when to stop waiting; in the past: do not wait.
        """
        core, now = self._core, time.monotonic()
        core.tick(now)
        if self._hand_out():
            return
        if self._socket is None:
            if core.wants_connection and core.dial_at <= now:
                if limit != -math.inf:
                    self._dial(now)
            else:
                self._sleep(now, limit)
        else:
            if core.silent:
                # Nobody has read for a while: learn of the node's hanging up before something is risked.
                self._read(now)
            if not core.link.ended:
                self._write(now)
            if not core.link.ended and not self._hand_out():
                self._wait_and_read(now, min(limit, core.next_deadline()))
        if self._socket is not None and core.link.ended:
            self._hang_up()
        self._hand_out()

    def _sleep(self, now: float, limit: float) -> None:
        until = min(limit, self._core.next_deadline())
        if self._core.wants_connection:
            until = min(until, self._core.dial_at)
        if until > now:
            time.sleep(min(_FOR_EVER, until - now))

    def _dial(self, now: float) -> None:
        core = self._core
        patience = max(0.01, min(CONNECT_TIMEOUT, core.next_deadline() - now))
        try:
            connected = socket.create_connection(core.dialling.address, patience)
        except OSError as error:
            core.dial_failed(time.monotonic(), reason(error))
            return
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)
        self._socket = connected
        self._out = memoryview(b"")
        core.connected(time.monotonic())

    def _hang_up(self) -> None:
        gone, self._socket = self._socket, None
        if gone is not None:
            gone.close()
            self._core.disconnected(time.monotonic(), "the connection was closed")

    def _write(self, now: float) -> None:
        assert self._socket is not None
        if not self._out:
            self._out = memoryview(self._core.data_to_send(now))
        try:
            while self._out:
                self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._core.broken(reason(error))

    def _read(self, now: float) -> bool:
        """Take in what has come; tell whether anything has."""
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            self._core.broken(reason(error))
            return True
        self._core.receive_data(now, data)
        return True

    def _wait_and_read(self, now: float, until: float) -> None:
        assert self._socket is not None
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
        try:
            self._poll.poll(math.ceil(max(0.0, min(_FOR_EVER, until - now)) * 1000))
        finally:
            self._poll.unregister(self._socket)
        self._read(time.monotonic())

    def _hand_out(self) -> bool:
        """Bring outcomes to their slots; tell whether there were any: then somebody need wait no longer."""
        outcomes = self._core.take_outcomes()
        for slot, value, error in outcomes:
            slot.value, slot.error, slot.done = value, error, True
            slot.call = None  # which knows the slot: whole batches would wait for the garbage collector
        return bool(outcomes)
