"""`dmq send`: a body, lines, files, or messages as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.failures import NotPrinted
from cli.inputs import Source, opened, read_file, stdin
from cli.output import ReaderGone, write_lines
from dmqnode.errors import DMQError, PartlyFailed, Refused, UsageError

if TYPE_CHECKING:
    from cli.options import Shared
    from dmqnode.outgoing import Outgoing


def send(
    ctx: typer.Context,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", autocompletion=options.queue_names)],
    body: Annotated[
        list[str] | None, typer.Argument(metavar="BODY", help="The body; - or nothing: all of stdin.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Send each line of stdin as a message.")] = False,
    file: Annotated[
        list[str] | None, typer.Option("--file", metavar="PATH", help="Send a file as a message; repeatable.")
    ] = None,
    ndjson: Annotated[
        bool,
        typer.Option("--ndjson", help="Send messages as printed by receive --json, one a line of stdin."),
    ] = False,
    header: Annotated[
        list[str] | None,
        typer.Option("-H", "--header", metavar="KEY=VALUE", help="An attribute; repeatable."),
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DUR", help="Deliver no sooner than after this long.")
    ] = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="DUR", help="Drop the message when it is older than this.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="Messages of a group are kept in order (fifo)."),
    ] = None,
    dedup_id: Annotated[
        str | None,
        typer.Option("--dedup-id", metavar="ID", help="Store this only once, however often it is sent."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the queue where it does not exist.")] = False,
) -> None:
    """Send messages and print their ids.

    What is printed is stored: on disk, as often as the cluster's write quorum says.

    \b
      dmq send orders 'one order' -H customer=7
      dmq send orders < order.json
      seq 1000000 | dmq send orders --lines --quiet
    """
    shared = options.shared(ctx)
    wanted: dict[str, Any] = {
        "delay": options.seconds_or_none("--delay", delay),
        "ttl": options.seconds_or_none("--ttl", ttl),
        "attributes": options.pairs("--header", header),
        "group": group,
        "create": create,
    }
    given = list(body or ())
    if file:
        # `--file *.json` as the shell writes it: what follows the first are files too.
        file, given = [*file, *given], []
    named = {"--lines": lines, "--file": file, "--ndjson": ndjson, "BODY": given}
    ways = [name for name, is_given in named.items() if is_given]
    if ways == ["BODY"] and len(given) > 1:
        raise UsageError(
            f"{len(given)} bodies are too much; quote one with spaces, or give a line each to --lines"
        )
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)} are too much; give one body, --lines, --ndjson or --file")
    if dedup_id is not None and ways not in ([], ["BODY"]):
        raise UsageError(f"--dedup-id is for one message, not for {ways[0]}; --ndjson takes a dedup_id each")
    if file:
        send_found(shared, queue, Files(file), wanted)
    elif lines or ndjson:
        with opened(None) as source:
            send_found(shared, queue, Lines(source, ndjson=ndjson), wanted)
    else:
        _send_one(shared, queue, given[0] if given else None, wanted, dedup_id)


def _send_one(
    shared: Shared, queue: str, body: str | None, wanted: dict[str, Any], dedup_id: str | None
) -> None:
    data = _whole_stdin(shared) if body in (None, "-") else str(body).encode("utf-8", "surrogateescape")
    with shared.client(queue) as client:
        id_ = client.send(queue, data, dedup_id=dedup_id, **wanted)
    printer = _Printer(shared, wanted=not shared.quiet)
    printer.print([id_])
    printer.end("the message is stored, and its id")


def _whole_stdin(shared: Shared) -> bytes:
    from cli.render import STDIN, is_terminal, note

    if is_terminal(STDIN):
        note(shared, "type the body, and end it with Ctrl-D")
    return stdin().whole()


class _Printer:
    """Prints ids; what cannot be printed is stored all the same, and so is what comes behind it."""

    def __init__(self, shared: Shared, *, wanted: bool) -> None:
        self._json = shared.json
        self._wanted = wanted
        self._error: OSError | None = None

    def print(self, ids: list[str]) -> None:
        """Print ids, unless nobody wants them any more."""
        if not self._wanted:
            return
        try:
            write_lines([f'{{"id":"{id_}"}}' for id_ in ids] if self._json else ids)
        except ReaderGone:
            self._wanted = False
        except OSError as error:
            self._wanted, self._error = False, error

    def end(self, what: str) -> None:
        """Say, once all is sent, what could not be printed.

        Arguments:
            what: the beginning of that sentence.

        Errors: NotPrinted.
        """
        if self._error is not None:
            why = f"{self._error.filename}: {self._error.strerror}"
            raise NotPrinted(f"{what} could not be printed: {why}; do not send again, --quiet prints none")


class Lines:
    """Messages from lines: each a body, or each a message as JSON.

    Arguments:
        source: of the lines.
        ndjson: whether they are JSON.

    `total` is how much there is, `done` how much of it was read, `ended` whether that is all. `error` is
    what cannot be sent; it ends the messages, so that those before it are sent.
    """

    def __init__(self, source: Source, *, ndjson: bool) -> None:
        self._source = source
        self._ndjson = ndjson
        self._numbers = count(1)
        self.total = source.size
        self.error: DMQError | None = None

    @property
    def ended(self) -> bool:
        return self._source.ended or self.error is not None

    @property
    def done(self) -> int:
        return self._source.read_bytes

    def messages(self) -> Iterator[bytes | Outgoing]:
        """Return messages until input has to be waited for."""
        try:
            if self._ndjson:
                from cli.envelopes import read_envelopes

                yield from read_envelopes(self._source.lines(), self._source.name, self._numbers)
            else:
                yield from self._source.lines()
        except DMQError as error:
            self.error = error


class Files:
    """Messages from files, each a body; fields as of `Lines`."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self.total: int | None = len(paths)
        self.done = 0
        self.ended = False
        self.error: DMQError | None = None

    def messages(self) -> Iterator[bytes]:
        """Return the files' contents, reading each when it is its turn."""
        try:
            for path in self._paths:
                yield read_file(path)
                self.done += 1
        except DMQError as error:
            self.error = error
        self.ended = True


def send_found(
    shared: Shared, queue: str, found: Lines | Files, wanted: dict[str, Any], *, print_ids: bool = True
) -> None:
    """Send all that is `found`, printing ids as they come, and say how many there were.

    Arguments:
        wanted: options of `SyncClient.send_batches`.

    Whoever read the ids may have gone: then no more are printed, and all is sent.

    Errors: PartlyFailed when some were sent and one could not be; what is wrong with that one if none was
    sent; Unknown if the outcome of any is not known; NotPrinted if all were sent.
    """
    from cli.render import Progress, note, several

    plain = {"delay": None, "ttl": None, "attributes": None, "group": None, "create": False}
    at = sent = 0
    failed: list[tuple[int, DMQError]] = []
    printer = _Printer(shared, wanted=print_ids and not shared.quiet)
    with shared.client(queue) as client, Progress("sent", found.total, wanted=not shared.quiet) as progress:
        while not found.ended and not failed:
            for count, ids, error in client.send_batches(queue, found.messages(), **{**plain, **wanted}):
                if error is not None:
                    failed += [(at + n, error) for n in range(count)]
                at, sent = at + count, sent + len(ids)
                printer.print(ids)
                progress.to(found.done, sent)
        if found.error is not None and not failed:
            failed.append((at, found.error))
        # Where any may be stored, that is what must be told.
        worst = next((why for _, why in failed if why.stored == "unknown"), failed[0][1] if failed else None)
        if worst is not None and not (sent and isinstance(worst, Refused | UsageError)):
            raise worst
    if failed:
        index, error = failed[0]
        which = f"message {index + 1:,}" if sent > index else "then one"
        raise PartlyFailed(f"{several(sent)} sent, {which} could not be: {error}", failed)
    printer.end(f"{several(sent)} sent, and some of the ids")
    note(shared, f"{several(sent)} sent")
