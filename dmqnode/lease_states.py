"""What a node remembers of one lease that it claims or holds."""

from __future__ import annotations

from dmqnode.grants import LEASE
from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import NodeId

HELD = LEASE - 0.05
"""Seconds that the holder believes in a lease: less than what is granted, for its clocks may all be slow,
and those of a granter fast, by 1 %."""


class Attempt:
    """One claim under way.  `nonce` tells its answers from those to others; `started` is in holder's time."""

    __slots__ = ("asked", "denied", "granted", "nonce", "number", "record", "started")

    def __init__(self, number: LeaseNumber, nonce: int, started: float, record: HomeSet) -> None:
        self.number = number
        self.nonce = nonce
        self.started = started
        self.record = record
        self.asked: dict[NodeId, None] = {}
        self.granted: dict[NodeId, HomeSet] = {}
        """Who has granted, and the home set that it has on disk."""
        self.denied: dict[NodeId, None] = {}

    @property
    def patience(self) -> float:
        """Seconds to wait for answers; little once somebody denied: another claim is likely in the way."""
        return LEASE / 5 if self.denied else LEASE / 2

    @property
    def untold(self) -> dict[NodeId, None]:
        """Which homes are to be told that they are these: none, if most of them have shown that they know."""
        homes = self.record.new if self.record.committed else ()
        untold = {node: None for node in homes if self.granted.get(node) != self.record}
        return untold if 2 * len(untold) >= len(homes) else {}

    @property
    def hopeless(self) -> bool:
        """Whether those who have not denied are no majority."""
        return not self.record.has_majority([n for n in self.record.members if n not in self.denied])


class Lease:
    """One lease that this node holds.

    `number` is its number, `record` the home set in force, `serving` whether it delivers.

    Arguments:
        claim: which enough homes have granted.
        fast: holder's time.
    """

    __slots__ = (
        "agreed",
        "barred",
        "mark",
        "number",
        "proposal",
        "record",
        "serving",
        "since",
        "until",
        "untold",
    )

    def __init__(self, claim: Attempt, fast: float) -> None:
        self.number = claim.number
        self.record = claim.record
        self.until = claim.started + HELD
        """Until when a majority has promised, as far as worked out (holder's time); never goes back."""
        self.since = fast
        """Renewals that left up to then say nothing of this lease."""
        self.barred: dict[NodeId, float] = {}
        """Per node up to when its renewals say nothing of this lease: for ever, until it agrees again."""
        self.serving = False
        self.proposal: HomeSet | None = None
        self.mark = 0
        """Where the copies must have come to in order to agree to the proposal (H3)."""
        self.agreed: dict[NodeId, None] = {}
        self.untold = claim.untold
        """Nodes that have not confirmed yet to know the committed home set."""

    @property
    def known(self) -> bool:
        """Whether most of the new homes have on disk that the home set is in force: that is not forgotten."""
        return 2 * sum(node not in self.untold for node in self.record.new) > len(self.record.new)

    def confirmed(self, node: NodeId) -> bool:
        """A node has the committed home set on disk; tell whether with it most of the new homes have."""
        before = self.known
        self.untold.pop(node, None)
        return self.known and not before

    @property
    def counted(self) -> HomeSet:
        """The home set whose majorities count now: what is proposed, until it is committed (H1)."""
        return self.record if self.proposal is None else self.proposal
