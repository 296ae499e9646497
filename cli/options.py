"""What all commands share: the global options, and what the text of an option means."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cli.configuration import path_of, read_section
from cli.failures import suggestion
from cli.lean import flag_value, is_text
from dmqnode.durations import parse_duration, parse_size
from dmqnode.errors import DMQError, QueueNotFound, UsageError

if TYPE_CHECKING:
    from dmqnode.blocking import SyncClient

DEFAULT_NODE = "127.0.0.1:7367"
DEFAULT_TIMEOUT = 30.0
DIGITS = 20
"""More than any whole number has that is taken."""
T = TypeVar("T")


class Shared:
    """The global options of one run.

    Arguments:
        nodes: addresses to try in turn.
        json: print JSON, one object per line.
        timeout: seconds that a request may take.
        quiet: print nothing but what was asked for.
        token: shown to the node, or None.
        direct: go to the leaders of queues, too, where they can be reached.
    """

    def __init__(
        self,
        nodes: tuple[str, ...],
        *,
        json: bool,
        timeout: float,
        quiet: bool,
        token: str | None,
        direct: bool = True,
    ) -> None:
        self.nodes = nodes
        self.json = json
        self.timeout = timeout
        self.quiet = quiet
        self.token = token
        self.direct = direct

    @contextmanager
    def client(self, queue: str | None = None) -> Iterator[SyncClient]:
        """Connect for a block; `queue` is the name that the block uses, so that a wrong one is explained.

        Errors: those of the client.
        """
        from dmqnode.blocking import connect_sync

        with connect_sync(*self.nodes, token=self.token, timeout=self.timeout, direct=self.direct) as client:
            try:
                yield client
            except QueueNotFound as error:
                if queue is None or f'"{queue}"' not in str(error):
                    raise
                raise not_found(queue, _names(client)) from None


def not_found(queue: str, names: list[str]) -> QueueNotFound:
    """Return the error for a queue that is not there, with what was probably meant.

    Arguments:
        names: of the queues that are there.
    """
    close = suggestion(queue, names)
    hint = f'did you mean "{close}"? ' if close else ""
    return QueueNotFound(f'queue "{queue}" does not exist; {hint}create it with: dmq queue create {queue}')


def _names(client: SyncClient) -> list[str]:
    try:
        return [str(info["name"]) for info in client.queues()]
    except DMQError:
        return []


def shared(ctx: Any) -> Shared:
    """Return the global options: flags, then the environment, then the configuration.

    Errors: UsageError.
    """
    given = dict(ctx.meta)
    environment = os.environ
    config = read_section("client")
    nodes = given.get("nodes") or _addresses(environment.get("DMQ_NODES")) or _addresses(config.get("nodes"))
    timeout = given.get("timeout") or environment.get("DMQ_TIMEOUT") or config.get("timeout")
    file = given.get("token_file") or environment.get("DMQ_TOKEN_FILE")
    token = None if given.get("token_file") else environment.get("DMQ_TOKEN")
    if token and not is_text(token):
        raise UsageError("DMQ_TOKEN is not UTF-8; set it to the token that the node was given")
    if not token and (file := file or config.get("token_file")):
        token = _read_token(str(file))
    seconds = duration("--timeout", str(timeout)) if timeout is not None else DEFAULT_TIMEOUT
    if seconds <= 0:
        raise UsageError("--timeout is 0 s; give it some time, for example 30s")
    return Shared(
        tuple(nodes or (DEFAULT_NODE,)),
        json=_flag(given, "json"),
        timeout=seconds,
        quiet=_flag(given, "quiet"),
        token=token or None,
        direct=not _flag(given, "no_direct"),
    )


def _flag(given: dict[str, Any], name: str) -> bool:
    variable = f"DMQ_{name.upper()}"
    return bool(given.get(name)) or flag_value(variable, os.environ.get(variable, ""))


def _addresses(value: Any) -> list[str]:
    pieces = value.split(",") if isinstance(value, str) else value or ()
    return [str(piece).strip() for piece in pieces if str(piece).strip()]


def _read_token(file: str) -> str:
    try:
        token = path_of("--token-file", file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"cannot read the token file {file}: {why}") from None
    if not token or len(token.split()) > 1:
        raise UsageError(f"the token file {file} must hold one token and nothing else")
    return token


# --- what the text of an option means --------------------------------------------------------------


def duration(flag: str, text: str) -> float:
    """Return the seconds of a duration given with `flag`.

    Errors: UsageError, naming the flag.
    """
    return _read(flag, text, parse_duration)


def size(flag: str, text: str) -> int:
    """Return the bytes of a size given with `flag`.

    Errors: UsageError, naming the flag.
    """
    return _read(flag, text, parse_size)


def number(flag: str, text: str, low: int = 1, high: int = 2**31) -> int:
    """Return a whole number given with `flag`.

    Errors: UsageError, naming the flag and its bounds.
    """
    if not re.fullmatch("[0-9]+", text):
        value = low - 1
    else:
        # Python reads no more than some thousands of digits.
        value = int(text) if len(text) <= DIGITS else high + 1
    if value < low:
        _wrong(flag, f"{text[:80]!r} is not a whole number from {low} on")
    if value > high:
        _wrong(flag, f"{text:.{DIGITS}} is too much; it may be {high} at most")
    return value


def real(flag: str, text: str) -> float:
    """Return a number given with `flag`.

    Errors: UsageError, naming the flag.
    """
    try:
        return float(text)
    except ValueError:
        _wrong(flag, f"{text!r} is not a number")


def seconds_or_none(flag: str, text: str | None) -> float | None:
    """Return the seconds of a duration, None where it was not given."""
    return None if text is None else duration(flag, text)


def _read(flag: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except UsageError as error:
        _wrong(flag, str(error))


def _wrong(flag: str, why: str) -> NoReturn:
    raise UsageError(f"{flag}: {why}")


def pairs(flag: str, texts: list[str] | None) -> dict[str, str] | None:
    """Return the attributes given as KEY=VALUE, None where there are none.

    Errors: UsageError for one without a name or a '='.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            _wrong(flag, f"{text!r} is not KEY=VALUE")
        found[key] = value
    return found or None


def queue_names(incomplete: str) -> list[str]:
    """Complete a queue's name, asking the node; nothing where that takes more than a second."""
    from dmqnode.blocking import connect_sync

    nodes = _addresses(os.environ.get("DMQ_NODES")) or [DEFAULT_NODE]
    try:
        with connect_sync(*nodes, token=os.environ.get("DMQ_TOKEN"), timeout=1.0) as client:
            return [str(info["name"]) for info in client.queues(prefix=incomplete)]
    except DMQError:
        return []
