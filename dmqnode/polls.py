"""Receiving from a queue whose partitions are led by different nodes.

one partition      the leader waits, as it would for its own clients
several            ask one after the other what is ready, last those that lately had nothing; if none has
                   anything, watch them all, and ask the first that says so
more meanwhile     give up what waits, and begin anew with those that there are now
given up           ask nobody any more: what a leader delivers all the same is given back
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.errors import DMQError
from dmqnode.frontend import PATIENCE, RETRY, failed
from dmqnode.ids import QueueId, partition_id
from dmqnode.messages import Cancelled, Delivered, Done, Failed, Message, Receive
from dmqnode.queues import Definition
from dmqnode.shards import shard_name

if TYPE_CHECKING:
    from dmqnode.clustering import Clustering
    from dmqnode.fanout import Fanout

EMPTY_FOR = 0.1
"""Seconds for which a partition that had nothing is asked after the others."""
LEADERLESS_FOR = 1.0
"""The same at most for one that could not be asked: for as long as that took, which is mostly a leader."""
MOST_ASIDE = 1024
"""Partitions of which that is remembered."""


class _Poll:
    """One receive of a client."""

    __slots__ = ("again", "deadline", "missed", "number", "over", "request", "session")

    def __init__(self, session: int, number: int, request: Receive, deadline: float) -> None:
        self.session = session
        self.number = number
        self.request = request
        self.deadline = deadline
        self.over = False
        """Whether it was given up, by its client or because that is gone."""
        self.again = False
        """Whether its queue has got more partitions, so that it is to be asked for anew."""
        self.missed: Failed | None = None
        """What a partition said that could not be asked: then nobody knows that there is nothing."""

    def left(self, now: Now) -> float:
        """Return for how many seconds more to wait: not longer than was asked for, however it is rounded."""
        return min(self.request.wait, max(0.0, self.deadline - now.run))


class Polls:
    """The receives of this node's clients."""

    def __init__(self, fanout: Fanout, clustering: Clustering) -> None:
        self._fanout = fanout
        self._clustering = clustering
        self._under_way: dict[tuple[int, int], _Poll] = {}
        self._turn = 0
        self._aside: dict[tuple[QueueId, int], float] = {}
        """Partition -> until when it is asked after the others, at running time."""

    def receive(self, now: Now, session: int, number: int, request: Receive, definition: Definition) -> None:
        """Have a receive done: by the one leader, or by whichever has something."""
        poll = _Poll(session, number, request, now.run + request.wait)
        self._under_way[session, number] = poll
        self._start(now, poll, definition)

    def grown(self, now: Now, queue: str) -> None:
        """A queue has got more partitions: whoever waits for it waits for those, too."""
        for key, poll in list(self._under_way.items()):
            if poll.request.queue == queue and not poll.over:
                poll.again = True
                self._clustering.front.cancel(now, *key)

    def cancelled(self, session: int, number: int) -> None:
        """A receive is given up: what leaders still answer is not followed by more questions."""
        poll = self._under_way.get((session, number))
        if poll is not None:
            poll.over = True

    def _start(self, now: Now, poll: _Poll, definition: Definition) -> None:
        poll.again = False
        count = definition.settings.partitions
        if count == 1:
            left = poll.left(now)
            self._clustering.front.ask(
                now,
                poll.session,
                poll.number,
                partition_id(definition.id, 0),
                self._clustering.first_homes(definition, 0),
                _for_shard(poll.request, definition, 0, wait=left),
                lambda now, answer: self._delivered(now, poll, answer),
                patience=max(left, 5.0),
            )
            return
        self._turn += 1
        poll.missed = None
        order = [(self._turn + n) % count for n in range(count)]
        aside, queue = self._aside, definition.id
        if aside:
            order.sort(key=lambda index: aside.get((queue, index), 0.0) > now.run)
        self._take_next(now, poll, definition, order)

    def _put_aside(self, now: Now, partition: tuple[QueueId, int], seconds: float) -> None:
        if len(self._aside) >= MOST_ASIDE:
            self._aside = {key: until for key, until in self._aside.items() if until > now.run}
            if len(self._aside) >= MOST_ASIDE:
                self._aside.clear()
        self._aside[partition] = now.run + seconds

    def _restart(self, now: Now, poll: _Poll) -> None:
        try:
            self._start(now, poll, self._fanout.definition(poll.request.queue))
        except DMQError as error:
            poll.again = False
            self._delivered(now, poll, failed(error))

    def _delivered(self, now: Now, poll: _Poll, answer: Message) -> None:
        given_up = poll.over or self._clustering.stopping
        if poll.again and isinstance(answer, Cancelled) and not given_up:
            self._restart(now, poll)
            return
        request = poll.request
        if isinstance(answer, Delivered):
            answer = Delivered(request.queue, answer.visibility, answer.parts)
        elif isinstance(answer, Cancelled) and self._clustering.stopping:
            answer = Delivered(request.queue, 0.0, [])  # nobody has cancelled it but this node, which stops
        if self._under_way.get((poll.session, poll.number)) is poll:
            del self._under_way[poll.session, poll.number]
        self._fanout.reply(poll.session, poll.number, answer)

    def _take_next(self, now: Now, poll: _Poll, definition: Definition, order: list[int]) -> None:
        """Ask one partition after the other what is ready; if none has anything, wait for all at once."""
        if poll.over:
            self._delivered(now, poll, Cancelled())
            return
        if not order:
            if poll.again:
                self._restart(now, poll)
            else:
                self._watch(now, poll, definition)
            return
        index, rest, asked_at = order[0], order[1:], now.run
        message = _for_shard(poll.request, definition, index, wait=0.0)

        def got(now: Now, answer: Message) -> None:
            empty = isinstance(answer, Delivered) and not answer.parts
            unavailable = isinstance(answer, Failed) and answer.retryable
            if isinstance(answer, Failed) and unavailable:
                poll.missed = answer
            if empty or unavailable:
                took = 0.0 if empty else min(LEADERLESS_FOR, now.run - asked_at)
                self._put_aside(now, (definition.id, index), max(EMPTY_FOR, took))
            else:
                self._aside.pop((definition.id, index), None)
            if (empty or unavailable) and (rest or poll.deadline > now.run):
                self._take_next(now, poll, definition, rest)
            else:
                self._delivered(now, poll, poll.missed if empty and poll.missed else answer)

        self._fanout.ask(now, poll.session, poll.number, definition, index, message, got)

    def _watch(self, now: Now, poll: _Poll, definition: Definition) -> None:
        """Wait until some partition has something, then ask that one."""
        count = definition.settings.partitions
        state = {"over": False, "left": count}

        def woken(now: Now, index: int, answer: Message) -> None:
            passing = isinstance(answer, Failed) and answer.retryable
            if passing and not state["over"] and poll.deadline > now.run:
                # Its leader has changed, or there is none for now: it is still to be watched.
                self._clustering.later(now, RETRY, lambda now: watch(now, index))
                return
            state["left"] -= 1
            if state["over"]:
                return
            something = isinstance(answer, Done)
            if not something and state["left"]:
                return
            state["over"] = True
            self._clustering.front.cancel(now, poll.session, poll.number)
            if something:
                order = [(index + n) % count for n in range(count)]
                self._take_next(now, poll, definition, order)
            elif poll.again or isinstance(answer, Cancelled):
                self._delivered(now, poll, Cancelled())
            else:
                self._delivered(now, poll, Delivered(poll.request.queue, 0.0, []))

        def watch(now: Now, index: int) -> None:
            if state["over"] or poll.over or poll.again:
                woken(now, index, Cancelled())
                return
            left = poll.left(now)
            message = _for_shard(poll.request, definition, index, wait=left, watch=True)
            self._fanout.ask(
                now,
                poll.session,
                poll.number,
                definition,
                index,
                message,
                lambda now, answer: woken(now, index, answer),
                min(PATIENCE, left),
            )

        for index in range(count):
            watch(now, index)


def _for_shard(
    request: Receive, queue: Definition, index: int, *, wait: float | None = None, watch: bool = False
) -> Receive:
    return Receive(
        shard_name(queue, index),
        0 if watch else request.max_messages,
        request.max_bytes,
        request.wait if wait is None else wait,
        request.visibility,
        request.holder,
    )
