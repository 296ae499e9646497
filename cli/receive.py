"""`dmq receive`: write bodies, then ack them; or run a command for each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.failures import DONE, NOTHING, Signalled
from cli.output import ReaderGone, taken, write
from cli.render import Progress, is_terminal, note, several, warn
from dmqnode.errors import DMQError, PartlyFailed, StaleReceipt, Unavailable, Unknown, UsageError

if TYPE_CHECKING:
    from cli.options import Shared
    from dmqnode.blocking import SyncClient

DEFAULT_WAIT = 20.0
MOST = 4096
"""Messages taken at once: they are held until they are written."""
GROWTH = 4
"""How much more is taken at once than the time before, up to MOST: `| head -n 1` wants one."""
PAUSE = 1.0
"""Seconds before asking again, with --follow, when no node could be reached in time."""
DEBTS_PAUSE = 0.2
DEBTS_WAIT = 10.0
"""Seconds between two looks, and at most, for which --all waits for messages that other nodes took in
while nobody led the queue, and hand over to whoever does now."""
GIVE_BACK = 2.0
"""Seconds for giving messages back when we are told to leave."""


class Wanted:
    """What to receive.

    Arguments:
        limit: how many, None for no limit.
        wait: seconds to wait for the next message before giving up.
        follow: never give up.
        visibility: seconds that messages stay hidden, None for the queue's own.
        all_: until the queue is empty.
    """

    def __init__(
        self,
        limit: int | None,
        *,
        wait: float,
        follow: bool,
        visibility: float | None,
        all_: bool = False,
    ) -> None:
        self.all = all_
        self.limit = limit
        self.wait = wait
        self.follow = follow
        self.visibility = visibility


def receive(
    ctx: typer.Context,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", autocompletion=options.queue_names)],
    number: Annotated[
        str | None, typer.Option("-n", "--number", metavar="N", help="Receive up to N messages (1).")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Receive until the queue is empty.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on for ever.")] = False,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="DUR", help="How long to wait for a message (20s; with --all 0s)."),
    ] = None,
    visibility: Annotated[
        str | None,
        typer.Option("--visibility", metavar="DUR", help="How long to hide it from others (the queue's)."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Write a newline after each body.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Do not ack: it comes again unless acked later.")
    ] = False,
    exec_: Annotated[
        str | None,
        typer.Option("--exec", metavar="CMD", help="Run CMD for each message, the body on its stdin."),
    ] = None,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N", help="Commands to run at once with --exec (1).")
    ] = None,
) -> int:
    """Receive messages: write their bodies, and ack them once they are written.

    Ends after N messages, or when none came for the time of --wait; exits with 3 if there was none at all.

    With --exec, every message that comes is given to a command of its own, until none comes within --wait.
    Exit code 0 acks it, 65 moves it to the dead-letter queue, any other gives it back. While the command
    runs the message stays hidden. DMQ_MESSAGE_ID, DMQ_RECEIPT, DMQ_ATTEMPT, DMQ_QUEUE and DMQ_ATTR_<NAME>
    tell it which one it has. SIGTERM: finish what runs, take no more.

    \b
      dmq receive orders
      dmq receive orders --all --lines | sort
      dmq receive orders --follow --exec './handle-order' --workers 4
    """
    shared = options.shared(ctx)
    if all_ and follow:
        raise UsageError("--all ends and --follow does not; give one of them")
    if exec_ is None and workers is not None:
        raise UsageError("--workers is for --exec; give a command")
    if exec_ is not None and (keep or lines):
        raise UsageError("--exec writes nothing and acks by exit code; leave --keep and --lines out")
    many = all_ or follow or exec_ is not None
    wanted = Wanted(
        options.number("-n", number) if number is not None else None if many else 1,
        wait=options.duration("--wait", wait) if wait is not None else 0.0 if all_ else DEFAULT_WAIT,
        follow=follow,
        visibility=options.seconds_or_none("--visibility", visibility),
        all_=all_,
    )
    if exec_ is not None:
        from cli.execute import execute

        return execute(
            shared, queue, wanted, exec_, workers=options.number("--workers", workers or "1", 1, 1000)
        )
    with shared.client(queue) as client:
        return _Receiver(shared, client, queue, wanted, lines=lines, keep=keep).run()


class _Receiver:
    """Writes messages as they come and acks what is written."""

    def __init__(
        self, shared: Shared, client: SyncClient, queue: str, wanted: Wanted, *, lines: bool, keep: bool
    ) -> None:
        self._shared = shared
        self._client = client
        self._queue = queue
        self._wanted = wanted
        self._ending = b"\n" if lines else b""
        self._keep = keep
        self._held: list[Any] = []
        self.count = 0
        self._failed = 0
        self._reached = False
        self._at_once = 1
        self._reader_keeps_up = not keep
        self._patience: float | None = None

    def run(self) -> int:
        """Receive what is wanted; return the exit code.

        What is held when a signal comes, or when nobody reads our output any more, is given back.
        """
        progress_wanted = not self._shared.quiet and not is_terminal(1)
        try:
            with Progress("received", None, wanted=progress_wanted) as progress:
                while (messages := self._next()) is not None:
                    self._write(messages)
                    progress.to(self.count, self.count)
        except (Signalled, ReaderGone, KeyboardInterrupt, OSError):
            self._give_back()
            raise
        if not self.count:
            note(self._shared, f'nothing to receive in queue "{self._queue}"')
            return NOTHING
        if self._failed:
            raise PartlyFailed(f"{several(self._failed)} written, but not acked in time: they come again", [])
        if self.count > 1:
            note(self._shared, f"{several(self.count)} received")
        return DONE

    def _next(self) -> list[Any] | None:
        """Return the next messages, None at the end."""
        wanted = self._wanted
        room = self._at_once if wanted.limit is None else min(self._at_once, wanted.limit - self.count)
        if not room:
            return None
        self._at_once = min(MOST, self._at_once * GROWTH)
        while True:
            try:
                self._held = self._client.receive(
                    self._queue,
                    max_messages=room,
                    wait=DEFAULT_WAIT if wanted.follow else wanted.wait,
                    visibility=wanted.visibility,
                )
            except Unavailable as error:
                # Who follows has time; but a wrong address is told at once.
                if not (wanted.follow and self._reached):
                    raise
                warn(f"{error} (trying again)")
                time.sleep(PAUSE)
                continue
            self._reached = True
            if self._held or not (wanted.follow or (wanted.all and self._more_to_come())):
                return self._held or None

    def _more_to_come(self) -> bool:
        """The queue looks empty: wait a moment if messages of some queue are not with their leader yet."""
        hints = self._client.status().get("overview", {}).get("hints", 0)
        if not hints:
            return False
        now = time.monotonic()
        self._patience = self._patience or now + DEBTS_WAIT
        if now >= self._patience:
            warn("some messages are still with other nodes than their leader; look again in a while")
            return False
        time.sleep(DEBTS_PAUSE)
        return True

    def _write(self, messages: list[Any]) -> None:
        if self._shared.json:
            from cli.envelopes import envelope

            data = "".join([f"{envelope(m)}\n" for m in messages]).encode("utf-8", "surrogateescape")
        else:
            ending = self._ending
            data = ending.join([m.body for m in messages]) + ending
        write(data)
        # A slow reader is not waited for again: what is written is done, as it is with a file.
        self._reader_keeps_up = self._reader_keeps_up and taken()
        self._held = []
        self.count += len(messages)
        if self._keep:
            return
        try:
            self._client.ack(messages)
        except PartlyFailed as error:
            self._stale(len(error.failures), error.failures[0][1])
        except StaleReceipt as error:
            self._stale(len(messages), error)
        except (Unavailable, Unknown) as error:
            # Who follows goes on: a node may be back when the next messages are waited for.
            if not self._wanted.follow:
                raise
            self._stale(len(messages), error)

    def _stale(self, count: int, error: DMQError) -> None:
        self._failed += count
        warn(f"{several(count)} not acked: {error}")

    def _give_back(self) -> None:
        if not self._held or self._keep:
            return
        # The connection may be in the middle of anything: take another one.
        self._shared.timeout = GIVE_BACK
        try:
            with self._shared.client() as client:
                client.nack(self._held)
        except DMQError:
            pass  # they stay hidden until their visibility ends, and come again then
