"""How fast a node copies in the background: copies that catch up must not slow down others."""

from __future__ import annotations

AT_ONCE = 1
"""Pages that this node has under way."""
REST = 5.0
"""After each page it rests for so many times as long as that took: it takes up a sixth of the time."""
BUSY_REST = 15.0
"""The same while clients write here: a page is read, sent and synced on a disk that they wait for, too."""
MOVING_REST = 60.0
"""The same for a page that only moves a copy, of which every home has all: nobody is safer for haste."""
BUSY = 1.0
"""Seconds after a write in which clients count as busy."""
LONGEST = 0.25
"""Seconds that it rests at most."""
LONGEST_MOVING = 1.0
"""The same after a page that only moves a copy, while clients write."""
PATIENCE = 5.0
"""Seconds after which a page is given up: its receiver has died, and holds up nobody."""


class Pacing:
    """Says when the next page may be copied.

    Whoever begins one says so, and says when it is over.
    """

    def __init__(self) -> None:
        self._under_way: dict[object, float] = {}
        self._until = float("-inf")
        self._moving_until = float("-inf")
        """The same for pages that only move a copy: what makes something safer does not wait for them."""
        self._written_at = float("-inf")

    def written(self, now: float) -> None:
        """A client has written something here, at `now` (running time)."""
        self._written_at = now

    def may_begin(self, now: float, *, moves: bool) -> bool:
        """Tell whether a page may be copied now (running time); see `ends`."""
        if now < (self._moving_until if moves else self._until):
            return False
        for page in [p for p, begun in self._under_way.items() if now - begun > PATIENCE]:
            del self._under_way[page]
        return len(self._under_way) < AT_ONCE

    def begins(self, now: float, page: object) -> None:
        """A page is under way."""
        self._under_way[page] = now

    def ends(self, now: float, page: object, *, moves: bool) -> None:
        """A page has arrived, or will not.

        Arguments:
            moves: whether it only moves a copy, and every home has all.
        """
        begun = self._under_way.pop(page, None)
        if begun is None:
            return
        busy, took = now - self._written_at < BUSY, now - begun
        self._until = max(self._until, now + min(LONGEST, (BUSY_REST if busy else REST) * took))
        rest = min(LONGEST_MOVING, MOVING_REST * took) if busy and moves else 0.0
        self._moving_until = max(self._moving_until, self._until, now + rest)

    def next_begin(self, now: float, *, moves: bool) -> float:
        """Return when to ask again: never before a page under way ends, if that is what is waited for."""
        until = self._moving_until if moves else self._until
        return until if now < until and len(self._under_way) < AT_ONCE else float("inf")
