"""What makes a process a node: its doors, its store, its signals."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from dmqnode import addressbook
from dmqnode.amnesia import BeginAnew, left_behind, lost_memory
from dmqnode.config import NodeConfig, host_port
from dmqnode.errors import DMQError, UsageError, system_error
from dmqnode.joining import listed_address, settle
from dmqnode.keys import DEBTS, DEBTS_END
from dmqnode.logs import say, start_logging
from dmqnode.membership import Membership
from dmqnode.node import Node
from dmqnode.resources import (
    keep_memory_together,
    raise_file_limit,
    settle_garbage,
    silence_stdout,
    switch_threads_soon,
)
from dmqnode.roster import ROSTER_KEY
from dmqnode.tokens import Tokens
from storage.anew import begin_anew
from storage.errors import StorageError
from storage.inspection import put_aside_in
from storage.leveldb import LevelStore


class CannotStart(DMQError):
    """Something in this machine is in the way of a start."""

    code = "cannot-start"


def serve(config: NodeConfig) -> int:
    """Run a node until SIGTERM or SIGINT; return the exit code.

    A second signal ends the process at once.

    Errors: UsageError for a setting that cannot be used; CannotStart for a port or directory that cannot;
    StorageError when the disk cannot be used, or fails: then the log has a line about it.
    """
    start_logging(config.log_format)
    name = config.name or _name_of_host()
    config = replace(config, name=name, max_connections=raise_file_limit(config.max_connections))
    keep_memory_together()
    switch_threads_soon()
    notices: list[str] = []
    while True:
        try:
            trio.run(_serve, config, notices, restrict_keyboard_interrupt_to_checkpoints=True)
            return 0
        except BaseExceptionGroup as group:
            cause = _single(group)
            if not isinstance(cause, BeginAnew):
                raise cause from None
        # What it has accepted for others while it was cut off is all that they still want of it (C1).
        living = _count(config)
        renamed = begin_anew(config.data, DEBTS, DEBTS_END)
        say("this node begins anew, as a new node", level=logging.ERROR, why=cause, store=renamed)
        if living:
            notices.append(
                f"this node began anew, as a new node; its copies were left in {renamed}, with "
                f"{living:,} living message{'s' * (living != 1)}: where most homes of a "
                "queue were lost or forgotten at the same time, some of these may be the last"
            )
        config = replace(config, join=config.join or cause.seeds)


def _count(config: NodeConfig) -> int:
    store = LevelStore.open(config.data)
    try:
        return left_behind(store)
    finally:
        store.close()


def _name_of_host() -> str:
    name = socket.gethostname().split(".")[0]
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-")
    return kept[:63] or "node"


async def _serve(config: NodeConfig, notices: list[str]) -> None:
    tokens = Tokens.read(config.tokens) if config.tokens is not None else None
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stop)
        async with _listening(config.listen) as listeners:
            address = _address_of(listeners)
            advertise = config.advertise or _reachable(config.listen, address)
            async with _storing(config, advertise) as (store, lost):
                membership = await _until_stopped(
                    stop, lambda: settle(config, store, listeners, advertise, tokens, lost=lost)
                )
                if membership is None:
                    nursery.cancel_scope.cancel()
                    return
                node = Node(
                    config,
                    store,
                    membership,
                    list(listeners),
                    address=address,
                    advertise=listed_address(config, membership, advertise),
                    tokens=tokens,
                )
                for notice in (*notices, *store.notices):
                    node.broker.surroundings.notices.append(notice)
                    say(notice, level=logging.ERROR)
                async with trio.open_nursery() as running:
                    await running.start(node.run)
                    nursery.start_soon(addressbook.keep, config.data, lambda: _members_of(node))
                    settle_garbage()
                    say("serving", name=config.name, address=address, data=config.data)
                    _announce(f"ready {config.name} {address}")
                    await _either(stop, node.ended)
                    node.stop()
        nursery.cancel_scope.cancel()
    say("stopped")


async def _until_stopped(stop: trio.Event, settle: Callable[[], Awaitable[Membership]]) -> Membership | None:
    """Return what `settle` returns, None if a signal came first."""
    result: Membership | None = None
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            await stop.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(give_up)
        result = await settle()
        nursery.cancel_scope.cancel()
    return result


async def _either(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


async def _watch_signals(
    stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            say("stopping", signal=signal.Signals(number).name)
            stop.set()


def _announce(line: str) -> None:
    """Print the one line that a node has for stdout; a node serves as well when nobody reads it."""
    try:
        print(line, flush=True)
    except OSError:
        silence_stdout()


# --- what may be in the way --------------------------------------------------------------------------------


@asynccontextmanager
async def _listening(address: str) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen at HOST:PORT.

    Errors: UsageError for an address that is not of this host; CannotStart.
    """
    host, port = host_port(address)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is no host name"
        raise UsageError(f"cannot listen on {address}: {why}; give an address of this host") from None
    except OSError as error:
        raise _refused(address, error) from None
    if port == 0:
        # A name with several addresses would get a port for each; what is announced is one.
        for extra in listeners[1:]:
            await extra.aclose()
        listeners = listeners[:1]
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


def _refused(address: str, error: OSError) -> DMQError:
    code = system_error(error).errno
    if code == errno.EADDRINUSE:
        return CannotStart(
            f"cannot listen on {address}: another program does, perhaps a node; "
            "stop it, or give another address with --listen"
        )
    if code == errno.EADDRNOTAVAIL:
        return UsageError(f"cannot listen on {address}: this host does not have that address")
    why = os.strerror(code) if code else str(error)
    return CannotStart(f"cannot listen on {address}: {why}; give another address with --listen")


@asynccontextmanager
async def _storing(config: NodeConfig, own: str) -> AsyncIterator[tuple[LevelStore, tuple[str, ...] | None]]:
    """Open the store; close it however this ends.

    Give it, and where others may be if the node has had a store with which it could not go on, else None.

    Arguments:
        own: where others reach this node.

    Errors: StorageError; CannotStart for a directory that cannot be made; Unreadable.
    """
    directory = config.data
    try:
        await trio.Path(directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"cannot make the data directory {directory}: {error.strerror}; give another one with --data"
        ) from None
    store, lost = await trio.to_thread.run_sync(_open, config, own)
    try:
        yield store, lost
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close)


def _open(config: NodeConfig, own: str) -> tuple[LevelStore, tuple[str, ...] | None]:
    """Open the store, or a new one if the node has lost its memory (I2); return it, see `_storing`."""
    store = LevelStore.open(config.data)
    try:
        lost = lost_memory(store, incomplete=store.incomplete)
        if lost is None:
            anew = store.get(ROSTER_KEY) is None and bool(put_aside_in(config.data))
            return store, _noted(config, own) if anew else None
        seeds = tuple(dict.fromkeys((*lost.seeds, *_noted(config, own, lost.seeds))))
        if not {*config.join, *seeds} - {own}:
            raise CannotStart(
                f"this node was one of several, and cannot read {lost.what} in {config.data}; "
                "start it with --join and the address of another member: it begins anew, as a new node"
            )
        try:
            renamed = store.put_aside()
        except OSError as error:
            raise CannotStart(f"cannot rename the store in {config.data}: {error.strerror}") from None
    except BaseException:
        store.close()
        raise
    new = LevelStore.open(config.data)
    new.notices.append(
        f"this node cannot read {lost.what}: it begins anew, as a new node; "
        f"its store was renamed to {renamed}"
    )
    return new, seeds


def _noted(config: NodeConfig, own: str, seeds: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return where the members were; who knows others may do without.  Errors: Unreadable.

    Arguments:
        own: where others reach this node.
        seeds: others that it knows besides those that it is to join.
    """
    try:
        return addressbook.read(config.data)
    except addressbook.Unreadable as error:
        if not {*config.join, *seeds} - {own}:
            raise
        say("going on with the other members that are known", level=logging.WARNING, why=error)
        return ()


def _members_of(node: Node) -> list[str]:
    clustering = node.broker.clustering
    return [] if clustering is None else [m.address for m in clustering.rosters.current.members]


def _address_of(listeners: list[trio.SocketListener]) -> str:
    host, port = listeners[0].socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reachable(listen: str, address: str) -> str:
    """Return where others reach a node.

    That is the name at which it was told to listen; at this host, if it listens everywhere.

    Arguments:
        listen: what it was told.
        address: where it listens.
    """
    name, (bound, port) = host_port(listen)[0], host_port(address)
    if bound in ("0.0.0.0", "::"):
        return f"{socket.gethostname()}:{port}"
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return f"{name}:{port}"
    return address


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one cause of a group, if it is one that is explained in a sentence; else the group."""
    known, other = group.split((DMQError, StorageError))
    if known is None or other is not None:
        return group
    cause: BaseException = known
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause
