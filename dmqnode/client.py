"""The trio client.  Many tasks may share one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any

import trio

from dmqnode import questions
from dmqnode.background import Background
from dmqnode.consuming import Consumer
from dmqnode.errors import DMQError
from dmqnode.introduction import new_asking
from dmqnode.line import Line
from dmqnode.messages import Browsed, Delivered
from dmqnode.outgoing import NO_COLUMNS, Outgoing, body_bytes, columns, outcome_of_many, outcome_of_stream
from dmqnode.questions import Fields
from dmqnode.received import Named, Naming, Received, many, settling, unpack


class Message(Received):
    """A received message: what it is (see `Received`), and how to be done with it."""

    __slots__ = ()

    async def ack(self) -> None:
        """Say that it is done: it is never delivered again.

        Cancelling: it may or may not be done.  Errors: StaleReceipt, Unknown, Unavailable.
        """
        await self.origin.client.ack(self)

    async def nack(self, delay: float = 0.0) -> None:
        """Give it back, to be delivered again after `delay` seconds; cancelling and errors as for `ack`."""
        await self.origin.client.nack(self, delay=delay)

    async def extend(self, seconds: float) -> None:
        """Keep it hidden from others for `seconds` from now; cancelling and errors as for `ack`."""
        await self.origin.client.extend(self, seconds)


def connect(
    *addresses: str,
    token: str | None = None,
    timeout: float = 30.0,
    client_name: str | None = None,
    direct: bool = True,
) -> Client:
    """Return a client of the nodes at `addresses`, for use in an `async with` block.

    Nothing is dialled before the first call; lost connections are replaced, with pauses that grow.

    Arguments:
        addresses: HOST:PORT each, tried in turn; 127.0.0.1:7367 where there is none.
        token: shown to the nodes, where they ask for one.
        timeout: seconds that a call may take, besides the time that it waits for messages.
        client_name: how operators see this client; the host's name and the process id by default.
        direct: go to the leaders of queues oneself, where they can be reached.

    Errors: UsageError for what is not an address.
    """
    return Client(Line(new_asking(addresses, token, timeout, client_name, direct), trio.open_tcp_stream))


class Client:
    """What `connect` gives.

    Every method may raise `UsageError` (nothing was sent), `Refused` and its kinds (certainly not done),
    `Unavailable` (no node to be reached in time) and, if it changes something, `Unknown`.  Cancelling a
    method takes back what has not left; of what has, the outcome is not known.  Close a stream that is
    left early (`contextlib.aclosing`).  When the block ends, calls of other tasks end, too: `UsageError`
    where nothing has left or nothing would be changed, else `Unknown`.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._background = Background()

    async def __aenter__(self) -> Client:
        await self._background.open()
        self._line.begin(self._background.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._line.part()
        finally:
            await self._background.close()

    # --- sending -------------------------------------------------------------------------------------

    async def send(
        self,
        queue: str,
        body: bytes,
        *,
        delay: float | None = None,
        ttl: float | None = None,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
        dedup_id: str | None = None,
        create: bool = False,
    ) -> str:
        """Send one message; return its id once it is stored.

        What other tasks send to the queue meanwhile travels in the same request.  Cancelling: it is not
        sent if it has not left yet, else it may be stored.

        Arguments:
            delay: seconds until its first delivery; the queue's own by default.
            ttl: seconds after which it is dropped if nobody took it.
            attributes: text by text, delivered with it.
            group: messages of one group are delivered in order by fifo queues.
            dedup_id: within five minutes, a second message of the same name is not stored again.
            create: make the queue, with default settings, if there is none.
        """
        plain = attributes is None and group is None and ttl is None and dedup_id is None
        checked = NO_COLUMNS if plain else columns(attributes, group, ttl, dedup_id) or NO_COLUMNS
        return await self._line.send((queue, delay, create), body_bytes(body), checked)

    async def send_many(
        self,
        queue: str,
        bodies: Iterable[bytes | Outgoing],
        *,
        delay: float | None = None,
        ttl: float | None = None,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
        create: bool = False,
    ) -> list[str]:
        """Send any number of messages; return their ids, in order, once all are stored.

        The options are those of `send` and hold for every message; an `Outgoing` may bring its own.
        Cancelling: what had left may be stored, the rest is not sent.

        Errors: PartlyFailed where some were stored; `.failures` says which were not, or not surely.  One
        that cannot be sent at all (UsageError) is the last of them: what comes behind it is not sent.
        """
        shared = columns(attributes, group, ttl, None)
        ids: list[str] = []
        failures: list[tuple[int, int, DMQError]] = []
        async with aclosing(self._line.batches((queue, delay, create), bodies, shared)) as batches:
            async for count, found, error in batches:
                if error is not None:
                    failures.append((len(ids), count, error))
                ids += found or [""] * count
        if failures:
            raise outcome_of_many(len(ids), failures)
        return ids

    async def send_stream(
        self,
        queue: str,
        bodies: Iterable[bytes | Outgoing],
        *,
        delay: float | None = None,
        ttl: float | None = None,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
        create: bool = False,
    ) -> AsyncGenerator[list[str], None]:
        """Send any number of messages in constant memory; yield the ids of each batch, in order.

        Four batches are under way at once.  An error is raised when the turn of its batch comes: what was
        yielded before is stored, of what comes behind the outcome is not known.  For a message that cannot
        be sent at all it is PartlyFailed once others were: those before it are stored, none behind it is.
        """
        shared, count = columns(attributes, group, ttl, None), 0
        async with aclosing(self._line.batches((queue, delay, create), bodies, shared)) as batches:
            async for more, ids, error in batches:
                if error is not None:
                    raise outcome_of_stream(count, more, error)
                count += more
                yield ids

    # --- receiving -----------------------------------------------------------------------------------

    async def receive(
        self,
        queue: str,
        *,
        max_messages: int = 1,
        wait: float = 20.0,
        visibility: float | None = None,
        holder: str = "",
    ) -> list[Message]:
        """Take messages; they are hidden from others until they are acked, nacked, or their time is over.

        Cancelling: nothing is taken; what was on its way is given back, its attempt counted.

        Arguments:
            max_messages: at most so many; fewer come where no more are ready.
            wait: seconds to wait for the first; then the list is empty.
            visibility: seconds until they are delivered again; the queue's own by default.
            holder: who takes them, as `explain` shows it.
        """
        request = questions.receiving(queue, max_messages, wait, visibility, holder)
        return self._unpack(await self._line.wait(await self._line.start_receive(request, wait)))

    async def receive_stream(
        self,
        queue: str,
        *,
        max_messages: int = 1000,
        wait: float = 20.0,
        visibility: float | None = None,
        holder: str = "",
    ) -> AsyncGenerator[list[Message], None]:
        """Yield what `receive` would return, again and again, up to and including the first empty list.

        The next receive is under way while the caller works on the messages of the last: their visibility
        runs meanwhile.  What had come and was not handed over when the iterator is closed is given back.
        """
        request = questions.receiving(queue, max_messages, wait, visibility, holder)
        line = self._line
        ahead = await line.start_receive(request, wait)
        try:
            while True:
                messages = self._unpack(await line.wait(ahead))
                if not messages:
                    yield messages
                    return
                # What came is the waiter's, to be given back, until the next receive is under way.
                following = await line.start_receive(request, wait)
                ahead.value, ahead = None, following
                yield messages
        finally:
            line.withdraw(ahead)

    def _unpack(self, delivered: Delivered) -> list[Message]:
        return unpack(Message, self, delivered.queue, delivered.parts)

    def consume(self, queue: str, prefetch: int = 100, visibility: float | None = None) -> Consumer:
        """Return an `async with` block that gives an endless async iterator of messages.

        See `Consumer`.

        Arguments:
            prefetch: messages taken ahead, at most.
            visibility: seconds for which they are hidden each time; the queue's own by default.
        """
        return Consumer(self, self._line, Message, queue, prefetch, visibility)

    async def ack(self, messages: Named | Iterable[Named]) -> None:
        """Say that messages are done: once this returns they are never delivered again.

        Arguments:
            messages: one message or receipt, or many.

        Acks of single messages that meet travel together.  Cancelling: it may or may not be done.

        Errors: StaleReceipt for one, PartlyFailed (`.failures`) where some of many are held no longer.
        """
        if isinstance(messages, Received):
            await self._ack_one(messages)
            return
        with settling(messages := many(messages)):
            await self._line.run(questions.ack(messages))

    async def _ack_one(self, message: Received) -> None:
        (held,) = Naming(message).held
        with settling([message]):
            await self._line.ack(held)

    async def nack(
        self,
        messages: Named | Iterable[Named],
        *,
        delay: float = 0.0,
        dead_letter: bool = False,
        reason: str = "",
    ) -> None:
        """Give messages back, to be delivered again after `delay` seconds; errors as for `ack`.

        Arguments:
            dead_letter: move them to the queue's dead-letter queue instead.
            reason: kept with them there.
        """
        with settling(messages := many(messages)):
            await self._line.run(questions.nack(messages, delay, dead_letter, reason))

    async def extend(self, messages: Named | Iterable[Named], seconds: float) -> None:
        """Keep messages hidden from others for `seconds` from now; errors as for `ack`."""
        await self._line.run(questions.extend(messages, seconds))

    # --- queues --------------------------------------------------------------------------------------

    async def create_queue(self, name: str, *, if_not_exists: bool = False, **settings: Any) -> Fields:
        """Create a queue; return its definition.  Errors: QueueExists, InvalidRequest.

        Arguments:
            if_not_exists: a queue of this name is left as it is, and returned.
            settings: visibility, delay, retention (seconds), max_attempts, dead_letter, ordering,
                partitions, max_message_size (bytes), paused.
        """
        return await self._line.run(questions.create_queue(name, if_not_exists, settings))

    async def set_queue(self, name: str, **settings: Any) -> Fields:
        """Change some settings of a queue; return its definition.  Errors: QueueNotFound, InvalidRequest."""
        return await self._line.run(questions.set_queue(name, settings))

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with all its messages.  Not repeated if its answer is lost: then `Unknown`."""
        await self._line.run(questions.delete_queue(name))

    async def purge_queue(self, name: str) -> int:
        """Delete all messages of a queue; return how many.  Not repeated if its answer is lost."""
        return await self._line.run(questions.purge_queue(name))

    async def pause_queue(self, name: str) -> Fields:
        """Stop handing messages out; return the definition."""
        return await self.set_queue(name, paused=True)

    async def resume_queue(self, name: str) -> Fields:
        """Go on handing messages out; return the definition."""
        return await self.set_queue(name, paused=False)

    async def queues(self, prefix: str = "", *, counts: bool = False) -> list[Fields]:
        """Return the definitions of all queues whose names start with `prefix`, by name.

        Arguments:
            counts: with the numbers of their messages; for each that is not in use, the node must read.
        """
        return await self._line.run(questions.list_queues(prefix, counts))

    async def queue(self, name: str) -> Fields:
        """Return a queue's definition and counts.  Errors: QueueNotFound."""
        return await self._line.run(questions.get_queue(name))

    async def explain(self, name: str) -> Fields:
        """Return why nothing comes out of a queue: reasons, holders, partitions.  Errors: QueueNotFound."""
        return await self._line.run(questions.explain(name))

    async def browse(self, queue: str, state: str = "ready", limit: int = 10) -> list[Message]:
        """Look at up to `limit` messages in a state (ready, delayed, in-flight) without taking them."""
        parts = await self._line.run(questions.browse(queue, state, limit))
        return unpack(Message, self, queue, parts)

    async def browse_stream(self, queue: str, state: str = "ready") -> AsyncGenerator[list[Message], None]:
        """Yield all messages in a state without taking them, some at a time, in constant memory."""
        cursor: bytes | None = None
        while True:
            look = questions.look(queue, state, questions.BROWSE_AT_ONCE, cursor)
            page: Browsed = await self._line.run(look)
            if page.parts:
                yield unpack(Message, self, queue, page.parts)
            cursor = page.cursor
            if cursor is None:
                return

    async def redrive(self, queue: str, to: str | None = None, limit: int | None = None) -> int:
        """Move messages of a dead-letter queue to `to`, or to where each came from; return how many.

        Arguments:
            limit: at most so many; all by default.
        """
        return await self._line.run(questions.redrive(queue, to, limit))

    # --- the cluster ---------------------------------------------------------------------------------

    async def status(self) -> Fields:
        """Return the statistics of the node that this client is connected to."""
        return await self._line.run(questions.status())

    async def members(self) -> Fields:
        """Return the members of the cluster: {"cluster", "members": […]}."""
        return await self._line.run(questions.members())
