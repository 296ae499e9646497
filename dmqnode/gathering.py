"""Who joins a node that is alone: it waits a moment for another, so that one step makes three of one (M5).

    a first join ──another's join, or HOLD is over──> one step of the list with all that wait

Two nodes bear no death, three do: with a step each there would be a time in which there are two, though the
third is there already.  The node goes on serving alone meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from dmqnode.clock import Now
from dmqnode.errors import Refused
from dmqnode.ids import NodeId
from dmqnode.messages import Step
from dmqnode.port import Then
from dmqnode.roster import Done, Rosters, joining

HOLD = 0.5
"""Seconds that a join waits for another: a little more than nodes wait between two rounds of asking."""


class Gathering:
    """Makes the steps of the list of members, those of the first who join together.

    Arguments:
        rosters: makes them.
        later: calls a function in so many seconds.
    """

    def __init__(self, rosters: Rosters, later: Callable[[Now, float, Then], None]) -> None:
        self._rosters = rosters
        self._later = later
        self._waiting: list[tuple[NodeId, Step, Done]] = []

    def step(self, now: Now, step: Step, done: Done) -> None:
        """Make a change, now or in a moment; `done` gets None, or why not.  Errors: ProtocolError."""
        roster = self._rosters.current
        joins = joining(step).node if step.kind == "join" else None
        if joins is None or len(roster.members) != 1 or roster.find(joins) is not None:
            self._rosters.step(now, step, done=done)
            return
        if not self._waiting:
            self._later(now, HOLD, self._let_in)
        self._waiting.append((joins, step, done))
        if len({node for node, _, _ in self._waiting}) > 1:
            self._let_in(now)

    def _let_in(self, now: Now) -> None:
        waiting, self._waiting = self._waiting, []

        def all_done(now: Now, error: Refused | None) -> None:
            for _, _, done in waiting:
                done(now, error)

        if waiting:
            self._rosters.step(now, *[step for _, step, _ in waiting], done=all_done)
