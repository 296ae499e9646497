"""One way by which a client asks: a connection, what waits to be written to it, what is under way on it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import cbor2

from dmqnode.calls import Call
from dmqnode.connection import State
from dmqnode.leaders import Lead
from dmqnode.link import Link
from dmqnode.messages import Message, Receive

PROMPT = 1.0
"""Seconds for which a node that is asked directly may be silent before it is asked whether it is there, and
twice that again before it is given up: there is another way."""
PATIENT = 3.0
"""The same where nothing is under way but receives, which may take long, and where the client was given
other addresses."""
SLOWEST = 256 << 10
"""Bytes that must get through in a second: who was written much may be silent for longer."""
AWAY = 0.5
"""Seconds: a client that is later than this itself does not complain of silence."""
UNWRITABLE = (cbor2.CBOREncodeError, ValueError, TypeError, OverflowError, RecursionError)
"""What the library raises for what it cannot encode: UnicodeEncodeError is a ValueError."""
IDLE = 60.0
"""Seconds after which a direct connection that nobody needs is closed."""


class Route:
    """One way by which a client asks.

    Arguments:
        link: to the node, or the nodes.
        lead: the leader whom it goes to; None: it goes to the addresses that the client was given.
    """

    def __init__(self, link: Link, lead: Lead | None = None, now: float = 0.0) -> None:
        self.link = link
        self.lead = lead
        self.waiting: deque[Call] = deque()
        self.under_way: dict[int, Call] = {}
        self.open = lead is None
        """Whether calls may take it."""
        self.opened_at = math.inf
        self.retired = False
        """Whether it is closed because nobody needs it."""
        self.stirred = False
        """Whether the shell is to be told that there is something to write."""
        self.used_at = now
        self._watched = lead is not None or len(link.dialling) > 1
        """Whether there is another way, if nothing is heard on this one."""
        self._urgent = 0
        self._unheard = 0
        """Bytes written since something was heard."""
        self._ask_at = math.inf
        self._give_up_at = math.inf

    @property
    def ended(self) -> bool:
        """Whether the connection should be closed: nothing more will come of it."""
        return self.link.ended or (self.retired and not self.under_way)

    @property
    def leaving(self) -> bool:
        """Whether nothing new should be asked on this connection, which a node ends in order."""
        connection = self.link.connection
        return connection is not None and connection.state is State.LEAVING

    # --- calls ---------------------------------------------------------------------------------------

    def data_to_send(
        self,
        now: float,
        message: Callable[[float, Call], Message],
        too_long: Callable[[Call, int], None],
        unwritable: Callable[[Call, Exception], None],
    ) -> bytes:
        """Return what is to be written now; requests wait until the node's credit allows them.

        Arguments:
            message: makes the request of a call.
            too_long: is told of a call that the node cannot read, and how long its frames may be.
            unwritable: is told of a call that cannot be made bytes, and why; the others go on.
        """
        connection = self.link.connection
        if connection is None or connection.closed:
            return b""
        waiting = self.waiting
        while waiting:
            call = waiting[0]
            try:
                call.seal()
            except UNWRITABLE as error:
                waiting.popleft()
                unwritable(call, error)
                continue
            if connection.welcome is not None and call.size > connection.max_frame:
                waiting.popleft()
                too_long(call, connection.max_frame)
                continue
            if not connection.can_send(call.size):
                break
            waiting.popleft()
            try:
                call.number = connection.request(message(now, call))
            except UNWRITABLE as error:
                unwritable(call, error)
                continue
            self.under_way[call.number] = call
            if self.lead is not None:
                self._urgent += call.kind is not Receive
            if self._watched:
                self._ask_at = min(self._ask_at, now + self._patience)
        data = connection.data_to_send()
        self._unheard += len(data)
        return data

    def answered(self, number: int) -> Call:
        """Return the call that was answered."""
        call = self.under_way.pop(number)
        if self.lead is not None:
            self._urgent -= call.kind is not Receive
        return call

    def clear(self) -> list[Call]:
        """Return every call that has no answer, those under way first, and forget them."""
        calls = [*self.under_way.values(), *self.waiting]
        self.under_way.clear()
        self.waiting.clear()
        self._urgent = self._unheard = 0
        self._ask_at = self._give_up_at = math.inf
        return calls

    # --- time ----------------------------------------------------------------------------------------

    @property
    def _patience(self) -> float:
        return (PROMPT if self._urgent else PATIENT) + self._unheard / SLOWEST

    def heard(self, now: float) -> None:
        """Something came from the node."""
        self._unheard = 0
        if self._watched:
            self._give_up_at = math.inf
            self._ask_at = now + self._patience if self.under_way else math.inf

    def next_deadline(self) -> float:
        """Return when `tick` must be called, math.inf for never."""
        connection = self.link.connection
        due = math.inf if connection is None else self.link.next_deadline()
        if self.lead is None:
            silent = min(self._ask_at, self._give_up_at) if connection is not None else math.inf
            return min(due, silent)
        idle = math.inf if self.waiting or self.under_way or self.retired else self.used_at + IDLE
        return min(due, idle, self._ask_at, self._give_up_at)

    def tick(self, now: float) -> None:
        """Keep the connection alive, or end it."""
        if self.link.connection is None:
            return
        self.link.tick(now)
        if self.lead is not None and not self.waiting and not self.under_way:
            self.retired = self.retired or now >= self.used_at + IDLE
        if now >= self._ask_at:
            self._ask_at = math.inf
            if self.under_way and self.link.connection.welcome is not None:  # before, the link sees to it
                self.link.connection.ping()
                self._give_up_at = now + 2 * self._patience
        elif now >= self._give_up_at:
            late = now >= self._give_up_at + AWAY
            self._give_up_at = now + self._patience if late else math.inf
            if not late:  # else the answer may well lie in the socket
                self.link.broken(f"{self.link.dialling.name} was silent for too long")
