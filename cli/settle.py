"""`dmq ack`, `dmq nack`, `dmq extend`: by receipt, from the arguments or stdin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.failures import Failure, explain
from cli.inputs import opened
from cli.render import note, several
from dmqnode.errors import DMQError, PartlyFailed, StaleReceipt, UsageError

if TYPE_CHECKING:
    from cli.options import Shared
    from dmqnode.blocking import SyncClient

AT_ONCE = 1000
"""Receipts of one request."""
Receipts = Annotated[
    list[str] | None,
    typer.Argument(metavar="RECEIPT", help="As printed by receive --json --keep; or on stdin."),
]


def ack(ctx: typer.Context, receipts: Receipts = None) -> int:
    """Ack messages: they are done, and are never delivered again.

    \b
      dmq receive orders --json --keep | jq -r .receipt | dmq ack
    """
    return _settle(ctx, receipts, "acked", lambda client, some: client.ack(some))


def nack(
    ctx: typer.Context,
    receipts: Receipts = None,
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="DUR", help="Deliver them again no sooner than after this."),
    ] = None,
) -> int:
    """Give messages back, to be delivered again.

    \b
      dmq nack --delay 5m RECEIPT
    """
    seconds = options.duration("--delay", delay) if delay is not None else 0.0
    return _settle(ctx, receipts, "given back", lambda client, some: client.nack(some, delay=seconds))


def extend(
    ctx: typer.Context,
    duration: Annotated[str, typer.Argument(metavar="DUR", help="How long from now on.")],
    receipts: Receipts = None,
) -> int:
    """Keep messages hidden from other consumers for longer.

    \b
      dmq extend 10m RECEIPT
    """
    seconds = options.duration("DUR", duration)
    return _settle(ctx, receipts, "extended", lambda client, some: client.extend(some, seconds))


def _settle(
    ctx: Any, receipts: list[str] | None, done: str, request: Callable[[SyncClient, list[str]], Any]
) -> int:
    """Make a request for each thousand receipts; return the exit code.

    Errors: PartlyFailed where something is done; else what is wrong with all.
    """
    shared = options.shared(ctx)
    count = 0
    ended = False  # by what the receipts behind it would meet, too
    failures: list[tuple[int, DMQError]] = []
    with shared.client() as client:
        for some in _chunks(receipts):
            try:
                request(client, some)
            except PartlyFailed as error:
                failures += [(count + i, why) for i, why in error.failures]
            except DMQError as error:
                failures += [(count + i, error) for i in range(len(some))]
                ended = not isinstance(error, StaleReceipt)
            count += len(some)
            if ended:
                break
    if not count:
        raise UsageError("no receipt was given; they are printed by: dmq receive QUEUE --json --keep")
    if not failures:
        note(shared, f"{several(count)} {done}")
        return 0
    said = _said(failures, count, done)
    if len(failures) < count:
        raise PartlyFailed(f"{len(failures):,} {said}", failures)
    return _none_done(shared, failures, f"all {said}")


def _said(failures: list[tuple[int, DMQError]], count: int, done: str) -> str:
    """Say of how many receipts these are the failures, and what of the one that matters most."""
    told, first = _worst(failures), failures[0][1]
    how = "are not surely " + done if told.stored == "unknown" else "were refused"
    return f"of {count:,} receipts {how}; {'the first' if told is first else 'one of them'}: {told}"


def _worst(failures: list[tuple[int, DMQError]]) -> DMQError:
    """Return what must be told first: that a receipt is stale cannot be helped, what else is wrong can."""
    others = [why for _, why in failures if not isinstance(why, StaleReceipt)]
    unknown = [why for why in others if why.stored == "unknown"]
    return [*unknown, *others, failures[0][1]][0]


def _none_done(shared: Shared, failures: list[tuple[int, DMQError]], sentence: str) -> int:
    """Say that nothing is surely done; return the exit code.

    Errors: what is wrong with a single receipt, or is wrong before any is looked at.
    """
    worst = _worst(failures)
    if len(failures) == 1 or (
        not isinstance(worst, StaleReceipt) and all(why is worst for _, why in failures)
    ):
        raise worst
    known = explain(worst)
    assert known is not None
    Failure(
        known.code,
        sentence,
        known.exit,
        retryable=known.retryable,
        stored=known.stored,
        failures=failures,
    ).tell(as_json=shared.json)
    return known.exit


def _chunks(receipts: list[str] | None) -> Iterator[list[str]]:
    if receipts and receipts != ["-"]:
        for at in range(0, len(receipts), AT_ONCE):
            yield receipts[at : at + AT_ONCE]
        return
    with opened(None) as source:
        while not source.ended:
            some: list[str] = []
            for line in source.lines():
                some += line.decode("utf-8", "replace").split()
                if len(some) >= AT_ONCE:
                    yield some
                    some = []
            if some:
                yield some
