"""What the cores of leases and home sets ask the shell to do."""

from __future__ import annotations

from typing import NamedTuple

from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Message
from storage.ops import WriteBatch


class ToPeer(NamedTuple):
    """Send a message to a node, this one included."""

    node: NodeId
    message: Message


class Persist(NamedTuple):
    """Write `ops` durably, and only then send `then`."""

    ops: WriteBatch
    then: tuple[ToPeer, ...]


class Acquired(NamedTuple):
    """This node holds the lease: bring the copy up to date, then call `merged`."""

    partition: PartitionId
    number: LeaseNumber
    record: HomeSet


class Serving(NamedTuple):
    """The lease holds, the copy is whole, the home set is settled: deliver."""

    partition: PartitionId
    number: LeaseNumber


class Lost(NamedTuple):
    """The lease is over: say nothing more in its name."""

    partition: PartitionId
    number: LeaseNumber


class Denial(NamedTuple):
    """A claim came to nothing; `holder` leads, as far as the one who denied knows."""

    partition: PartitionId
    holder: NodeId


class HomesChanged(NamedTuple):
    """A home set that this node proposed is in force; again, when most new homes have that on disk."""

    partition: PartitionId
    record: HomeSet


Effect = ToPeer | Persist | Acquired | Serving | Lost | Denial | HomesChanged
