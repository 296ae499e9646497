"""Who joins a node that is alone: it waits a moment for another, so that one step makes three of one (M5).

    a first join ──another's join, or HOLD is over──> one step of the list with all that wait

Two nodes bear no death, three do: with a step each there would be a time in which there are two, though the
third is there already.  The node goes on serving alone meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dmqnode.clock import Now
from dmqnode.errors import Refused
from dmqnode.ids import NodeId
from dmqnode.messages import Step
from dmqnode.port import Then
from dmqnode.roster import Done, Rosters, joining

HOLD = 0.5
"""Seconds that a join waits for another: a little more than nodes wait between two rounds of asking."""


class _Joining(NamedTuple):
    node: NodeId
    step: Step
    done: Done
    there: Callable[[], bool]


class Gathering:
    """Makes the steps of the list of members, those of the first who join together.

    Arguments:
        rosters: makes them.
        later: calls a function in so many seconds.
    """

    def __init__(self, rosters: Rosters, later: Callable[[Now, float, Then], None]) -> None:
        self._rosters = rosters
        self._later = later
        self._waiting: list[_Joining] = []

    def step(self, now: Now, step: Step, done: Done, there: Callable[[], bool]) -> None:
        """Make a change, now or in a moment; `done` gets None, or why not.

        Arguments:
            there: whether whoever asks still waits for the answer: who has gone meanwhile would be the
                second of two members, and the first could do nothing without it.

        Errors: ProtocolError.
        """
        roster = self._rosters.current
        joins = joining(step).node if step.kind == "join" else None
        if joins is None or len(roster.members) != 1 or roster.find(joins) is not None:
            self._rosters.step(now, step, done=done)
            return
        self._waiting = [other for other in self._waiting if other.there()]
        if not self._waiting:
            self._later(now, HOLD, self._let_in)
        self._waiting.append(_Joining(joins, step, done, there))
        if len({other.node for other in self._waiting}) > 1:
            self._let_in(now)

    def _let_in(self, now: Now) -> None:
        waiting, self._waiting = [other for other in self._waiting if other.there()], []

        def all_done(now: Now, error: Refused | None) -> None:
            for other in waiting:
                other.done(now, error)

        if waiting:
            self._rosters.step(now, *[other.step for other in waiting], done=all_done)
