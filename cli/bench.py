"""`dmq bench`: how fast a node is."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.failures import DONE
from cli.output import ReaderGone, write_lines, write_text
from cli.render import json_line, note
from dmqnode.errors import DMQError, QueueNotFound, UsageError

if TYPE_CHECKING:
    import trio

    import dmqnode
    from cli.bench_figures import Measured
    from cli.bench_scenarios import Plan
    from cli.options import Shared

NAMES = ("send1", "send64", "stream", "drain", "both")
MESSAGES = 100_000
"""Of each scenario that moves batches, unless something else is asked for."""
DURATION = 3.0
"""Seconds of each scenario that sends one by one, likewise."""
PARTING = 10.0
"""Seconds for deleting the queue when we are told to leave."""
CHART = 50
_LINE = "{:<7} {:>10} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}  {:<8} {:>10} {:>7}"
_HEADINGS = (
    *("", "messages/s", "MiB/s", "p50 ms", "p90", "p99", "p99.9", "max"),
    *("of each", "CPU s/100k", "RSS MiB"),
)
_LATENCIES = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
_COSTS = ("cpu_seconds_per_100k", "resident_mib")


def bench(
    ctx: typer.Context,
    scenario: Annotated[
        list[str] | None,
        typer.Option("--scenario", metavar="NAME", help=f"One of {', '.join(NAMES)} (all); repeatable."),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="Q", help="The queue to use, if it is empty (one made for it)."),
    ] = None,
    size: Annotated[str | None, typer.Option("--size", metavar="SIZE", help="Bytes of a body (100).")] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="N", help="Messages of a request, at most (1000).")
    ] = None,
    producers: Annotated[
        str | None, typer.Option("--producers", metavar="N", help="Clients that stream at once (1).")
    ] = None,
    consumers: Annotated[
        str | None, typer.Option("--consumers", metavar="N", help="Clients that drain at once (1).")
    ] = None,
    messages: Annotated[
        str | None, typer.Option("--messages", metavar="N", help="Messages of each scenario (100000).")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="DUR", help="How long each sends, not how many.")
    ] = None,
    pid: Annotated[
        list[str] | None,
        typer.Option("--pid", metavar="PID", help="A node's process, to count its work; repeatable."),
    ] = None,
) -> int:
    """Measure throughput and latency, as a client sees them.

    \b
      send1   one message under way at a time
      send64  64 messages under way over one client, each sent by itself
      stream  batches, several under way
      drain   batches received and acked
      both    producers and consumers at once

    send1 and send64 take 3 seconds unless --messages or --duration is given. A chart follows the figures.
    The queue is made and deleted; one that is there is taken only if it is empty, and left.

    \b
      dmq bench --size 1KiB
      dmq bench --scenario both --producers 4 --consumers 4 --duration 10s --json
    """
    shared = options.shared(ctx)
    names = list(dict.fromkeys(name for given in scenario or NAMES for name in given.split(",")))
    if wrong := [name for name in names if name not in NAMES]:
        raise UsageError(f"--scenario: there is no {wrong[0]!r}; there are {', '.join(NAMES)}")
    if messages is not None and duration is not None:
        raise UsageError("--messages and --duration both say when to end; give one of them")
    import trio

    import dmqnode
    from cli.bench_figures import processes
    from cli.bench_scenarios import Plan

    plan = Plan(
        connect=lambda: dmqnode.connect(
            *shared.nodes, token=shared.token, timeout=shared.timeout, direct=shared.direct
        ),
        queue=queue or f"bench-{os.urandom(4).hex()}",
        size=options.size("--size", size) if size is not None else 100,
        batch=options.number("--batch", batch or "1000", 1, 65_536),
        producers=options.number("--producers", producers or "1", 1, 1000),
        consumers=options.number("--consumers", consumers or "1", 1, 1000),
        messages=None if messages is None else options.number("--messages", messages),
        duration=0.0 if duration is None else options.duration("--duration", duration),
        pids=processes(pid or ()),
    )
    return trio.run(_Bench(shared, plan, names, given=queue is not None).run)


class _Bench:
    """Runs the scenarios in turn and prints what each gave."""

    def __init__(self, shared: Shared, plan: Plan, names: list[str], *, given: bool) -> None:
        self._shared = shared
        self._plan = plan
        self._names = names
        self._given = given
        self._signal = 0
        self._refused = False

    async def run(self) -> int:
        """Run; return the exit code."""
        import trio

        found: list[Measured] = []
        error: DMQError | ReaderGone | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heed_signals, nursery.cancel_scope)
            try:
                async with self._queue():
                    await self._measure(found)
            except (DMQError, ReaderGone) as failed:
                # Raised when the nursery, which would wrap it, is gone.
                error = failed
            nursery.cancel_scope.cancel()
        if error is not None:
            raise error
        if self._signal:
            return 128 + self._signal
        if not self._shared.json:
            self._chart(found)
        return DONE

    async def _measure(self, found: list[Measured]) -> None:
        from dataclasses import replace

        from cli.bench_scenarios import SCENARIOS, empty

        if not self._shared.json:
            write_lines([_LINE.format(*_HEADINGS)])
        for name in self._names:
            plan = self._plan
            if plan.messages is None and not plan.duration:
                single = name in ("send1", "send64")
                plan = replace(plan, messages=None if single else MESSAGES, duration=DURATION)
            measured = await SCENARIOS[name](plan)
            found.append(measured)
            report = measured.report()
            write_text(json_line(report)) if self._shared.json else write_lines([_line(report)])
            following = self._names[len(found) : len(found) + 1]
            if following != ["drain"]:
                await empty(plan)

    def _chart(self, found: list[Measured]) -> None:
        from cli.bench_figures import bars, spread

        write_lines(["", *bars(found, CHART), "", *spread(found)])

    @asynccontextmanager
    async def _queue(self) -> AsyncIterator[None]:
        """Make the queue if it is not there, and delete it then."""
        plan = self._plan
        async with plan.connect() as client:
            made = not self._given or await self._missing(client)
            try:
                if made:
                    await self._make(client)
                yield
            finally:
                if made and not self._refused:
                    await self._delete(client)

    async def _make(self, client: dmqnode.Client) -> None:
        try:
            await client.create_queue(self._plan.queue)
        except DMQError:
            # Where we are told to leave instead, it may be there.
            self._refused = True
            raise

    async def _delete(self, client: dmqnode.Client) -> None:
        import trio

        with trio.move_on_after(PARTING, shield=True) as scope, suppress(QueueNotFound):
            await client.delete_queue(self._plan.queue)
        if scope.cancelled_caught:
            note(self._shared, f'queue "{self._plan.queue}" could not be deleted in time')

    async def _missing(self, client: dmqnode.Client) -> bool:
        """Whether the given queue is not there.  Errors: UsageError if it is, and has messages."""
        try:
            info = await client.queue(self._plan.queue)
        except QueueNotFound:
            return True
        if info["ready"] or info["delayed"] or info["in_flight"]:
            raise UsageError(
                f'queue "{self._plan.queue}" has messages, which would be lost; give an empty one'
            )
        return False

    async def _heed_signals(self, everything: trio.CancelScope) -> None:
        import trio

        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self._signal = number
                everything.cancel()
                return


def _line(report: dict[str, Any]) -> str:
    def shown(name: str) -> str:
        return "-" if report[name] is None else f"{report[name]:,}"

    rates = (f"{report['per_second']:,.0f}", f"{report['mib_per_second']:,.1f}")
    latencies, costs = map(shown, _LATENCIES), map(shown, _COSTS)
    return _LINE.format(report["scenario"], *rates, *latencies, report["latency_of"], *costs)
