"""One run of the program: from arguments to an exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

import typer

from cli import commands
from cli.failures import Signalled, explain
from cli.output import ReaderGone

PROGRAM = "dmq"
_COMPLETE = "_DMQ_COMPLETE"


def run(args: Sequence[str]) -> int:
    """Run the command that `args` name; return the exit code.

    What a user can cause is told in one line on stderr; a bug is raised.
    """
    try:
        return _invoke(list(args))
    except typer.Exit as done:
        return done.exit_code
    except ReaderGone:
        return 0
    except Signalled as signalled:
        return 128 + signalled.number
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        failure.tell(as_json=wants_json(args))
        return failure.exit


def _invoke(args: list[str]) -> int:
    command = typer.main.get_command(commands.app)
    if _COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
        try:
            command.main(args, prog_name=PROGRAM)
        except SystemExit as done:
            return int(done.code or 0)
    with command.make_context(PROGRAM, args) as ctx:
        return command.invoke(ctx) or 0


def end_by_signal(number: int, frame: FrameType | None) -> None:
    """Raise Signalled, so that what is held can be given back; a second signal ends the process."""
    signal.signal(number, leave_by_signal)
    raise Signalled(number)


def leave_by_signal(number: int, frame: FrameType | None) -> None:
    """Leave the process at once."""
    os._exit(128 + number)


def wants_json(args: Sequence[str]) -> bool:
    """Whether errors are to be told as JSON; known before the arguments are understood."""
    before = args[: list(args).index("--")] if "--" in args else args
    return "--json" in before or os.environ.get("DMQ_JSON", "").lower() in ("1", "true", "yes", "on")
