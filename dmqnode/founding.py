"""Whether a node that has no cluster founds one (rule I3): of nodes with the same seeds one does.

What is compared are the seeds as they were given, and the node itself: under its own address, or under the
name of a seed at which it met itself.  The node at the first of them founds, once a majority knows it there.

Not so where a seed belongs to a cluster, though that cannot let anybody in just now: most of its members may
be those that wait here, without the data that they had.  One that knows that it has had data does not make do
with a majority either: who is not there may be the one that has kept it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from dmqnode.addresses import is_loopback
from dmqnode.config import host_port
from dmqnode.ids import NodeId

ALIAS_AFTER = 8
"""Times in turn that a node meets itself at its only seed before it founds: it may be of several nodes."""


class Answer(NamedTuple):
    """What a node without a cluster says about itself."""

    node: NodeId
    seeds: list[str]
    """What it compares, in order."""
    founder: NodeId | None
    """Whom it met at the first of them."""
    lost: bool = False
    """Whether it has had data, and lost it."""


class Founding:
    """What one node knows of those that wait with it.

    Arguments:
        me: who this node is.
        own: its address.
        given: the seeds.
        lost: whether it has had data, and lost it.
    """

    def __init__(self, me: NodeId, own: str, given: Sequence[str], *, lost: bool = False) -> None:
        self.me = me
        self.lost = lost
        self._own = own
        self._given = set(given)
        self._answers: dict[str, Answer] = {}
        self._aliases: set[str] = set()
        """Seeds that are this node under another name."""
        self._in_turn: Counter[str] = Counter()
        """How often it met itself at a seed, since it met another there."""
        self._mine: set[str] = set()
        self._others: set[str] = set()
        """Seeds at which it ever met itself, and others."""
        self._taken: set[str] = set()
        """Seeds that were met as members of a cluster."""
        self._mute: set[str] = set()
        """Seeds where somebody is who does not answer."""

    def met(self, seed: str, answer: Answer) -> None:
        """A node without a cluster answered at a seed; it may be this one."""
        if answer.node == self.me:
            self._aliases.add(seed)
            self._mine.add(seed)
            self._in_turn[seed] += 1
        else:
            self._aliases.discard(seed)
            self._others.add(seed)
            del self._in_turn[seed]
        self._taken.discard(seed)
        self._mute.discard(seed)
        self._answers[seed] = answer

    def belongs(self, seed: str) -> None:
        """Who answered at a seed is a member of a cluster; that holds until it says otherwise."""
        self._taken.add(seed)
        self._others.add(seed)
        del self._in_turn[seed]
        self._answers.pop(seed, None)

    def silent(self, seed: str, *, mute: bool = False) -> None:
        """Nobody who waits answered at a seed.

        Arguments:
            mute: whether somebody takes connections there, and says nothing, as while it opens its store.
        """
        self._answers.pop(seed, None)
        (self._mute.add if mute else self._mute.discard)(seed)

    def is_me(self, seed: str) -> bool:
        """Tell whether a seed is this node."""
        return seed == self._own or seed in self._aliases

    @property
    def alias(self) -> str | None:
        """A seed at which this node met itself, and others may, too; None if there is none."""
        return min((a for a in self._aliases if not is_loopback(a)), default=None)

    @property
    def seeds(self) -> list[str]:
        """What is compared, in order."""
        named = any(map(self.is_me, self._given))
        return sorted(self._given if named else {*self._given, self._own}, key=host_port)

    @property
    def founder(self) -> NodeId | None:
        """Who is at the first of the seeds, as far as this node knows."""
        first = self.seeds[0]
        if self.is_me(first):
            return self.me
        return self._answers[first].node if first in self._answers else None

    def may_found(self) -> bool:
        """Tell whether this node founds a cluster now.

        It is the first for itself, and for a majority; a name that is one node here and another there must
        not make two of them found.
        """
        if self._taken or self._mute or self.founder != self.me or self._disputed() is not None:
            return False
        if self._unproven():
            return False
        seeds, there, silent = self.seeds, {self.me}, 0
        nodes = set(there)
        for seed in seeds:
            answer = self._answers.get(seed)
            if self.is_me(seed):
                continue
            if answer is None:
                silent += 1
                continue
            nodes.add(answer.node)
            if answer.seeds == seeds and answer.founder == self.me:
                there.add(answer.node)
        if silent and self._losers():
            return False
        return 2 * len(there) > len(nodes) + silent

    def why(self) -> str:
        """Return what is waited for, in a sentence, and what may be done about it."""
        seeds = self.seeds
        first, disputed = seeds[0], self._disputed()
        if self._taken:
            return (
                f"{', '.join(sorted(self._taken))} is of a cluster, which cannot let this node in: most of "
                "its members do not answer; if they will not come back with their data, say so there: "
                "dmq cluster forget NAME --destroyed"
            )
        if disputed is not None:
            return f"{first} is one node here and another to {disputed}; give names that are one node to all"
        if self._mute:
            return f"{', '.join(sorted(self._mute))} takes connections, and does not answer: it may have data"
        unproven = self._unproven()
        if unproven in self._others:
            return (
                f"{unproven} is this node at one time and another at the next; "
                "give the addresses of nodes, each of which is one node to all"
            )
        other = next((s for s, a in sorted(self._answers.items()) if a.seeds != seeds), None)
        if other is not None:
            theirs = ",".join(self._answers[other].seeds)
            return (
                f"{other} waits for {theirs}, this node for {','.join(seeds)}; give all the same --join, "
                "and each as --advertise its own address as it stands there"
            )
        if self.founder is None:
            return f"{first} is to found a cluster, and does not answer"
        if losers := self._losers():
            silent = [s for s in seeds if s not in self._answers and not self.is_me(s)]
            if silent:
                return (
                    f"{', '.join(losers)} had a store and has lost it, and {', '.join(silent)}, which may "
                    "have a copy, does not answer; start it, or, to begin without what was stored, remove "
                    "the stores that were renamed, store.*-*, from the data directory of who has lost its own"
                )
        if unproven:
            return f"{unproven} is this node, and may be others, too: it is asked {ALIAS_AFTER} times"
        return f"a majority of {','.join(seeds)} has to be there for {first} to found a cluster"

    def _unproven(self) -> str:
        """Return the seed at which this node may not be the only one, if it would found for that; else "".

        So it is with one address for all nodes, behind which a balancer chooses: each that is sent to itself
        would found a cluster of its own.
        """
        shared, first = self._mine & self._others, self.seeds[0]
        if self._given <= shared:
            return min(self._given)
        alone = self._own not in self._given and self._given <= self._aliases
        return first if first in shared or (alone and self._in_turn[first] < ALIAS_AFTER) else ""

    def _losers(self) -> list[str]:
        """Return who has had data and lost it, of those that wait."""
        others = [seed for seed, answer in sorted(self._answers.items()) if answer.lost]
        return [*(["this node"] if self.lost else []), *others]

    def _disputed(self) -> str | None:
        """Return a seed of the same seeds that knows another node at the first of them."""
        seeds, founder = self.seeds, self.founder
        for seed, answer in sorted(self._answers.items()):
            if answer.seeds == seeds and None not in (founder, answer.founder) and answer.founder != founder:
                return seed
        return None
