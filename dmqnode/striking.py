"""Whether a member may be struck off by command at once, though nobody says that it is destroyed.

Homes that lost their majority by what is struck off are formed anew (M4).  Whoever is only cut off may serve
behind the cut, until it notices (M3), if together with others that are there it is a majority of some homes.
While all who may be there are too few for that, nobody need wait: they are less than half of the homes that a
partition should have, and every home set that is known, of fewer homes perhaps, has a majority without them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from dmqnode.clock import Now
from dmqnode.ids import NodeId


class StruckOff:
    """Remembers which former members may still serve.

    Arguments:
        patience: seconds after which a node that is cut off serves no more.
    """

    def __init__(self, patience: float) -> None:
        self.spared: Callable[[Collection[NodeId]], bool] = lambda away: True
        """Tells whether every home set that is known has a majority without these."""
        self._patience = patience
        self._until: dict[NodeId, float] = {}

    def note(self, now: Now, destroyed: Iterable[NodeId]) -> None:
        """The list says of these that they are struck off; of those that it did not name, since now."""
        self._until = {node: self._until.get(node, now.run + self._patience) for node in destroyed}

    def too_few(self, now: Now, absent: Collection[NodeId], homes: int) -> bool:
        """Tell whether those who may serve behind a cut are no majority of a partition's homes.

        Arguments:
            absent: members that do not answer.
            homes: how many homes a partition should have.
        """
        away = {*absent, *(node for node, until in self._until.items() if now.run < until)}
        return 2 * len(away) < homes and self.spared(away)
