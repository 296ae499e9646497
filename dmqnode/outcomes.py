"""What a caller is told of a call that has no answer, or none that it can use."""

from __future__ import annotations

from dmqnode.calls import CHANGE_NOTHING, Call, SendGroup
from dmqnode.errors import DMQError, LimitExceeded, Refused, Unknown, UsageError
from dmqnode.messages import CreateQueue, Failed

RETRIED = frozenset({"overloaded", "stopping", "unavailable", "no-partition"})
"""Codes of refusals that pass by themselves.  A full disk does not: that is told at once."""
SPLIT = frozenset({"too-large", "invalid", "limit"})
"""Codes of refusals that may be about one message of a group only."""
RECOGNISED = 240.0
"""Seconds after it was first written for which a send is made again: nodes recognise it for five minutes."""
CLOSED = "this client is closed; connect again"
SHORTEST_RETRY = 0.02
LONGEST_RETRY = 1.0
"""Seconds before a refused call is made again, at first and at most."""


def unknown(call: Call, why: str) -> Unknown:
    """Return the error for a call that may have been done."""
    if isinstance(call, SendGroup):
        return Unknown(f"{why}: it may or may not be stored; repeat with the same dedup id, or look")
    return Unknown(f"{why}: it may or may not have been done; look before you repeat it")


def unless_done(call: Call, error: DMQError) -> DMQError:
    """Return `error` for a call that is not made again, or Unknown if an earlier attempt may have done it."""
    if call.doubt and call.kind not in CHANGE_NOTHING:
        return unknown(call, f"an answer was lost, and now: {error}")
    return error


def lapsed(call: Call, unavailable: Refused) -> DMQError:
    """Return the error for a call whose time is over.

    Arguments:
        unavailable: is told where nothing better is known.
    """
    if (call.number or call.doubt) and call.kind not in CHANGE_NOTHING:
        return unknown(call, "no answer came in time")
    return call.refusal or unavailable


def ended(call: Call) -> DMQError:
    """Return the error for a call that had no answer when its client was closed."""
    if (call.number or call.doubt) and call.kind not in CHANGE_NOTHING:
        return unknown(call, "the client was closed before an answer came")
    return UsageError(CLOSED)


def perhaps_done(call: Call, refused: Refused) -> bool:
    """Whether a call that is refused may have been done by an earlier attempt."""
    if not call.doubt:
        return False
    created = isinstance(call.request, CreateQueue) and refused.code == "queue-exists"
    return isinstance(call, SendGroup) or created or refused.retryable


def too_late(call: Call, now: float) -> bool:
    """Whether a send that may be stored is not made again any more: no node may recognise it."""
    return isinstance(call, SendGroup) and now - call.written > RECOGNISED


def recognised(call: Call, failed: Failed, now: float) -> bool:
    """Whether a call that may have been done is made again: that is recognised, and may bring certainty."""
    if not isinstance(call, SendGroup) or too_late(call, now):
        return False
    return failed.code in RETRIED or failed.code == Unknown.code


def too_long(call: Call, limit: int) -> LimitExceeded:
    """Return the error for a request that no frame holds."""
    return LimitExceeded(
        f"a request of {call.size} bytes is longer than the node takes, {limit}; send less at once",
        code="too-large",
    )


def pause(attempts: int, chance: float) -> float:
    """Return the seconds before a call that was refused is made again.

    Arguments:
        chance: within 0 and 1, so that clients do not come in step.
    """
    longest: float = min(LONGEST_RETRY, SHORTEST_RETRY * 2 ** min(attempts, 16))
    return longest * (0.5 + chance / 2)
