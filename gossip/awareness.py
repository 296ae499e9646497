"""Lifeguard's local health awareness: a node that suspects itself gives others more time (§IV-A).

Most false suspicions come from the accuser: starved of CPU or with a bad link of its own, it hears no
answers. Its failed probes, the nacks it misses and the suspicions it has to refute are signs of that.
"""

from __future__ import annotations


class Awareness:
    """Counts signs of this node's own ill health, from 0 (well) to `limit`."""

    def __init__(self, limit: int) -> None:
        self.score = 0
        self._limit = limit

    def note(self, change: int) -> None:
        """Take a sign: above 0 of ill health, below 0 of health."""
        self.score = min(self._limit, max(0, self.score + change))

    def scale(self, duration: float) -> float:
        """Return a time-out as this node, in its state, should take it."""
        return duration * (self.score + 1)
