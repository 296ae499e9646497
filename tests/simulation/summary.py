"""What a run comes to, in the words of Jepsen's checkers and a few more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.simulation.sent import Sent

OUTCOMES = ("stored", "unknown", "not stored", "delivered", "acked")
EXCUSED = ("recovered", "duplicated")
"""Of unknown outcome, and came out; delivered again where P4 allows it."""
WRONG = (
    "lost",
    "unexpected",
    "resurrected",
    "early",
    "order",
    "wrong",
    "stuck",
    "counters",
    "undurable",
    "unbounded",
)
"""What breaks a promise; a run ends at the first."""


def sum_up(counts: Counter[str], messages: Iterable[Sent]) -> Counter[str]:
    """Return how often each of these words is to be said of a run."""
    found = Counter({word: counts[word] for word in (*OUTCOMES, *EXCUSED, *WRONG)})
    found["recovered"] = sum(1 for m in messages if m.outcome == "unknown" and m.deliveries)
    return found
