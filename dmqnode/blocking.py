"""The client for programs without trio: plain blocking sockets, no threads, quick to import.

    with connect_sync("127.0.0.1:7367") as client:
        client.send("orders", b"body")

Same names, same meaning as the trio client.  One thread may use a client at a time.  While no method
runs, nothing is read or written: a connection that the node has closed meanwhile is replaced at the next
call.  Ctrl-C (or any exception from a signal handler) leaves a method as cancelling does in trio: what had
not left is not sent, the outcome of what had is not known; leaving the `with` block closes the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from dmqnode import questions
from dmqnode.errors import DMQError
from dmqnode.introduction import new_asking
from dmqnode.messages import Browsed, Delivered
from dmqnode.outgoing import (
    NO_COLUMNS,
    Outgoing,
    Sent,
    body_bytes,
    columns,
    outcome_of_many,
    outcome_of_stream,
)
from dmqnode.pump import Pump
from dmqnode.questions import Fields
from dmqnode.received import Named, Received, unpack


class SyncMessage(Received):
    """A received message: what it is (see `Received`), and how to be done with it."""

    __slots__ = ()

    def ack(self) -> None:
        """Say that it is done: it is never delivered again.  Errors: StaleReceipt, Unknown, Unavailable."""
        self.origin.client.ack(self)

    def nack(self, delay: float = 0.0) -> None:
        """Give it back, to be delivered again after `delay` seconds.  Errors: as for `ack`."""
        self.origin.client.nack(self, delay=delay)

    def extend(self, seconds: float) -> None:
        """Keep it hidden from others for `seconds` from now.  Errors: as for `ack`."""
        self.origin.client.extend(self, seconds)


def connect_sync(
    *addresses: str,
    token: str | None = None,
    timeout: float = 30.0,
    client_name: str | None = None,
    direct: bool = True,
) -> SyncClient:
    """Return a client of the nodes at `addresses`, for use in a `with` block.

    Nothing is dialled before the first call.

    Arguments:
        addresses: HOST:PORT each, tried in turn; 127.0.0.1:7367 where there is none.
        token: shown to the nodes, where they ask for one.
        timeout: seconds that a call may take, besides the time that it waits for messages, and the time in
            which no method of the client runs.
        client_name: how operators see this client; the host's name and the process id by default.
        direct: go to the leaders of queues by oneself, where their addresses are numbers and can be reached.

    Errors: UsageError for what is not an address.
    """
    return SyncClient(Pump(new_asking(addresses, token, timeout, client_name, direct)))


class SyncClient:
    """What `connect_sync` gives.

    Every method may raise `UsageError` (nothing was sent), `Refused` and its kinds (certainly not done),
    `Unavailable` (no node to be reached in time) and, if it changes something, `Unknown`.

    It has no `consume`: nobody would extend a visibility while no method runs.  Take `receive_stream`, with
    a visibility that lasts for the work on what one receive brings, or `extend` in between.
    """

    def __init__(self, pump: Pump) -> None:
        self._pump = pump

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what was received and not handed over (half a second at most), and hang up."""
        self._pump.close()

    # --- sending -------------------------------------------------------------------------------------

    def send(
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

        Arguments:
            delay: seconds until its first delivery; the queue's own by default.
            ttl: seconds after which it is dropped if nobody took it.
            attributes: text by text, delivered with it.
            group: messages of one group are delivered in order by fifo queues.
            dedup_id: within five minutes, a second message of the same name is not stored again.
            create: make the queue, with default settings, if there is none.
        """
        checked = columns(attributes, group, ttl, dedup_id) or NO_COLUMNS
        slot = self._pump.start_send((queue, delay, create), body_bytes(body), checked)
        id_: str = self._pump.wait(slot)
        return id_

    def send_many(
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

        Errors: PartlyFailed where some were stored; `.failures` says which were not, or not surely.  One
        that cannot be sent at all (UsageError) is the last of them: what comes behind it is not sent.
        """
        shared = columns(attributes, group, ttl, None)
        ids: list[str] = []
        failures: list[tuple[int, int, DMQError]] = []
        for count, found, error in self._pump.batches((queue, delay, create), bodies, shared, stops=False):
            if error is not None:
                failures.append((len(ids), count, error))
            ids += found or [""] * count
        if failures:
            raise outcome_of_many(len(ids), failures)
        return ids

    def send_stream(
        self,
        queue: str,
        bodies: Iterable[bytes | Outgoing],
        *,
        delay: float | None = None,
        ttl: float | None = None,
        attributes: Mapping[str, str] | None = None,
        group: str | None = None,
        create: bool = False,
    ) -> Iterator[list[str]]:
        """Send any number of messages in constant memory; yield the ids of each batch, in order.

        Four batches are under way at once.  An error is raised when the turn of its batch comes: what was
        yielded before is stored, of what comes behind the outcome is not known.  For a message that cannot
        be sent at all it is PartlyFailed once others were: those before it are stored, none behind it is.
        """
        shared, count = columns(attributes, group, ttl, None), 0
        for more, ids, error in self._pump.batches((queue, delay, create), bodies, shared, stops=False):
            if error is not None:
                raise outcome_of_stream(count, more, error)
            count += more
            yield ids

    def send_batches(
        self,
        queue: str,
        bodies: Iterable[bytes | Outgoing],
        *,
        delay: float | None,
        create: bool,
        **more: Any,
    ) -> Iterator[Sent]:
        """Do as `send_stream`, and tell of each batch that was sent (how many, their ids, the error).

        After the first error no further batch is sent; those that were under way are told of.  Also a
        message that cannot be sent at all is told of, as the last.
        """
        shared = columns(dedup_id=None, **more)
        return self._pump.batches((queue, delay, create), bodies, shared, stops=True)

    # --- receiving -----------------------------------------------------------------------------------

    def receive(
        self,
        queue: str,
        *,
        max_messages: int = 1,
        wait: float = 20.0,
        visibility: float | None = None,
        holder: str = "",
    ) -> list[SyncMessage]:
        """Take messages; they are hidden from others until they are acked, nacked, or their time is over.

        Arguments:
            max_messages: at most so many; fewer come where no more are ready.
            wait: seconds to wait for the first; then the list is empty.
            visibility: seconds until they are delivered again; the queue's own by default.
            holder: who takes them, as `explain` shows it.
        """
        request = questions.receiving(queue, max_messages, wait, visibility, holder)
        return self._unpack(self._pump.wait(self._pump.start_receive(request, wait)))

    def receive_stream(
        self,
        queue: str,
        *,
        max_messages: int = 1000,
        wait: float = 20.0,
        visibility: float | None = None,
        holder: str = "",
    ) -> Iterator[list[SyncMessage]]:
        """Yield what `receive` would return, again and again, up to and including the first empty list.

        The next receive is under way while the caller works on the messages of the last: their visibility
        runs meanwhile.  What had come and was not handed over when the iterator is closed is given back.
        """
        request = questions.receiving(queue, max_messages, wait, visibility, holder)
        pump = self._pump
        ahead = pump.start_receive(request, wait)
        try:
            while True:
                messages = self._unpack(pump.wait(ahead))
                if messages:
                    following = pump.start_receive(request, wait)
                    ahead.value, ahead = None, following
                    pump.nudge()
                yield messages
                if not messages:
                    return
        finally:
            pump.withdraw(ahead)

    def _unpack(self, delivered: Delivered) -> list[SyncMessage]:
        return unpack(SyncMessage, self, delivered.queue, delivered.parts)

    def ack(self, messages: Named | Iterable[Named]) -> None:
        """Say that messages are done: once this returns they are never delivered again.

        Arguments:
            messages: one message or receipt, or many.

        Errors: StaleReceipt for one, PartlyFailed (`.failures`) where some of many are held no longer.
        """
        self._pump.run(questions.ack(messages))

    def nack(
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
        self._pump.run(questions.nack(messages, delay, dead_letter, reason))

    def extend(self, messages: Named | Iterable[Named], seconds: float) -> None:
        """Keep messages hidden from others for `seconds` from now; errors as for `ack`."""
        self._pump.run(questions.extend(messages, seconds))

    # --- queues --------------------------------------------------------------------------------------

    def create_queue(self, name: str, *, if_not_exists: bool = False, **settings: Any) -> Fields:
        """Create a queue; return its definition.  Errors: QueueExists, InvalidRequest.

        Arguments:
            if_not_exists: a queue of this name is left as it is, and returned.
            settings: visibility, delay, retention (seconds), max_attempts, dead_letter, ordering,
                partitions, max_message_size (bytes), paused.
        """
        return self._pump.run(questions.create_queue(name, if_not_exists, settings))

    def set_queue(self, name: str, **settings: Any) -> Fields:
        """Change some settings of a queue; return its definition.  Errors: QueueNotFound, InvalidRequest."""
        return self._pump.run(questions.set_queue(name, settings))

    def delete_queue(self, name: str) -> None:
        """Delete a queue with all its messages.  Not repeated if its answer is lost: then `Unknown`."""
        self._pump.run(questions.delete_queue(name))

    def purge_queue(self, name: str) -> int:
        """Delete all messages of a queue; return how many.  Not repeated if its answer is lost."""
        return self._pump.run(questions.purge_queue(name))

    def pause_queue(self, name: str) -> Fields:
        """Stop handing messages out; return the definition."""
        return self.set_queue(name, paused=True)

    def resume_queue(self, name: str) -> Fields:
        """Go on handing messages out; return the definition."""
        return self.set_queue(name, paused=False)

    def queues(self, prefix: str = "", *, counts: bool = False) -> list[Fields]:
        """Return the definitions of all queues whose names start with `prefix`, by name.

        Arguments:
            counts: with the numbers of their messages; for each that is not in use, the node must read.
        """
        return self._pump.run(questions.list_queues(prefix, counts))

    def queue(self, name: str) -> Fields:
        """Return a queue's definition and counts.  Errors: QueueNotFound."""
        return self._pump.run(questions.get_queue(name))

    def explain(self, name: str) -> Fields:
        """Return why nothing comes out of a queue: reasons, holders, partitions.  Errors: QueueNotFound."""
        return self._pump.run(questions.explain(name))

    def browse(self, queue: str, state: str = "ready", limit: int = 10) -> list[SyncMessage]:
        """Look at up to `limit` messages in a state (ready, delayed, in-flight) without taking them."""
        return unpack(SyncMessage, self, queue, self._pump.run(questions.browse(queue, state, limit)))

    def browse_stream(self, queue: str, state: str = "ready") -> Iterator[list[SyncMessage]]:
        """Yield all messages in a state without taking them, some at a time, in constant memory."""
        cursor: bytes | None = None
        while True:
            page: Browsed = self._pump.run(questions.look(queue, state, questions.BROWSE_AT_ONCE, cursor))
            if page.parts:
                yield unpack(SyncMessage, self, queue, page.parts)
            cursor = page.cursor
            if cursor is None:
                return

    def redrive(self, queue: str, to: str | None = None, limit: int | None = None) -> int:
        """Move messages of a dead-letter queue to `to`, or to where each came from; return how many.

        Arguments:
            limit: at most so many; all by default.
        """
        return self._pump.run(questions.redrive(queue, to, limit))

    # --- the cluster ---------------------------------------------------------------------------------

    def status(self) -> Fields:
        """Return the statistics of the node that this client is connected to."""
        return self._pump.run(questions.status())

    def members(self) -> Fields:
        """Return the members of the cluster: {"cluster", "members": […]}."""
        return self._pump.run(questions.members())

    def change_members(self, kind: str, member: bytes, *, destroyed: bool = False) -> None:
        """Let a node join, leave or be forgotten: what `dmq node leave` and `dmq cluster forget` ask for.

        Arguments:
            kind: join, leave or forget.
            member: the node's id; to join, its record.
            destroyed: its copies will not come back.
        """
        self._pump.run(questions.change_members(kind, member, destroyed=destroyed))

    def retire(self, member: Fields) -> None:
        """Have what a member holds, one as `members` lists it, moved to others: the first step of leaving."""
        self._pump.run(questions.retire(member))
