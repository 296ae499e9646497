"""Receiving and settling: who waits for which queue, and what becomes of what they got."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dmqnode.batch import MAX_MESSAGES
from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import DMQError, InvalidRequest, LimitExceeded, Refused, StaleReceipt, Unknown
from dmqnode.messages import Ack, Cancelled, Delivered, Done, Extend, Held, Nack, Receive, Settled
from dmqnode.partition import Partition
from dmqnode.queue import MAX_WAITERS, Queue, Waiter
from dmqnode.queues import MAX_DELAY, MAX_VISIBILITY, check_seconds
from dmqnode.settling import ack, extend, nack, take_back

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.surroundings import Session

MAX_WAIT = 3600.0
MAX_REASON = 1000
OWN_VISIBILITY = 60.0
"""Seconds that messages stay hidden that the node itself has taken, to move them."""
Taken = Callable[[Now, Delivered], None]
Gone = Callable[[Now, DMQError], None]


class Deliveries:
    """The receivers of all queues."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._takers: dict[int, tuple[Taken, Gone]] = {}
        self._own = 0
        self._waiters: dict[tuple[int, int], tuple[Queue, Waiter]] = {}
        self._opening: set[tuple[int, int]] = set()
        """Receives that wait for their queue to be in memory."""
        self._blocked: set[int] = set()
        self.crowded = False
        """Whether so many answers wait to be written that nobody is given messages for now."""

    @property
    def waiting(self) -> int:
        """How many receives wait."""
        return len(self._waiters)

    # --- receiving -----------------------------------------------------------------------------------

    def receive(self, now: Now, session: Session, number: int, request: Receive) -> None:
        """Answer a receive, at once if messages are ready, else when some are or its wait is over.

        Errors: Refused and its kinds.
        """
        queue = self._broker.registry.find(request.queue)
        watch = request.max_messages == 0 and queue.key != queue.name  # between nodes: see `polls`
        if not watch and not 1 <= request.max_messages <= MAX_MESSAGES:
            raise InvalidRequest(
                f"max_messages is {request.max_messages}; it must be within 1 and {MAX_MESSAGES}"
            )
        if request.max_bytes < 1:
            raise InvalidRequest(f"max_bytes is {request.max_bytes}; it must be at least 1")
        wait = check_seconds("wait", request.wait, 0.0, MAX_WAIT)
        visibility = queue.definition.settings.visibility
        if request.visibility is not None:
            visibility = check_seconds("visibility", request.visibility, 0.0, MAX_VISIBILITY)
        if len(queue.waiters) >= MAX_WAITERS:
            raise LimitExceeded(
                f"{MAX_WAITERS} receivers wait for this queue already; try later", retryable=True
            )
        holder = request.holder[:200] or session.client
        # The answer must fit into a frame: leave room for its head.
        room = min(request.max_bytes, self._broker.config.max_frame // 2)
        asked = Receive(request.queue, request.max_messages, room, wait, visibility, holder)
        waiter = Waiter(session.id, number, asked, holder, visibility, now.run + wait)
        key = (session.id, number)
        self._opening.add(key)

        def opened(now: Now) -> None:
            if self._still_wanted(key):
                self._enqueue(now, queue, waiter)

        def gone(now: Now, error: DMQError) -> None:
            if self._still_wanted(key):
                self._broker.refuse(*key, error)

        self._broker.when_open(now, queue, opened, gone)

    def _still_wanted(self, key: tuple[int, int]) -> bool:
        """Tell whether a receive was not given up while its queue was being opened."""
        wanted = key in self._opening
        self._opening.discard(key)
        return wanted

    def _enqueue(self, now: Now, queue: Queue, waiter: Waiter) -> None:
        session = self._broker.sessions.get(waiter.session)
        if session is None and waiter.session:
            return
        key = (waiter.session, waiter.number)
        queue.waiters.append(waiter)
        self._waiters[key] = (queue, waiter)
        if session is not None:
            session.waiting[waiter.number] = queue
        self.serve(now, queue)
        if key in self._waiters:
            # With wait 0 the reads under way are still waited for: what is there is found.
            self._broker.deadlines.set(("wait", *key), max(waiter.deadline, now.run))
            if waiter.deadline <= now.run and not self._reading(queue):
                self.wait_over(now, *key)

    def take_for(self, now: Now, queue: Queue, limit: int, holder: str, then: Taken, gone: Gone) -> None:
        """Take up to `limit` ready messages for the node itself; call `then` with what there was.

        Arguments:
            gone: called instead if the queue is deleted.
        """
        asked = Receive(queue.name, limit, self._broker.config.max_frame // 2, 0.0, None, holder)
        self._own += 1
        waiter = Waiter(0, self._own, asked, holder, OWN_VISIBILITY, now.run)
        self._takers[self._own] = (then, gone)
        self._broker.when_open(
            now,
            queue,
            lambda now: self._enqueue(now, queue, waiter),
            lambda now, error: self._takers.pop(waiter.number)[1](now, error),
        )

    def _answer(self, now: Now, waiter: Waiter, delivered: Delivered) -> None:
        if waiter.session:
            self._broker.reply(waiter.session, waiter.number, delivered)
            self._broker.counters.sent_bytes += sum(len(p.batch) for p in delivered.parts)
        else:
            self._takers.pop(waiter.number)[0](now, delivered)

    def _reading(self, queue: Queue) -> bool:
        return any(reader.busy for reader in queue.readers)

    def serve(self, now: Now, queue: Queue) -> None:
        """Give what is ready to those who wait, and read ahead for the next."""
        if not queue.waiters or self.crowded:
            return
        broker = self._broker
        if broker.clustering is not None and not broker.clustering.delivers(queue):
            return
        for waiter, delivered in queue.serve(now, broker.new_delivery, self._blocked):
            self._drop(waiter)
            queue.used_at = now.run
            if delivered is None:
                broker.reply(waiter.session, waiter.number, Done(1))
            else:
                self._answer(now, waiter, delivered)
        queue.fill(now)
        for partition in queue.partitions:
            broker.touched(now, partition)

    def block(self, session: int, *, blocked: bool) -> None:
        """Give a session no messages until it is unblocked: it does not read those that it was sent."""
        if blocked:
            self._blocked.add(session)
        else:
            self._blocked.discard(session)

    def serve_waiting(self, now: Now, session: int | None = None) -> None:
        """Serve every queue for which this session waits, or anybody; something stood in their way."""
        keys = list(self._waiters)
        for queue in dict.fromkeys(self._waiters[k][0] for k in keys if session in (None, k[0])):
            self.serve(now, queue)

    def serve_woken(self, now: Now) -> None:
        """Reads are done: serve the queues for which they brought something."""
        woken, self._broker.woken = self._broker.woken, {}
        for queue in woken:
            self._broker.upkeep.looked(now, queue)
            if queue.open:
                self.look_again(now, queue)

    def look_again(self, now: Now, queue: Queue) -> None:
        """There may be more in a queue: serve it; whoever has waited long enough goes with nothing."""
        for partition in queue.partitions:
            partition.tick(now)
            self._broker.touched(now, partition)
        self.serve(now, queue)
        self._expire_waits(now, queue)

    def _expire_waits(self, now: Now, queue: Queue) -> None:
        if not self._reading(queue):
            for waiter in [w for w in queue.waiters if w.deadline <= now.run]:
                self.wait_over(now, waiter.session, waiter.number)

    def _drop(self, waiter: Waiter) -> None:
        key = (waiter.session, waiter.number)
        self._waiters.pop(key, None)
        self._broker.deadlines.cancel(("wait", *key))
        session = self._broker.sessions.get(waiter.session)
        if session is not None:
            session.waiting.pop(waiter.number, None)

    def wait_over(self, now: Now, session: int, number: int) -> None:
        """A receive has waited long enough: answer with nothing, unless what is there is being read."""
        found = self._waiters.get((session, number))
        if found is None:
            return
        queue, waiter = found
        if self._reading(queue) and not queue.definition.settings.paused:
            return
        queue.waiters.remove(waiter)
        self._drop(waiter)
        self._answer(now, waiter, Delivered(queue.name, waiter.visibility, []))

    def cancel(self, session: Session, number: int) -> None:
        """Give up a receive; one that was answered already stays answered."""
        found = self._waiters.get((session.id, number))
        if found is not None:
            queue, waiter = found
            queue.waiters.remove(waiter)
            self._drop(waiter)
        elif (session.id, number) in self._opening:
            self._opening.discard((session.id, number))
        else:
            return
        self._broker.reply(session.id, number, Cancelled())

    def forget(self, session: Session) -> None:
        """A connection is gone, and all its receives."""
        for number, queue in session.waiting.items():
            found = self._waiters.pop((session.id, number), None)
            if found is not None:
                queue.waiters.remove(found[1])
                self._broker.deadlines.cancel(("wait", session.id, number))

    def refuse_all(self, now: Now, queue: Queue, error: Refused) -> None:
        """The queue is gone: say so to all who wait for it."""
        waiters = list(queue.waiters)
        queue.waiters.clear()
        for waiter in waiters:
            self._drop(waiter)
            if waiter.session:
                self._broker.refuse(waiter.session, waiter.number, error)
            else:
                self._takers.pop(waiter.number)[1](now, error)

    def end_waits(self, now: Now) -> None:
        """The node stops: answer every receive with nothing."""
        for session, number in list(self._waiters):
            queue, waiter = self._waiters[session, number]
            queue.waiters.remove(waiter)
            self._drop(waiter)
            self._answer(now, waiter, Delivered(queue.name, waiter.visibility, []))

    def undelivered(self, now: Now, delivered: Delivered) -> None:
        """An answer never left this node: give back what it delivered, here or to who leads it."""
        self.take_back(now, delivered)
        if self._broker.clustering is not None:
            here = self._broker.registry.by_partition
            parts = [part for part in delivered.parts if part.partition not in here]
            self._broker.clustering.fanout.give_back(now, parts)

    def take_back(self, now: Now, delivered: Delivered) -> None:
        """What was to be delivered never left: it is ready again, as if nothing had been."""
        for part in delivered.parts:
            queue = self._broker.registry.by_partition.get(part.partition)
            if queue is None:
                continue  # deleted, or led elsewhere
            partition = queue.at(int.from_bytes(part.partition[8:], "big"))
            if partition is None:
                continue
            take_back(partition, part.delivery, part.log, part.first, part.count)
            self._broker.touched(now, partition)

    # --- settling ------------------------------------------------------------------------------------

    def settle(self, now: Now, session: Session, number: int, request: Ack | Nack | Extend) -> None:
        """Answer an ack, nack or extend, once what it changed is on disk.

        Errors: InvalidRequest.
        """
        if isinstance(request, Nack):
            check_seconds("delay", request.delay, 0.0, MAX_DELAY)
        elif isinstance(request, Extend):
            check_seconds("visibility", request.visibility, 0.0, MAX_VISIBILITY)
        wanted: dict[Queue, None] = {}
        for held in request.held:
            try:
                wanted[self._broker.queue_of(held[0])[0]] = None
            except StaleReceipt:
                continue
        self._settle_open(now, session, number, request, list(wanted))

    def _settle_open(
        self, now: Now, session: Session, number: int, request: Ack | Nack | Extend, closed: list[Queue]
    ) -> None:
        while closed:
            queue = closed.pop()
            if not queue.open:
                self._broker.when_open(
                    now,
                    queue,
                    lambda now: self._settle_open(now, session, number, request, closed),
                    lambda now, error: self._settle_open(now, session, number, request, closed),
                )
                return
        failed: list[tuple[int, str, str]] = []
        touched: dict[Partition, Queue] = {}
        for n, held in enumerate(request.held):
            try:
                self._settle_one(now, request, held, touched)
            except (Refused, Unknown) as error:
                failed.append((n, error.code, str(error)))
        reply = Reply(session.id, number, Settled(failed))
        if not touched or isinstance(request, Extend):
            self._broker.reply(*reply)
        else:
            _answer_settled(list(touched), reply, moving=isinstance(request, Nack))
        for partition, queue in touched.items():
            partition.tick(now)
            self._broker.touched(now, partition)
            queue.used_at = now.run
        for queue in dict.fromkeys(touched.values()):
            self.serve(now, queue)

    def _settle_one(
        self, now: Now, request: Ack | Nack | Extend, held: Held, touched: dict[Partition, Queue]
    ) -> None:
        id_, delivery, log, low, count = held
        queue, index = self._broker.queue_of(id_)
        partition = queue.at(index)
        if partition is None or count < 1 or low < 0:
            raise StaleReceipt(
                "this queue has no such partition or message; the receipt is of another cluster"
            )
        touched[partition] = queue
        match request:
            case Ack():
                ack(partition, delivery, log, low, count, again=request.again)
            case Nack():
                nack(
                    partition,
                    now,
                    delivery,
                    log,
                    low,
                    count,
                    delay=request.delay,
                    dead_letter=request.dead_letter,
                    reason=request.reason[:MAX_REASON],
                    again=request.again,
                    undelivered=request.undelivered,
                )
            case Extend():
                extend(partition, now, delivery, log, low, count, request.visibility)


def _answer_settled(touched: list[Partition], reply: Reply, *, moving: bool) -> None:
    """Answer once all is on disk; with `moving` also what goes to a dead-letter queue, over there.

    What was touched now is written in one group; what moves is written later, partition by partition.
    """
    late = [p for p in touched if p.exhausted.messages] if moving else []
    if not late:
        touched[0].after_write(reply)
        return
    left = len(late)

    def moved(partition: Partition) -> None:
        nonlocal left
        left -= 1
        if not left:
            partition.after_write(reply)

    for partition in late:
        partition.exhausted.after(lambda p=partition: moved(p))  # type: ignore[misc]
