"""Tables, fields and progress bars on a terminal.  The only module that loads rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cli.output import ReaderGone

_STATES = {"alive": "green", "yes": "green", "suspect": "yellow", "dead": "red", "no": "red", "left": "dim"}


def make_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """Return a table; columns of numbers stand right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(headings):
        numeric = all(row[i][:1].isdigit() or row[i] == "-" for row in cells)
        table.add_column(heading, justify="right" if numeric and cells else "left", no_wrap=i == 0)
    for row in cells:
        table.add_row(*(Text(cell, _STATES.get(cell, "")) for cell in row))
    return table


def print_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout."""
    _print(make_table(headings, cells))


def print_fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values on stdout, a line each."""
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs:
        grid.add_row(Text(name, "bold"), Text(value, _STATES.get(value, "")))
    _print(grid)


def _print(what: Any) -> None:
    try:
        Console(highlight=False).print(what)
    except BrokenPipeError:
        raise ReaderGone from None


class ProgressBar:
    """A bar on stderr where the total is known, else a count.

    Arguments:
        what: a word or two.
        total: in any unit.
    """

    def __init__(self, what: str, total: int | None) -> None:
        columns: list[Any] = [TextColumn("{task.description}"), TextColumn("{task.fields[count]:,}")]
        columns += [BarColumn(), TimeRemainingColumn()] if total else [TimeElapsedColumn()]
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(what, total=total or None, count=0)
        self._progress.start()

    def to(self, done: int, count: int) -> None:
        """Show how far the work is."""
        self._progress.update(self._task, completed=done, count=count)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()
