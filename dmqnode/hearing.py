"""Which members this node hears, since when it does not, and whether it is cut off from most (M2, M3).

A node that was stopped, or has just started, does not know for how long it heard nobody: the others may have
forgotten it meanwhile, and formed its homes anew.  So it counts as cut off until most members answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from dmqnode.clock import Now
from dmqnode.ids import NodeId

NOTICED = 5.0
"""Seconds within which a link is known to be silent, looked at, and a lease over that was granted before."""
FEW = 2
"""So few members are never a majority without one of them: none is forgotten unless somebody says so (M5)."""


class Hearing:
    """Remembers who answers.

    Arguments:
        nodes: the members.
        limit: seconds without a majority of the members after which a node is cut off (M3).
    """

    def __init__(self, nodes: Collection[NodeId], limit: float) -> None:
        self.absent: dict[NodeId, float] = {}
        """Members that do not answer, since when."""
        self._nodes = nodes
        self._limit = limit
        self._looked = -math.inf
        self._deaf = True
        """Whether nobody was looked for during so long, and no majority was heard since."""
        self._trusted = -math.inf
        """From when on a link that seems to stand is one."""

    def learn(self, nodes: Collection[NodeId]) -> None:
        """There are these members now."""
        self._nodes = nodes
        for node in [n for n in self.absent if n not in nodes]:
            del self.absent[node]

    def look(self, now: Now, answers: Callable[[NodeId], bool]) -> None:
        """Take note of who answers."""
        if self.overslept(now):
            self._deaf = True
            # The links of a process that goes on where it stopped may be long dead: it is not told at once.
            self._trusted = now.run + NOTICED if self._looked > -math.inf else now.run
        self._looked = now.run
        for node in self._nodes:
            if answers(node):
                self.absent.pop(node, None)
            else:
                self.absent.setdefault(node, now.run)
        if now.run >= self._trusted and 2 * (len(self._nodes) - len(self.absent)) > len(self._nodes):
            self._deaf = False

    def overslept(self, now: Now) -> bool:
        """Tell whether nobody was looked for during so long that this node may have been forgotten."""
        return now.run - self._looked >= self._limit

    @property
    def few(self) -> bool:
        """Whether so few are members that none is forgotten unless somebody says so (M5)."""
        return len(self._nodes) <= FEW

    def isolated(self, now: Now) -> bool:
        """Tell whether no majority of the members was heard for so long (M3)."""
        if self._deaf and not self.few:
            return True
        lost = sum(1 for since in self.absent.values() if now.run - since >= self._limit)
        return 2 * (len(self._nodes) - lost) <= len(self._nodes)
