"""A client's present connection, or the want of one: dialled, greeted, kept alive, lost."""

from __future__ import annotations

from dmqnode.addresses import Dialling
from dmqnode.connection import INITIAL_CREDIT, ClientConnection, State
from dmqnode.errors import ProtocolError, Refused, Unavailable
from dmqnode.messages import Failed, Goodbye, Hello, Leads, Message

WELCOME_TIMEOUT = 10.0
"""Seconds within which a node must say Welcome."""
BATCH_BYTES = 1 << 20
"""What a batch of a stream has at most, where the node's credit allows four of them."""
_OVERHEAD = 4096
SMALL_BATCH = INITIAL_CREDIT - _OVERHEAD
"""What it has where no node has said how much it allows."""


class Link:
    """The connection of a client to whichever node it has reached.

    Arguments:
        hello: what the client says of itself.
        dialling: where the nodes are.
    """

    def __init__(self, hello: Hello, dialling: Dialling) -> None:
        self.dialling = dialling
        self.connection: ClientConnection | None = None
        self.turned_away: Failed | None = None
        """What a node said instead of Welcome, if it would say the same again."""
        self.news: list[Leads] = []
        """What the node has said of leaders; for the caller to take."""
        self._hello = hello
        self._opened_at = 0.0
        self._welcomed = False
        self._why = ""

    def elsewhere(self, dialling: Dialling) -> Link:
        """Return a new link of the same client to another address."""
        return Link(self._hello, dialling)

    # --- connecting ----------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """A connection to `dialling.address` is there."""
        self._opened_at = now
        self._welcomed = False
        self._why = ""
        self.turned_away = None
        self.connection = ClientConnection(self._hello, now)

    @property
    def ended(self) -> bool:
        """Whether the connection should be closed: nothing more will come of it."""
        connection = self.connection
        if connection is None or connection.closed:
            return True
        return connection.state is State.LEAVING and not connection.under_way

    def lost(self, now: float, why: str) -> str:
        """The connection is gone; return why, as far as is known.

        Arguments:
            why: what the shell knows.
        """
        connection, self.connection = self.connection, None
        assert connection is not None
        why, self._why = self._why or connection.why_closed or why, ""
        if self._welcomed:
            self.dialling.lost(now, why)
        else:
            self.dialling.failed(now, why)
        return why

    def broken(self, why: str) -> None:
        """Reading or writing failed, for a reason that completes "no node is reachable at …: "."""
        if self.connection is not None:
            self._why = self._why or why
            self.connection.receive_eof()

    @property
    def batch_bytes(self) -> int:
        """How many bytes of bodies a batch should have, so that four of them may be under way."""
        connection = self.connection
        if connection is None or connection.welcome is None:
            return SMALL_BATCH
        return max(1, min(BATCH_BYTES, connection.credit // 4, connection.max_frame - _OVERHEAD))

    # --- bytes ---------------------------------------------------------------------------------------

    def receive_data(self, now: float, data: bytes) -> list[tuple[int, Message]]:
        """Take bytes from the node, b"" for their end; return the answers by request number.

        Bytes that are not the protocol's end the connection.
        """
        connection = self.connection
        assert connection is not None
        if not data:
            connection.receive_eof()
            return []
        answers = []
        try:
            answers = connection.receive_data(now, data)
        except ProtocolError as error:
            self.misbehaved(error)
        for number, message in answers:
            if number:
                continue
            if isinstance(message, Failed):
                self._why = message.message
                if connection.welcome is None and not message.retryable:
                    self.turned_away = message
            elif isinstance(message, Goodbye):
                self._why = message.reason
            elif isinstance(message, Leads):
                self.news.append(message)
        if connection.welcome is not None and not self._welcomed:
            self._welcomed = True
            self.dialling.welcomed(now)
        return [(number, message) for number, message in answers if number]

    def misbehaved(self, error: ProtocolError) -> None:
        """The node broke the protocol: end the connection."""
        self.broken(f"what answers at {self.dialling.name} does not speak dmq as this client does: {error}")

    # --- time ----------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `tick` must be called; there is a connection."""
        assert self.connection is not None
        due = self.connection.next_deadline()
        if self._welcomed or self.connection.closed:
            return due
        return min(due, self._opened_at + WELCOME_TIMEOUT)

    def tick(self, now: float) -> None:
        """Keep the connection alive, or end it."""
        assert self.connection is not None
        self.connection.tick(now)
        if not self._welcomed and now >= self._opened_at + WELCOME_TIMEOUT:
            self.broken(f"{self.dialling.name} did not say Welcome")

    def unavailable(self) -> Refused:
        """Return the error for a call that certainly was not done in its time."""
        if self.connection is not None and self._welcomed:
            name = self.dialling.name
            return Unavailable(f"the node at {name} did not answer in time; try again, or wait longer")
        why = self._why or self.dialling.last_failure or "no answer in time"
        return Unavailable(f"no node is reachable at {self.dialling}: {why}; is one running there?")
