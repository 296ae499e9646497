"""Receiving from a queue whose partitions are led by different nodes.

one partition      the leader waits, as it would for its own clients
several            ask one after the other what is ready; if none has anything, watch them all, and ask
                   the first that says so
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.ids import partition_id
from dmqnode.messages import Cancelled, Delivered, Done, Failed, Message, Receive
from dmqnode.queues import Definition
from dmqnode.shards import shard_name

if TYPE_CHECKING:
    from dmqnode.clustering import Clustering
    from dmqnode.fanout import Fanout


class Polls:
    """The receives of this node's clients."""

    def __init__(self, fanout: Fanout, clustering: Clustering) -> None:
        self._fanout = fanout
        self._clustering = clustering
        self._turn = 0

    def receive(self, now: Now, session: int, number: int, request: Receive, definition: Definition) -> None:
        """Have a receive done: by the one leader, or by whichever has something."""
        count = definition.settings.partitions
        if count == 1:
            message = _for_shard(request, definition.name, 0)
            patience = request.wait
            self._clustering.front.ask(
                now,
                session,
                number,
                partition_id(definition.id, 0),
                self._clustering.first_homes(definition, 0),
                message,
                lambda now, answer: self._delivered(now, session, number, request, answer),
                patience=max(patience, 5.0),
            )
            return
        self._turn += 1
        order = [(self._turn + n) % count for n in range(count)]
        self._take_next(now, session, number, request, definition, order, now.run + request.wait)

    def _delivered(self, now: Now, session: int, number: int, request: Receive, answer: Message) -> None:
        if isinstance(answer, Delivered):
            answer = Delivered(request.queue, answer.visibility, answer.parts)
        elif isinstance(answer, Cancelled) and self._clustering.stopping:
            answer = Delivered(request.queue, 0.0, [])  # nobody has cancelled it but this node, which stops
        self._fanout.reply(session, number, answer)

    def _take_next(
        self,
        now: Now,
        session: int,
        number: int,
        request: Receive,
        definition: Definition,
        order: list[int],
        deadline: float,
    ) -> None:
        """Ask one partition after the other what is ready; if none has anything, wait for all at once."""
        if not order:
            self._watch(now, session, number, request, definition, deadline)
            return
        index, rest = order[0], order[1:]
        message = _for_shard(request, definition.name, index, wait=0.0)

        def got(now: Now, answer: Message) -> None:
            empty = isinstance(answer, Delivered) and not answer.parts
            unavailable = isinstance(answer, Failed) and answer.retryable
            if (empty or unavailable) and (rest or deadline > now.run):
                self._take_next(now, session, number, request, definition, rest, deadline)
            else:
                self._delivered(now, session, number, request, answer)

        self._fanout.ask(now, session, number, definition, index, message, got)

    def _watch(
        self,
        now: Now,
        session: int,
        number: int,
        request: Receive,
        definition: Definition,
        deadline: float,
    ) -> None:
        """Wait until some partition has something, then ask that one."""
        count = definition.settings.partitions
        left = max(0.0, deadline - now.run)
        state = {"over": False, "left": count}

        def woken(now: Now, index: int, answer: Message) -> None:
            state["left"] -= 1
            if state["over"]:
                return
            something = isinstance(answer, Done)
            if not something and state["left"]:
                return
            state["over"] = True
            self._clustering.front.cancel(now, session, number)
            if isinstance(answer, Cancelled):
                self._delivered(now, session, number, request, answer)
            elif something or deadline > now.run:
                order = [(index + n) % count for n in range(count)] if something else []
                if order:
                    self._take_next(now, session, number, request, definition, order, deadline)
                else:
                    self._fanout.reply(session, number, Delivered(request.queue, 0.0, []))
            else:
                self._fanout.reply(session, number, Delivered(request.queue, 0.0, []))

        for index in range(count):
            message = _for_shard(request, definition.name, index, wait=left, watch=True)
            self._fanout.ask(
                now,
                session,
                number,
                definition,
                index,
                message,
                lambda now, answer, index=index: woken(now, index, answer),  # type: ignore[misc]
            )


def _for_shard(
    request: Receive, queue: str, index: int, *, wait: float | None = None, watch: bool = False
) -> Receive:
    return Receive(
        shard_name(queue, index),
        0 if watch else request.max_messages,
        request.max_bytes,
        request.wait if wait is None else wait,
        request.visibility,
        request.holder,
    )
