"""Every error that dmq raises on purpose, sorted by what the caller now knows.

    DMQError
    ├── UsageError            you asked for something that cannot be; nothing was sent
    ├── Refused               the node said no: certainly not done
    │   ├── InvalidRequest    a name, size, duration or type is wrong
    │   ├── QueueNotFound
    │   ├── QueueExists
    │   ├── MessageNotFound
    │   ├── StaleReceipt      the delivery is over; the sentence says why
    │   ├── NotAuthorized
    │   ├── LimitExceeded     too large, quota, disk full
    │   └── Unavailable       no node reachable, or none that can serve this now
    ├── PartlyFailed          part of a batch was refused; `.failures` says which
    ├── Unknown               no answer in time: it may or may not have happened
    └── ProtocolError         the peer broke the protocol; the connection is gone

`code` is stable and is what scripts compare; the sentence may change.
"""

from __future__ import annotations

from collections.abc import Sequence


class DMQError(Exception):
    """Everything that dmq raises on purpose."""

    code = "failed"
    retryable = False
    stored = "no"
    """What is known of a send that failed so: "no", "yes" or "unknown"."""


class UsageError(DMQError):
    """You asked for something that cannot be; nothing was sent."""

    code = "usage"


class Refused(DMQError):
    """The node said no: certainly not done.

    Arguments:
        message: one sentence: what, why, what to do next.
        code: the stable code; the class's own where omitted.
        retryable: whether the same request may succeed later without a change.
    """

    code = "refused"

    def __init__(self, message: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class InvalidRequest(Refused):
    """A name, size, duration or type that no node would take."""

    code = "invalid"


class QueueNotFound(Refused):
    """There is no queue of this name."""

    code = "queue-not-found"


class QueueExists(Refused):
    """There is a queue of this name already."""

    code = "queue-exists"


class MessageNotFound(Refused):
    """There is no such message."""

    code = "message-not-found"


class StaleReceipt(Refused):
    """The delivery that the receipt names is over: acked, nacked, or its visibility ended."""

    code = "stale-receipt"


class NotAuthorized(Refused):
    """Not authenticated, or not allowed to do this."""

    code = "not-authorized"


class LimitExceeded(Refused):
    """A limit would be exceeded; `code` is one of too-large, limit, disk-full, overloaded."""

    code = "limit"


class Unavailable(Refused):
    """No node was reachable, or none could serve this before the deadline."""

    code = "unavailable"
    retryable = True


class PartlyFailed(DMQError):
    """Part of a batch was refused, or its outcome is unknown; the rest was done.

    Arguments:
        message: one sentence.
        failures: (index in the batch, the error) of each that was refused.
    """

    code = "partly-failed"

    def __init__(self, message: str, failures: Sequence[tuple[int, DMQError]]) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class Unknown(DMQError):
    """No answer in time: it may or may not have happened.  Repeat with the same dedup id."""

    code = "unknown"
    retryable = True
    stored = "unknown"


class ProtocolError(DMQError):
    """The peer broke the protocol; the connection is gone."""

    code = "protocol"


_CLASSES: dict[str, type[Refused]] = {
    "refused": Refused,
    "invalid": InvalidRequest,
    "queue-not-found": QueueNotFound,
    "queue-exists": QueueExists,
    "message-not-found": MessageNotFound,
    "stale-receipt": StaleReceipt,
    "not-authorized": NotAuthorized,
    "too-large": LimitExceeded,
    "limit": LimitExceeded,
    "no-partition": Refused,
    "disk-full": LimitExceeded,
    "overloaded": LimitExceeded,
    "unavailable": Unavailable,
    "stopping": Unavailable,
}
"""Every code that travels in `messages.Failed`, and the class that a client raises for it."""


def failure(code: str, message: str) -> DMQError:
    """Make the exception for what failed of a request, as in `messages.Settled`."""
    return Unknown(message) if code == Unknown.code else refusal(code, message, retryable=False)


def refusal(code: str, message: str, *, retryable: bool) -> Refused:
    """Make the exception for a refusal that came over the wire.

    Arguments:
        code: as in `messages.Failed`; an unknown one (a newer node's) gives plain `Refused`.
        message: the node's sentence.
        retryable: as told by the node.
    """
    return _CLASSES.get(code, Refused)(message, code=code, retryable=retryable)


def system_error(error: OSError) -> OSError:
    """Return the system's own error, where a library has raised one of its own because of that.

    trio raises one for all addresses of a name, with the system's errors behind it.
    """
    causes: list[BaseException | None] = [error, error.__cause__]
    if isinstance(error.__cause__, BaseExceptionGroup):
        causes += error.__cause__.exceptions
    return next((c for c in causes if isinstance(c, OSError) and c.errno), error)


def said_by_system(error: OSError) -> str:
    """Return what the system says of an error, or else what the error says."""
    # trio puts the address before it.
    return (system_error(error).strerror or "").rpartition(": ")[2] or str(error)
