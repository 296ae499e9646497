"""`dmq queue redrive | export | import`: moving messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cli import options
from cli.inputs import opened
from cli.looks import STATES
from cli.output import STDOUT, write
from cli.queues import Name
from cli.render import Progress, fields, note, several
from dmqnode.errors import UsageError

File = Annotated[str | None, typer.Argument(metavar="FILE", help="Or - : standard input or output.")]


def redrive(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEAD-LETTER-QUEUE", autocompletion=options.queue_names)],
    to: Annotated[
        str | None, typer.Option("--to", metavar="QUEUE", help="Where to; by default where each came from.")
    ] = None,
    number: Annotated[
        str | None, typer.Option("-n", "--number", metavar="N", help="Move up to N messages (all).")
    ] = None,
) -> None:
    """Move messages of a dead-letter queue back to where they came from.

    \b
      dmq queue redrive orders-dead
      dmq queue redrive orders-dead --to orders-by-hand -n 10
    """
    shared = options.shared(ctx)
    limit = options.number("-n", number) if number is not None else None
    with shared.client(name) as client:
        count = client.redrive(name, to, limit)
    if shared.json:
        fields(shared, {"name": name, "redriven": count}, ())
    note(shared, f"{several(count)} redriven")


def export(ctx: typer.Context, name: Name, file: File = None) -> None:
    """Write all messages of a queue as JSON, one a line, without taking them.

    Those that wait for their delay and those that are with consumers are written too.

    \b
      dmq queue export orders orders.ndjson
    """
    from cli.envelopes import envelope

    shared = options.shared(ctx)
    count = 0
    with (
        shared.client(name) as client,
        _writing(file) as put,
        _progress("exported", shared.quiet) as progress,
    ):
        client.queue(name)
        for state in STATES:
            for messages in client.browse_stream(name, state):
                put(list(map(envelope, messages)))
                count += len(messages)
                progress.to(count, count)
    note(shared, f"{several(count)} exported")


def _progress(what: str, quiet: bool) -> Progress:
    return Progress(what, None, wanted=not quiet)


@contextmanager
def _writing(file: str | None) -> Iterator[Callable[[list[str]], None]]:
    """Give what puts lines into a file, which is there only once it is complete, or to standard output.

    A link stays, and so does what is no regular file, such as a named pipe: that is written as it is.

    Errors: UsageError for a file that cannot be written.
    """
    if file in (None, "-") or _is_stdout(file):
        yield lambda lines: write(_joined(lines))
        return
    try:
        if os.path.exists(file) and not os.path.isfile(file):
            with open(file, "wb") as out:
                yield lambda lines: out.writelines([_joined(lines)])
            return
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
    target = os.path.realpath(file)
    part = f"{target}.part"
    try:
        with open(part, "wb") as out:
            yield lambda lines: out.writelines([_joined(lines)])
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, target)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)


def _is_stdout(file: str) -> bool:
    """Whether a file is what standard output goes to: /dev/stdout, or what it leads to."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(STDOUT))
    except OSError:
        return False


def _joined(lines: list[str]) -> bytes:
    return "".join([f"{line}\n" for line in lines]).encode("utf-8", "surrogateescape")


def import_(ctx: typer.Context, name: Name, file: File = None) -> None:
    """Send messages as written by export: JSON, one a line.

    They get new ids; bodies, attributes and groups stay.

    \b
      dmq queue import orders orders.ndjson
    """
    from cli.send import Lines, send_found

    shared = options.shared(ctx)
    with opened(file) as source:
        send_found(shared, name, Lines(source, ndjson=True), {}, print_ids=False)
