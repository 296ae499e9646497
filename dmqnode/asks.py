"""What a front end has under way: requests to the leaders of partitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dmqnode.clock import Now
from dmqnode.homesets import HomeSet
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Message

Then = Callable[[Now, Message], None]


@dataclass(slots=True)
class Ask:
    """One request to one partition's leader, wherever that is."""

    ticket: int
    session: int
    number: int
    partition: PartitionId
    first: HomeSet
    message: Message
    then: Then
    deadline: float
    asked_at: float
    where: NodeId | None = None
    looks: int = 0
    homes: int = 0
    others: int = 0
    """How often its leader was looked for, and at whom it was asked in turn."""
    risky: bool = False
    """It may have been done already: it, or what it repeats, was under way when a connection broke."""
    cancelled: bool = False
    referred: bool = False
    """Whether it has gone, since it was last parked, to whom somebody named."""

    @property
    def asked(self) -> bool:
        """Whether somebody has it, or did when it was last refused."""
        return self.where is not None
