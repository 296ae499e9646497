"""How results look: tables and colour for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cli.output import STDOUT, write_lines, write_text

if TYPE_CHECKING:
    from cli.options import Shared

STDIN = 0
STDERR = 2
SHOW_AFTER = 0.5
"""Seconds of work after which progress is shown."""
Columns = Sequence[tuple[str, Callable[[dict[str, Any]], Any]]]
"""Heading, and what stands in the column for a row; numbers stand right."""


def is_terminal(descriptor: int) -> bool:
    """Whether somebody sits at a file descriptor."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def json_line(fields: dict[str, Any]) -> str:
    """Return one JSON object on one line."""
    import json

    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def note(shared: Shared, sentence: str) -> None:
    """Say something on stderr, unless asked to be quiet."""
    if not shared.quiet:
        warn(sentence)


def warn(sentence: str) -> None:
    """Say something on stderr."""
    try:
        print(f"dmq: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        pass


def several(count: int, what: str = "message") -> str:
    """Return `1 message`, `1,200 messages`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def rows(shared: Shared, found: Iterable[dict[str, Any]], columns: Columns) -> None:
    """Print one row for each of `found`."""
    if shared.json:
        write_lines(json_line(row) for row in found)
        return
    cells = [[_cell(value(row)) for _, value in columns] for row in found]
    if is_terminal(STDOUT):
        from cli.colour import print_table

        print_table([heading for heading, _ in columns], cells)
    else:
        write_lines(plain_table([heading for heading, _ in columns], cells))


def plain_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines whose columns are aligned with spaces."""
    table = [list(headings), *cells]
    widths = [max(len(row[i]) for row in table) for i in range(len(headings))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def fields(shared: Shared, found: dict[str, Any], shown: Iterable[tuple[str, Any]]) -> None:
    """Print one thing: all of it as JSON, or what of it is `shown`, one field a line."""
    if shared.json:
        write_text(json_line(found))
        return
    pairs = [(name, _cell(value)) for name, value in shown]
    width = max((len(name) for name, _ in pairs), default=0)
    if is_terminal(STDOUT):
        from cli.colour import print_fields

        print_fields(pairs)
    else:
        write_lines(f"{name.ljust(width)}  {value}" for name, value in pairs)


def confirmed(question: str) -> bool:
    """Ask whoever sits at the terminal; without one there is nobody to ask, and the answer is yes."""
    if not (is_terminal(STDIN) and is_terminal(STDERR)):
        return True
    # The question is not part of the data.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class Progress:
    """Progress of long work, on a terminal's stderr only; a context manager.

    Arguments:
        what: a word or two.
        total: how much there is, in the unit of `to`, or None if nobody knows.
        wanted: False for no display, whatever stderr is.
    """

    def __init__(self, what: str, total: int | None, *, wanted: bool) -> None:
        self._what = what
        self._total = total
        self._wanted = wanted and is_terminal(STDERR)
        self._begun = time.monotonic()
        self._bar: Any = None

    def to(self, done: int, count: int) -> None:
        """Show that `done` of the total is done, and `count` messages with it."""
        if not self._wanted:
            return
        if self._bar is None:
            if time.monotonic() - self._begun < SHOW_AFTER:
                return
            from cli.colour import ProgressBar

            self._bar = ProgressBar(self._what, self._total)
        self._bar.to(done, count)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
