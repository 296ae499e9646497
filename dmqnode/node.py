"""A node: the broker with a clock, a disk and doors.  The only place that performs its effects."""

from __future__ import annotations

import logging
import math
import os
import resource
import secrets
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio
from storage.committer import Committer
from storage.errors import StorageError
from storage.leveldb import LevelStore
from storage.store import Store

from dmqnode.broker import Broker, Pending
from dmqnode.clock import Now
from dmqnode.config import NodeConfig, host_port
from dmqnode.disk import perform_read
from dmqnode.errors import NotAuthorized, UsageError
from dmqnode.ids import NODE_ID_SIZE, NodeId
from dmqnode.keys import IDENTITY
from dmqnode.logs import say, start_logging
from dmqnode.messages import Delivered, Failed, Hello, Message, Welcome
from dmqnode.reads import Read
from dmqnode.records import Identity, decode_identity, encode_identity
from dmqnode.session import ConnectionSession
from dmqnode.tokens import Tokens
from storage.ops import WriteBatch

STOP_GRACE = 5.0
"""Seconds that a stopping node takes for what is under way."""
READERS = 4
"""Worker threads that read."""
SPARE_FILES = 128
"""File descriptors kept for the store when connections are counted."""


class Node:
    """Runs one broker over one store.

    Arguments:
        config: of the node.
        store: opened; closed by whoever opened it.
        identity: of this run, on disk already.
        listeners: the doors, as from `trio.open_tcp_listeners`.
        wall: milliseconds since 1970.
    """

    def __init__(
        self,
        config: NodeConfig,
        store: Store,
        identity: Identity,
        listeners: list[trio.SocketListener],
        *,
        wall: Callable[[], int],
        cluster: bytes,
        tokens: Tokens | None = None,
    ) -> None:
        self.config = config
        self._store = store
        self._listeners = listeners
        self._wall = wall
        self._cluster = cluster
        self._tokens = tokens
        self.broker = Broker(config, identity, self._now())
        self._sessions: dict[int, ConnectionSession] = {}
        self._open: set[ConnectionSession] = set()
        self._wake = trio.Event()
        self._sleeping_until = math.inf
        self._stop = trio.Event()
        self._settled = trio.Event()
        self._committer = Committer(store, self)
        self._reading = trio.CapacityLimiter(READERS)
        self._reads: trio.Nursery | None = None
        self._compacting = False
        self._loaded = trio.Event()
        self.ended = trio.Event()

    def _now(self) -> Now:
        return Now(trio.current_time(), self._wall())

    # --- running -------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is called, then finish what is under way and return.

        Cancelling ends it at once; what was answered is on disk all the same.

        Errors: StorageError when the disk failed.
        """
        async with trio.open_nursery() as services:
            self._reads = services
            services.start_soon(self._committer.run)
            services.start_soon(self._keep_time)
            services.start_soon(self._measure_for_ever)
            await self._measure()
            self.broker.registry.load(self._now())
            self._perform()
            await self._loaded.wait()
            async with trio.open_nursery() as doors:
                doors.start_soon(partial(trio.serve_listeners, self._session, self._listeners))
                task_status.started()
                await self._stop.wait()
                await self._finish()
                doors.cancel_scope.cancel()
            services.cancel_scope.cancel()
        self.ended.set()

    def stop(self) -> None:
        """Begin to stop: refuse what is new, finish what is under way."""
        self._stop.set()

    async def _finish(self) -> None:
        for listener in self._listeners:
            await listener.aclose()
        broker = self.broker
        broker.stop(self._now())
        self._perform()
        for session in self._open:
            session.say_goodbye("stopping", "this node is stopping; ask another, or again in a moment")
        with trio.move_on_after(STOP_GRACE):
            while broker.wants_write(self._now()) or not all(s.idle for s in self._open):
                self._settled = trio.Event()
                await self._settled.wait()

    # --- what the committer asks -----------------------------------------------------------------------

    def collect(self) -> Pending | None:
        """Return the next write group."""
        return self.broker.collect(self._now())

    def written(self, pending: Pending) -> None:
        """A write group is on disk."""
        self.broker.written(self._now(), pending)
        self._perform()
        self._settled.set()

    def sent(self) -> None:
        """A session has written what it had to."""
        self._settled.set()

    def failed(self, error: StorageError) -> None:
        """The disk failed: this node says nothing more."""
        say("the store failed; this node stops", level=logging.ERROR, why=str(error))

    # --- what sessions ask -----------------------------------------------------------------------------

    def welcome(self, hello: Hello) -> Welcome | Failed:
        """Answer a client's hello."""
        if self._tokens is not None:
            try:
                self._tokens.check(hello.token)
            except NotAuthorized as error:
                return Failed(error.code, str(error), False)
        config = self.config
        return Welcome(1, config.cluster, config.name, [], config.max_frame, config.credit, config.keepalive)

    def open_session(self, hello: Hello, session: ConnectionSession) -> int:
        """A client has said hello; return the number of its session."""
        if self._tokens is not None:
            hello = Hello(
                hello.lowest,
                hello.highest,
                hello.client,
                self._tokens.check(hello.token),
                [],
                hello.max_frame,
            )
        number = self.broker.open_session(hello)
        self._sessions[number] = session
        return number

    def close_session(self, number: int, unsent: list[Delivered]) -> None:
        """A session has ended; `unsent` never left."""
        del self._sessions[number]
        self.broker.close_session(number)
        for delivered in unsent:
            self.broker.undelivered(self._now(), delivered)
        self._perform()

    def receive(self, session: int, requests: list[tuple[int, Message]]) -> None:
        """Hand requests to the broker."""
        now = self._now()
        for number, message in requests:
            self.broker.receive(now, session, number, message)
        self._perform()

    async def _session(self, stream: trio.SocketStream) -> None:
        if len(self._open) >= self.config.max_connections:
            say(
                "a connection was refused: there are too many",
                level=logging.WARNING,
                limit=self.config.max_connections,
            )
            await stream.aclose()
            return
        session = ConnectionSession(self, stream)
        self._open.add(session)
        try:
            await session.run()
        finally:
            self._open.discard(session)

    # --- effects ---------------------------------------------------------------------------------------

    def _perform(self) -> None:
        """Do what the broker wants done now."""
        broker = self.broker
        for reply in broker.take_replies():
            session = self._sessions.get(reply.session)
            if session is not None:
                session.send(reply.number, reply.message)
            elif isinstance(reply.message, Delivered) and reply.message.parts:
                broker.undelivered(self._now(), reply.message)
        wanted = broker.reads.take_wanted()
        if wanted:
            assert self._reads is not None
            for number, read in wanted:
                self._reads.start_soon(self._read, number, read)
        if broker.compactions and not self._compacting:
            assert self._reads is not None
            self._compacting = True
            self._reads.start_soon(self._compact)
        if broker.registry.loaded and not self._loaded.is_set():
            self._loaded.set()
        if broker.wants_write(self._now()):
            self._committer.kick()
        if broker.next_deadline() < self._sleeping_until:
            self._wake.set()

    async def _read(self, number: int, read: Read) -> None:
        rows = await trio.to_thread.run_sync(perform_read, self._store, read, limiter=self._reading)
        for key in rows.damaged:
            say("a damaged record was set aside", level=logging.ERROR, key=key.hex())
        self.broker.read_done(self._now(), number, rows)
        self._perform()

    async def _compact(self) -> None:
        try:
            while self.broker.compactions:
                compact = self.broker.compactions.pop(0)
                await trio.to_thread.run_sync(
                    self._store.compact, compact.start, compact.stop, limiter=self._reading
                )
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
                self.broker.tick(self._now())
                self._perform()

    async def _measure_for_ever(self) -> None:
        while True:
            await trio.sleep(1)
            await self._measure()

    async def _measure(self) -> None:
        around = self.broker.surroundings
        around.memory = resident_memory()
        around.connections = len(self._open)
        around.pid = os.getpid()
        around.address = _address_of(self._listeners)
        usage = await trio.to_thread.run_sync(
            _disk_usage, self._store, self.config.data, limiter=self._reading
        )
        around.free_disk, around.store_bytes, around.set_aside = usage


def _disk_usage(store: Store, data: Path) -> tuple[int, int, int]:
    found = os.statvfs(data)
    statistics = store.statistics()
    return found.f_bavail * found.f_frsize, statistics.bytes_on_disk, statistics.set_aside


def resident_memory() -> int:
    """Return the bytes of memory that this process alone occupies, files mapped by it not counted."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _address_of(listeners: list[trio.SocketListener]) -> str:
    try:
        host, port = listeners[0].socket.getsockname()[:2]
    except (OSError, IndexError):
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def take_identity(store: Store) -> tuple[Identity, bytes]:
    """Read who this node is, or make it up; count this start; return it with the cluster's id (rules I1, I3)."""
    record = store.get(IDENTITY)
    if record is None:
        node, boot, cluster = NodeId(secrets.token_bytes(NODE_ID_SIZE)), 0, secrets.token_bytes(16)
    else:
        (node, boot, _), cluster = decode_identity(record)
    identity = Identity(node, boot + 1, secrets.randbits(32))
    batch = WriteBatch()
    batch.put(IDENTITY, encode_identity(identity, cluster))
    store.write(batch, sync=True)
    return identity, cluster


async def _serve(config: NodeConfig) -> None:
    tokens = Tokens.read(config.tokens) if config.tokens is not None else None
    host, port = host_port(config.listen)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except socket.gaierror as error:
        raise UsageError(
            f"{config.listen}: {error.strerror}; give an address of this host with --listen"
        ) from None
    except OSError as error:
        raise UsageError(
            f"cannot listen on {config.listen}: {os.strerror(error.errno or 0)}; is a node running there? "
            "give another address with --listen"
        ) from None
    config.data.mkdir(parents=True, exist_ok=True)
    store = await trio.to_thread.run_sync(LevelStore.open, config.data)
    try:
        identity, cluster = await trio.to_thread.run_sync(take_identity, store)
        node = Node(
            config,
            store,
            identity,
            listeners,
            wall=lambda: time.time_ns() // 1_000_000,
            cluster=cluster,
            tokens=tokens,
        )
        if store.renamed_aside is not None:
            notice = f"the store did not open and was renamed to {store.renamed_aside}; this node began an empty one"
            node.broker.surroundings.notices.append(notice)
            say(notice, level=logging.ERROR)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, node)
            await nursery.start(node.run)
            address = _address_of(listeners)
            say("serving", name=config.name, address=address, data=config.data)
            print(f"ready {config.name} {address}", flush=True)
            await node.ended.wait()
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close)


async def _stop_on_signal(node: Node) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            say("stopping", signal=signal.Signals(number).name)
            node.stop()


def _raise_file_limit(config: NodeConfig) -> int:
    """Allow as many open files as the system lets us; return how many connections that bears."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.max_connections + SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(config.max_connections, soft - SPARE_FILES))


def serve(config: NodeConfig) -> int:
    """Run a node until SIGTERM or SIGINT; return the exit code.

    Errors: UsageError for what the user can mend, StorageError when the disk cannot be used or fails.
    """
    from dataclasses import replace

    start_logging(config.log_format)
    name = config.name or socket.gethostname().split(".")[0]
    config = replace(config, name=name, max_connections=_raise_file_limit(config))
    try:
        trio.run(_serve, config)
    except BaseExceptionGroup as group:
        raise _single(group) from None
    return 0


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one cause of a group, if it is one that is explained in a sentence; else the group."""
    found = group.subgroup((UsageError, StorageError))
    cause: BaseException | None = found
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return group if cause is None else cause
