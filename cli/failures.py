"""Errors as users see them: one line, and the exit code.  The only table of exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from dmqnode.errors import (
    DMQError,
    InvalidRequest,
    LimitExceeded,
    MessageNotFound,
    NotAuthorized,
    PartlyFailed,
    QueueNotFound,
    Refused,
    StaleReceipt,
    Unavailable,
    Unknown,
    UsageError,
)

DONE = 0
FAILED = 1
USAGE = 2
NOTHING = 3
NOT_FOUND = 4
NOT_ALLOWED = 5
UNREACHABLE = 6
REFUSED = 7
UNKNOWN = 8
LIMIT = 9
PARTLY = 10

EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (UsageError, USAGE),
    (InvalidRequest, USAGE),
    (QueueNotFound, NOT_FOUND),
    (MessageNotFound, NOT_FOUND),
    (StaleReceipt, NOT_FOUND),
    (NotAuthorized, NOT_ALLOWED),
    (Unavailable, UNREACHABLE),
    (LimitExceeded, LIMIT),
    (PartlyFailed, PARTLY),
    (Unknown, UNKNOWN),
    (Refused, REFUSED),
    (DMQError, FAILED),
    (OSError, FAILED),
)
"""The first that fits counts."""
MAX_FAILURES = 100
"""Failures of a batch that are told one by one with --json."""


class Signalled(BaseException):
    """A signal asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class NotPrinted(DMQError):
    """Something was stored, and its ids could not be printed."""

    stored = "yes"


class Failure:
    """An error that is explained to the user.

    Arguments:
        code: stable, for scripts.
        message: one sentence: what, why, what to do next.
        exit: the exit code.
        stored: what is known of a send: "no", "yes" or "unknown".
        failures: of a batch, (index, error) each.
    """

    def __init__(
        self,
        code: str,
        message: str,
        exit_: int,
        *,
        retryable: bool = False,
        stored: str = "no",
        failures: Sequence[tuple[int, DMQError]] = (),
    ) -> None:
        self.code = code
        self.message = " ".join(message.split())
        self.exit = exit_
        self.retryable = retryable
        self.stored = stored
        self.failures = failures

    def line(self, *, as_json: bool) -> str:
        """Return the one line that says it."""
        if not as_json:
            return f"dmq: {self.message}"
        import json

        fields: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "stored": self.stored,
        }
        if self.failures:
            fields["failures"] = [
                {"index": i, "code": why.code, "message": str(why), "stored": why.stored}
                for i, why in self.failures[:MAX_FAILURES]
            ]
        return json.dumps({"error": fields}, ensure_ascii=False)

    def tell(self, *, as_json: bool) -> None:
        """Say it on stderr."""
        try:
            print(self.line(as_json=as_json), file=sys.stderr, flush=True)
        except OSError:
            pass


def explain(error: Exception) -> Failure | None:
    """Return how an error is told, None for a bug."""
    if isinstance(error, PartlyFailed):
        stored = "unknown" if any(why.stored == "unknown" for _, why in error.failures) else error.stored
        return Failure(error.code, str(error), PARTLY, stored=stored, failures=error.failures)
    if isinstance(error, DMQError):
        exit_ = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
        return Failure(error.code, str(error), exit_, retryable=error.retryable, stored=error.stored)
    if hasattr(error, "format_message"):
        return Failure("usage", _usage_sentence(error), USAGE)
    if type(error).__module__ == "storage.errors":
        return Failure("storage", str(error), FAILED)
    if isinstance(error, OSError):
        return Failure("failed", _os_sentence(error), FAILED)
    return None


def _usage_sentence(error: Any) -> str:
    """Say what typer found wrong, in our form."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "dmq"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        close = f"did you mean {error.possibilities[0]}? " if error.possibilities else ""
        return f"there is no option {option}; {close}options are shown by: {path} --help"
    message = str(error.format_message()).strip().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see: {path} --help"


def _os_sentence(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename is not None else what


def suggestion(name: str, names: list[str]) -> str | None:
    """Return the one of `names` that was probably meant by `name`."""
    from difflib import get_close_matches

    close = get_close_matches(name, names, n=1)
    return close[0] if close else None
