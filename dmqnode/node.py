"""A node: the broker with a clock, a disk and doors.  The only place that performs its effects."""

from __future__ import annotations

import gc
import logging
import math
import os
from collections.abc import Callable

import trio

from dmqnode.belonging import Belonging, Own
from dmqnode.broker import Broker
from dmqnode.config import NodeConfig
from dmqnode.disk import look, measure, perform_read
from dmqnode.doors import Door, Doors
from dmqnode.effects import Compact
from dmqnode.errors import DMQError, NotAuthorized
from dmqnode.logs import say, say_rarely
from dmqnode.machine import MACHINE, Machine
from dmqnode.membership import Membership
from dmqnode.messages import Delivered, Failed, Hello, Message, Welcome
from dmqnode.pending import Pending
from dmqnode.reads import Read
from dmqnode.resources import Spare, give_memory_back
from dmqnode.roster import Member
from dmqnode.session import ConnectionSession
from dmqnode.space import Space
from dmqnode.tokens import Tokens
from dmqnode.unmended import Unmended
from storage.committer import Committer
from storage.errors import StorageError
from storage.store import Store

STOP_GRACE = 5.0
"""Seconds that a stopping node takes for what is under way."""
READERS = 4
"""Worker threads that read."""
TRIM_PERIODS = 5
"""Periods between two attempts to give memory back."""


class Node:
    """Runs one broker over one store.

    Arguments:
        config: of the node.
        store: opened; closed by whoever opened it.
        membership: who it is and to which cluster it belongs, on disk already.
        listeners: the doors, as from `trio.open_tcp_listeners`.
        address: HOST:PORT of the first.
        advertise: HOST:PORT where other nodes reach it, if that is another.
        machine: gives time, chance, threads, and ways to other nodes.
    """

    def __init__(
        self,
        config: NodeConfig,
        store: Store,
        membership: Membership,
        listeners: list[Door],
        *,
        address: str,
        machine: Machine = MACHINE,
        advertise: str = "",
        tokens: Tokens | None = None,
    ) -> None:
        self.config = config
        self._store = store
        self._unmended = Unmended(store)
        self.machine = machine
        self.now = machine.now
        self._tokens = tokens
        identity = membership.identity
        self.broker = Broker(config, identity, self.now())
        self.broker.surroundings.address = address
        self.broker.surroundings.pid = os.getpid()
        self.broker.surroundings.report = lambda text, found: say_rarely(text, found=found)
        self._sessions: dict[int, ConnectionSession | Own] = {}
        self.belonging = Belonging(
            self,
            membership,
            Member(identity.node, config.name, advertise or address, config.zone, float(config.weight)),
        )
        self._given_up: DMQError | None = None
        self.doors = Doors(self, listeners)
        self._wake = trio.Event()
        self._sleeping_until = math.inf
        self._stop = trio.Event()
        self._settled = trio.Event()
        self._committer = Committer(store, self, machine.in_thread, machine.stopwatch)
        self._committing = False
        """From a kick until there is nothing more to write."""
        self._reading = trio.CapacityLimiter(READERS)
        self._services: trio.Nursery | None = None
        self._compacting = False
        self._loaded = trio.Event()
        self._periods = 0
        self._spare = Spare()
        self._space = Space()
        self._dead = False
        self.ended = trio.Event()

    # --- running -------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is called, then finish what is under way and return.

        Cancelling ends it at once; what was answered is on disk all the same.

        Errors: StorageError when the disk failed; what `give_up` was told.
        """
        async with trio.open_nursery() as services:
            self._services = services
            services.start_soon(self._committer.run)
            services.start_soon(self._keep_time)
            await self._measure()
            services.start_soon(self._measure_for_ever)
            services.start_soon(self._notice_standing_still)
            self.broker.registry.load(self.now())
            self.perform()
            await self._loaded.wait()
            async with trio.open_nursery() as serving:
                serving.start_soon(self.doors.run)
                services.start_soon(self.belonging.settle_in)
                task_status.started()
                await self._stop.wait()
                self._store.end_compactions()  # which may take minutes, and whose end is waited for
                await self._finish()
                self.belonging.end()
                serving.cancel_scope.cancel()
            with trio.move_on_after(STOP_GRACE):
                await self._until(lambda: not self._committing)
            services.cancel_scope.cancel()
        self.ended.set()
        if self._given_up is not None:
            raise self._given_up

    def stop(self) -> None:
        """Begin to stop: refuse what is new, finish what is under way."""
        self._stop.set()

    def give_up(self, why: DMQError) -> None:
        """Begin to stop; `run` will raise `why`."""
        self._given_up = why
        self.stop()

    async def _finish(self) -> None:
        await self.doors.close()
        broker = self.broker
        await self.belonging.hand_over()
        broker.stop(self.now())
        self.belonging.end_waits()
        self.perform()
        for session in self.doors.sessions:
            session.say_goodbye("stopping", "this node is stopping; ask another, or again in a moment")

        def finished() -> bool:
            if broker.deliveries.waiting:  # of a queue that was being opened
                broker.deliveries.end_waits(self.now())
                self.perform()
            return not self._committing and all(s.idle for s in self.doors.sessions)

        with trio.move_on_after(STOP_GRACE):
            await self._until(finished)
        self.belonging.let_go()
        await self.belonging.farewell()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._settled = trio.Event()
            await self._settled.wait()

    # --- what the committer asks -----------------------------------------------------------------------

    def collect(self) -> Pending | None:
        """Return the next write group."""
        pending = self.broker.collect(self.now())
        if pending is None:
            self._committing = False
            self._settled.set()
        elif self._services is not None:
            self.belonging.tell(self._services)  # while this disk writes, the others do, too
        return pending

    def wants_write(self) -> bool:
        """Whether there is another write group."""
        return self.broker.wants_write(self.now())

    def look(self, pending: Pending) -> None:
        """Read what must be seen right behind a write group; in a worker thread."""
        look(self._store, pending)

    def written(self, pending: Pending) -> None:
        """A write group is on disk."""
        free = self._committer.free_bytes
        if free is not None:
            self.broker.surroundings.free_disk = free
        self.broker.written(self.now(), pending)
        self.perform()

    def failed(self, error: StorageError) -> None:
        """The disk failed: this node says nothing more."""
        self._dead = True
        say("the store failed; this node stops", level=logging.ERROR, why=str(error))

    # --- what sessions ask -----------------------------------------------------------------------------

    def welcome(self, hello: Hello) -> Welcome | Failed:
        """Answer a client's hello."""
        if self._tokens is not None:
            try:
                self._tokens.check(hello.token)
            except NotAuthorized as error:
                return Failed(error.code, str(error), False)
        if (full := self.doors.full) is not None:
            return full
        config = self.config
        return Welcome(1, config.cluster, config.name, [], config.max_frame, config.credit, config.keepalive)

    def open_session(self, hello: Hello, session: ConnectionSession) -> int:
        """A client has said hello; return the number of its session."""
        if self._tokens is not None:
            user = self._tokens.check(hello.token)
            known = hello.capabilities
            hello = Hello(hello.lowest, hello.highest, hello.client, user, known, hello.max_frame)
        number = self.broker.open_session(hello)
        self._sessions[number] = session
        return number

    def answer_to(self, number: int, own: Own) -> None:
        """Give the answers of a session of the node's own to `own`."""
        self._sessions[number] = own

    def close_session(self, session: ConnectionSession, number: int | None, unsent: list[Delivered]) -> None:
        """A session has ended; `unsent` never left."""
        self.doors.partly_read(session, 0)
        if number is not None:
            del self._sessions[number]
            self.broker.deliveries.block(number, blocked=False)
            self.broker.close_session(number)
            for delivered in unsent:
                self.broker.undelivered(self.now(), delivered)
            self.perform()
        self.doors.unwritten(session, 0)
        self._settled.set()

    def receive(self, session: int, requests: list[tuple[int, Message]]) -> None:
        """Hand requests to the broker."""
        now = self.now()
        for number, message in requests:
            self.broker.receive(now, session, number, message)
        self.perform()

    def sent(self) -> None:
        """A session has written all that it had taken up."""
        self._settled.set()

    def block(self, session: int, *, blocked: bool) -> None:
        """Give no messages to a session that does not read those that it has; or give it some again."""
        self.broker.deliveries.block(session, blocked=blocked)
        if not blocked:
            self.serve_waiting(session)

    def serve_waiting(self, session: int | None = None) -> None:
        """Give messages to a session, or to all, after something stood in the way."""
        self.broker.deliveries.serve_waiting(self.now(), session)
        self.perform()

    # --- effects ---------------------------------------------------------------------------------------

    def perform(self) -> None:
        """Do what the broker wants done now."""
        if self._dead:
            return
        broker = self.broker
        answered: dict[ConnectionSession | Own, None] = {}
        for reply in broker.take_replies(self.now()):
            self.doors.answered(reply.session, reply.number)
            session = self._sessions.get(reply.session)
            if session is not None:
                session.send(reply.number, reply.message)
                answered[session] = None
            elif isinstance(reply.message, Delivered) and reply.message.parts:
                broker.undelivered(self.now(), reply.message)
        for session in answered:
            session.flush()
        services = self._services
        assert services is not None
        self.belonging.tell(services)
        wanted = broker.reads.take_wanted()
        if wanted:
            for number, read in wanted:
                services.start_soon(self._read, number, read)
        if broker.compactions and not self._compacting:
            self._compacting = True
            services.start_soon(self._compact)
        if broker.registry.loaded and not self._loaded.is_set():
            self._loaded.set()
        if not self._committing and broker.wants_write(self.now()):
            self._committing = True
            self._committer.kick()
        if self.broker.next_deadline() < self._sleeping_until:
            self._wake.set()

    async def _read(self, number: int, read: Read) -> None:
        rows = await self.machine.in_thread(perform_read, self._store, read, limiter=self._reading)
        for key in rows.damaged:
            say_rarely("a damaged record was set aside", level=logging.ERROR, key=key.hex())
        self.broker.read_done(self.now(), number, rows)
        self.perform()
        self._settled.set()  # a queue that was being opened may have taken in who waits

    async def _compact(self) -> None:
        try:
            while self.broker.compactions:
                compact = self.broker.compactions.pop(0)
                size = await self.machine.in_thread(_compact, self._store, compact, limiter=self._reading)
                self._space.compacted(compact, size)
        finally:
            self._compacting = False

    async def _keep_time(self) -> None:
        """Call the broker when something is due."""
        while True:
            self._wake = trio.Event()
            self._sleeping_until = self.broker.next_deadline()
            with trio.move_on_at(self._sleeping_until):
                await self._wake.wait()
            self._sleeping_until = -math.inf
            if self.broker.next_deadline() <= trio.current_time():
                self.broker.tick(self.now())
                self.perform()

    async def _notice_standing_still(self) -> None:
        while True:  # waits for nothing else: a slow disk is no standstill
            if self.doors.beat(self.now()):
                self.belonging.peers.hang_up("this process stood still")
            await trio.sleep(1)

    async def _measure_for_ever(self) -> None:
        while True:
            await trio.sleep(1)
            await self._measure()
            self.doors.shed_stalled()

    async def _measure(self) -> None:
        around = self.broker.surroundings
        around.memory = self.machine.memory()
        self._periods += 1
        tight = around.memory > self.config.memory_limit * 3 // 4 and self._periods % TRIM_PERIODS == 0
        if tight:
            gc.collect()
        if self._spare.grown(around.memory, self.broker.counters.writes) or tight:
            await self.machine.in_thread(give_memory_back, limiter=self._reading)
            around.memory = self.machine.memory()
            self._spare.kept(around.memory)
        usage = await self.machine.in_thread(_disk_usage, self._store, self._unmended, limiter=self._reading)
        around.free_disk, around.store_bytes, around.set_aside, around.unmended = usage
        if self.broker.registry.loaded and not self._compacting:
            await self._make_room()

    async def _make_room(self) -> None:
        """Look in some places for what is gone and still takes room on the disk."""
        space, short = self._space, self.broker.sends.short_of_disk
        if not space.worth(self.broker.surroundings.store_bytes, short=short):
            return
        if space.over:
            clustering = self.broker.clustering
            owes = clustering is not None and clustering.debts.count > 0
            queues = self.broker.registry.every()
            space.begin((id_ for queue in queues for id_ in queue.definition.partition_ids), owes=owes)
        spans = space.take(short=short)
        found = await self.machine.in_thread(measure, self._store, spans, limiter=self._reading)
        self.broker.compactions += space.measured(found, short=short)
        self.perform()


def _compact(store: Store, compact: Compact) -> int:
    store.compact(compact.start, compact.stop)
    return store.size(compact.start, compact.stop)


def _disk_usage(store: Store, unmended: Unmended) -> tuple[int, int, int, int]:
    kept = store.statistics()
    return store.free_bytes(), kept.bytes_on_disk, kept.set_aside, unmended.count(kept.set_aside)
