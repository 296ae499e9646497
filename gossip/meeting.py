"""Finding others: the addresses to try, at the start and for ever, and whether to found a cluster.

A split may last longer than the dead are remembered; so the addresses of all who ever were members are kept,
but for those that left, and one at a time is tried again. Two halves find each other whenever they can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from gossip.messages import NodeId

PRESENCE = 10.0
"""Seconds for which a seed that answered counts as there."""


class Meeting:
    """The known addresses, at most `limit` besides the seeds.

    Arguments:
        seeds: addresses the operator gave; never dropped.
        known: addresses of an earlier run.
        own: this node's address.
    """

    def __init__(self, seeds: Sequence[str], known: Iterable[str], own: str, limit: int, rng: Random) -> None:
        self.seeds = tuple(dict.fromkeys(seeds))
        self._own = {own: None}
        self._limit = limit
        self._rng = rng
        # The longest silent first.
        self._known: dict[str, None] = dict.fromkeys(a for a in known if a != own)
        self._answered: dict[str, float] = {}
        self._answers: dict[str, NodeId] = {}
        self._round: list[str] = []
        self._shrink()

    def known(self) -> tuple[str, ...]:
        """Return the addresses to keep on disk."""
        return tuple(self._known)

    def heard(self, address: str) -> bool:
        """A member is at this address; tell whether that is new."""
        if address in self._own:
            return False
        new = address not in self._known
        self._known.pop(address, None)
        self._known[address] = None
        self._shrink()
        return new

    def drop(self, address: str) -> bool:
        """Nobody is at this address any more, by command; tell whether it was known."""
        if address not in self._known:
            return False
        del self._known[address]
        self._answers.pop(address, None)
        return True

    def is_own(self, address: str) -> None:
        """This node itself answered at this address."""
        self._own[address] = None
        self._known.pop(address, None)
        self._answers.pop(address, None)

    def answers_at(self, address: str, node: NodeId) -> None:
        """A member answered at an address that may be another name for its own."""
        if address in self._known or address in self.seeds:
            self._answers[address] = node

    def node_at(self, address: str) -> NodeId | None:
        """Return who answered last at an address."""
        return self._answers.get(address)

    def without_cluster(self, now: float, address: str) -> None:
        """A node that has no cluster either answered at this address."""
        if address in self.seeds:
            self._answered[address] = now

    def next_to_try(self, skip: Callable[[str], bool]) -> str | None:
        """Return the next address to try, round by round in random order.

        Arguments:
            skip: tells that an address need not be tried, as a member that is there has it.
        """
        for _ in range(2):
            while self._round:
                address = self._round.pop()
                if (address in self._known or address in self.seeds) and self._useful(address, skip):
                    return address
            candidates = dict.fromkeys([*self.seeds, *self._known])
            self._round = [a for a in candidates if self._useful(a, skip)]
            self._rng.shuffle(self._round)
        return None

    def _useful(self, address: str, skip: Callable[[str], bool]) -> bool:
        return address not in self._own and not skip(address)

    def may_found(self, now: float) -> bool:
        """Tell whether a node without cluster should found one now.

        Without seeds, at once. With seeds only the first of them by address may, so that no two do, and
        only while a majority of them is there without a cluster, so that one that lost its disk does not.
        """
        if not self.seeds:
            return True
        if min(self.seeds) not in self._own:
            return False
        there = sum(
            seed in self._own or now - self._answered.get(seed, -PRESENCE) < PRESENCE for seed in self.seeds
        )
        return 2 * there > len(self.seeds)

    def _shrink(self) -> None:
        while len(self._known) > self._limit:
            dropped = next(iter(self._known))
            del self._known[dropped]
            self._answers.pop(dropped, None)
