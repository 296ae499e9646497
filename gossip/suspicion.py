"""How long a suspect may still defend itself (Lifeguard §IV-B, "dogpile")."""

from __future__ import annotations

import math

from gossip.messages import NodeId


def suspicion_timeout(*, low: float, high: float, confirmations: int, wanted: int) -> float:
    """Return how long to wait before a suspect is declared dead.

    One witness may be the broken one, so we begin patiently (`high`). Each further independent witness
    shortens the wait, the first ones most, until `wanted` of them bring it to `low`.
    """
    share = math.log(confirmations + 1) / math.log(wanted + 1) if wanted else 1.0
    return max(low, high - share * (high - low))


class Suspicion:
    """One member's suspicion: since when, and by whom.

    Arguments:
        source: the first accuser.
        now: seconds.
        low, high: the shortest and the longest time it may last.
        wanted: how many further accusers bring it to the shortest.
    """

    def __init__(self, source: NodeId, now: float, *, low: float, high: float, wanted: int) -> None:
        self._since = now
        self._low, self._high, self._wanted = low, high, wanted
        self._sources = {source: None}
        self._credit = 0.0

    @property
    def due(self) -> float:
        """When the suspect is dead, if nothing is heard."""
        confirmations = len(self._sources) - 1
        timeout = suspicion_timeout(
            low=self._low, high=self._high, confirmations=confirmations, wanted=self._wanted
        )
        return self._since + timeout + self._credit

    def confirm(self, source: NodeId) -> bool:
        """Count an accuser; tell whether it is new and was still wanted, that is: worth passing on."""
        if source in self._sources or len(self._sources) > self._wanted:
            return False
        self._sources[source] = None
        return True

    def prolong(self, seconds: float) -> None:
        """Do not count a time in which this node itself was not running."""
        self._credit += seconds
