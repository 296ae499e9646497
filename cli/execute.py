"""`dmq receive --exec`: one command for each message, several at once, for hours."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import trio

import dmqnode
from cli.failures import DONE, NOTHING
from cli.options import not_found
from cli.render import note, several, warn
from dmqnode.errors import DMQError, PartlyFailed, QueueNotFound, Refused, Unavailable, Unknown

if TYPE_CHECKING:
    from cli.options import Shared
    from cli.receive import Wanted

SHELL = "/bin/sh"
DEAD_LETTER = 65
"""Exit code that moves a message to the dead-letter queue; EX_DATAERR of sysexits(3)."""
NOT_STARTED = 126
"""Instead of the exit code of a command that could not be started; what a shell gives for that."""
BEATS = 3
"""How often a message is extended within its visibility."""
PAUSE = 1.0
"""Seconds before asking again, when no node could be reached."""
SHORTEST_REST, LONGEST_REST = 0.1, 5.0
"""Seconds without taking messages after a command has failed: twice as long each time, until one succeeds.

What is given back comes again at once: a command that always fails would do nothing else all the time.
"""
PARTING = 2.0
"""Seconds for giving messages back when we are told to leave at once."""
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


def execute(shared: Shared, queue: str, wanted: Wanted, command: str, *, workers: int) -> int:
    """Run `command` for each message of `queue`; return the exit code.

    Arguments:
        workers: commands that run at once, at most.

    Errors: those of the client, once what runs has finished.
    """
    return trio.run(_Worker(shared, queue, wanted, command, workers).run)


def environment(message: dmqnode.Message) -> dict[str, str]:
    """Return what a command finds in its environment beside ours.

    An attribute's name is given in capitals, and as it is; what cannot be in a name becomes '_'.
    """
    found = {
        "DMQ_MESSAGE_ID": message.id,
        "DMQ_RECEIPT": str(message.receipt),
        "DMQ_ATTEMPT": str(message.attempt),
        "DMQ_QUEUE": message.queue,
    }
    for key, value in message.attributes.items():
        name = _NOT_IN_A_NAME.sub("_", key)
        # An environment cannot hold NUL.
        found[f"DMQ_ATTR_{name}"] = found[f"DMQ_ATTR_{name.upper()}"] = value.replace("\0", "")
    return found


class _Worker:
    """Takes as many messages as commands may run, and runs them."""

    def __init__(self, shared: Shared, queue: str, wanted: Wanted, command: str, workers: int) -> None:
        self._shared = shared
        self._queue = queue
        self._wanted = wanted
        self._command = command
        self._workers = workers
        self._running: dict[str, dmqnode.Message] = {}
        """By receipt: what one worker gives back another may have before the first is done with it."""
        self._finished = trio.Event()
        self._failed = False
        """Whether a command has failed since messages were taken."""
        self._rest = SHORTEST_REST
        self._signal = 0
        self._taking = trio.CancelScope()
        self._error: DMQError | None = None
        self._visibility = 0.0
        self._taken = self._acked = self._nacked = self._dead = self._unsettled = 0

    async def run(self) -> int:
        """Work until there is no more, or a signal comes; return the exit code."""
        shared = self._shared
        # From here on, whatever is under way: what raises out of a signal must not do so inside of trio.
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with dmqnode.connect(
                *shared.nodes, token=shared.token, timeout=shared.timeout, direct=shared.direct
            ) as client:
                try:
                    await self._work(client, signals)
                finally:
                    await self._give_back(client)
        return self._outcome()

    async def _work(self, client: dmqnode.Client, signals: AsyncIterator[int]) -> None:
        async with trio.open_nursery() as services:
            services.start_soon(self._heed_signals, signals, services.cancel_scope)
            await self._ask_visibility(client)
            if self._error is None:
                services.start_soon(self._beat, client)
                async with trio.open_nursery() as commands:
                    await self._take(client, commands)
            services.cancel_scope.cancel()

    def _outcome(self) -> int:
        done = f"{several(self._acked)} done"
        if self._nacked:
            done += f", {self._nacked:,} given back"
        if self._dead:
            done += f", {self._dead:,} to the dead-letter queue"
        if self._taken:
            note(self._shared, done)
        if self._error is not None:
            raise self._error
        if self._signal:
            return 128 + self._signal
        if self._unsettled:
            raise PartlyFailed(f"the outcome of {several(self._unsettled)} could not be told in time", [])
        if not self._taken:
            note(self._shared, f'nothing to receive in queue "{self._queue}"')
            return NOTHING
        return DONE

    async def _ask_visibility(self, client: dmqnode.Client) -> None:
        """Learn for how long messages stay hidden; an error ends it, and so does a signal."""
        given = self._wanted.visibility
        try:
            with self._until_told():
                info = await client.queue(self._queue)
                self._visibility = float(info["visibility"]) if given is None else given
        except QueueNotFound:
            with self._until_told():
                self._error = not_found(self._queue, await self._names(client))
        except DMQError as error:
            self._error = error

    async def _names(self, client: dmqnode.Client) -> list[str]:
        try:
            return [str(found["name"]) for found in await client.queues()]
        except DMQError:
            return []

    # --- taking --------------------------------------------------------------------------------------

    async def _take(self, client: dmqnode.Client, commands: trio.Nursery) -> None:
        """Take messages while commands may be run; returns when no more are to be taken."""
        wanted = self._wanted
        while not self._signal and (wanted.limit is None or self._taken < wanted.limit):
            if len(self._running) >= self._workers:
                await self._wait_for_one()
                continue
            if self._failed:
                await self._rest_a_while()
                continue
            messages = await self._receive(client)
            for message in messages:
                self._taken += 1
                self._running[str(message.receipt)] = message
                commands.start_soon(self._handle, client, message)
            if messages or wanted.follow:
                continue
            if self._error is not None or not self._running:
                return
            # What runs may be given back, and come again.
            await self._wait_for_one()

    def _until_told(self) -> trio.CancelScope:
        """Return a scope that a signal cancels."""
        self._taking = trio.CancelScope()
        if self._signal:
            self._taking.cancel()
        return self._taking

    async def _wait_for_one(self) -> None:
        with self._until_told():
            await self._finished.wait()
        self._finished = trio.Event()

    async def _rest_a_while(self) -> None:
        rest, self._rest = self._rest, min(2 * self._rest, LONGEST_REST)
        with self._until_told():
            await trio.sleep(rest)
        self._failed = False  # what failed meanwhile, too: several workers fail at once

    async def _receive(self, client: dmqnode.Client) -> list[dmqnode.Message]:
        """Receive for the workers that are idle; nothing when there is nothing, or an error ends it."""
        room = self._workers - len(self._running)
        if self._wanted.limit is not None:
            room = min(room, self._wanted.limit - self._taken)
        messages: list[dmqnode.Message] = []
        try:
            with self._until_told():
                messages = await client.receive(
                    self._queue, max_messages=room, wait=self._wanted.wait, visibility=self._visibility
                )
        except (Unavailable, Unknown) as error:
            if not self._wanted.follow:
                self._error = error
                return []
            warn(f"{error} (trying again)")
            with self._until_told():
                await trio.sleep(PAUSE)
        except DMQError as error:
            self._error = error
            self._wanted.follow = False
        return messages

    # --- running -------------------------------------------------------------------------------------

    async def _handle(self, client: dmqnode.Client, message: dmqnode.Message) -> None:
        try:
            await self._settle(client, message, *await self._run(message))
        except (Refused, Unknown) as error:
            self._unsettled += 1
            warn(f"message {message.id}: {error}")
        # Where we were cancelled it stays among those that run, and is given back.
        del self._running[str(message.receipt)]
        self._finished.set()

    async def _run(self, message: dmqnode.Message) -> tuple[int, str]:
        """Run the command for a message; return its exit code, and how it ended."""
        try:
            code = await self._run_command(message)
        except OSError as error:
            why = f"the command could not be started: {error.strerror}"
            hint = " (its attributes are too long for an environment)" if error.errno == errno.E2BIG else ""
            warn(f"message {message.id}: {why}{hint}")
            return NOT_STARTED, why
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return code, f"the command ended with {how}"

    async def _run_command(self, message: dmqnode.Message) -> int:
        done: subprocess.CompletedProcess[bytes] = await trio.run_process(
            [SHELL, "-c", self._command],
            stdin=message.body,
            env={**os.environ, **environment(message)},
            check=False,
        )
        return done.returncode

    async def _settle(self, client: dmqnode.Client, message: dmqnode.Message, code: int, how: str) -> None:
        if code == 0:
            await client.ack(message)
            self._acked += 1
            self._rest = SHORTEST_REST
            return
        if code == DEAD_LETTER:
            try:
                await client.nack(message, dead_letter=True, reason=how)
            except Refused as error:
                if error.code != Refused.code:
                    raise
                warn(f"message {message.id}: {error}")
            else:
                self._dead += 1
                return
        await client.nack(message, reason=how)
        self._nacked += 1
        self._failed = True

    async def _beat(self, client: dmqnode.Client) -> None:
        """Keep the messages hidden whose commands run."""
        while True:
            await trio.sleep(max(0.05, self._visibility / BEATS))
            held = list(self._running.values())
            if not held:
                continue
            try:
                with trio.move_on_after(max(1.0, self._visibility)):
                    await client.extend(held, self._visibility)
            except DMQError:
                # Some have just been settled, or no node is there: whoever settles the others is told.
                continue

    # --- leaving -------------------------------------------------------------------------------------

    async def _heed_signals(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """The first signal: take no more.  The second: stop the commands too."""
        async for number in signals:
            if self._signal:
                everything.cancel()
                return
            self._signal = number
            self._taking.cancel()
            if self._running:
                note(self._shared, f"finishing {several(len(self._running), 'command')}")

    async def _give_back(self, client: dmqnode.Client) -> None:
        if not self._running:
            return
        with trio.move_on_after(PARTING):
            try:
                await client.nack(list(self._running.values()))
            except DMQError:
                pass  # they come again when their visibility ends
