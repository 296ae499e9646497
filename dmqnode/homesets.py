"""A partition's home set: the nodes that hold it, as explicit, versioned state (rules H1 to H5).

A change is a record (version, lease number, old set, new set).  Until it is known to be committed, whoever
wants a majority needs one of both sets.  The newest record is the one with the highest (version, lease
number), and of two equal ones the committed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from dmqnode.errors import ProtocolError
from dmqnode.ids import NODE_ID_SIZE, NodeId

MAX_HOMES = 7
"""Homes of one partition; the roster has no more voters."""


class LeaseNumber(NamedTuple):
    """Numbers leases: higher is later; two nodes never make the same."""

    n: int
    node: NodeId

    def above(self, node: NodeId) -> LeaseNumber:
        """Return the number with which `node` claims after this one."""
        return LeaseNumber(self.n + 1, node)


NO_LEASE = LeaseNumber(0, NodeId(bytes(NODE_ID_SIZE)))

HomeSetFields = tuple[int, int, bytes, list[bytes], list[bytes], bool]
"""A home set as it travels: version, lease number (n, node), old set, new set, committed."""


class HomeSet(NamedTuple):
    """One version of a partition's home set."""

    version: int
    lease: LeaseNumber
    old: tuple[NodeId, ...]
    new: tuple[NodeId, ...]
    committed: bool

    @classmethod
    def first(cls, homes: Collection[NodeId]) -> HomeSet:
        """Return the set with which a partition begins (H5)."""
        return cls(1, NO_LEASE, tuple(homes), tuple(homes), True)

    @property
    def age(self) -> tuple[int, LeaseNumber]:
        """What orders records of one partition."""
        return self.version, self.lease

    def newer_than(self, other: HomeSet) -> bool:
        """Tell whether this record replaces `other` (H2)."""
        return (self.age, self.committed) > (other.age, other.committed)

    @property
    def formed_anew(self) -> bool:
        """Whether a decision formed it (M4), so that it holds what was left: not all, perhaps."""
        return self.lease == NO_LEASE and self.version > 1

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Every node that has a say: the new set, and until it is committed also the old; preferred first."""
        if self.committed:
            return self.new
        return (*self.new, *(n for n in self.old if n not in self.new))

    @property
    def sets(self) -> tuple[tuple[NodeId, ...], ...]:
        """The sets of which majorities are needed: the new, and before it is committed also the old (H1)."""
        return (self.new,) if self.committed else (self.old, self.new)

    def has_majority(self, nodes: Collection[NodeId]) -> bool:
        """Tell whether `nodes` hold a majority: of the new set, and of the old while that counts (H1)."""
        return self.has_quorum(nodes, 0)

    def has_quorum(self, nodes: Collection[NodeId], least: int) -> bool:
        """Tell whether `nodes` hold a majority and no fewer than `least` of each set that counts (Q1)."""
        for homes in self.sets:
            count = len(homes)
            if len([n for n in homes if n in nodes]) < max(count // 2 + 1, min(least, count)):
                return False
        return True

    def commit(self) -> HomeSet:
        """Return this record as committed."""
        return self._replace(committed=True)

    def change(self, lease: LeaseNumber, new: Collection[NodeId]) -> HomeSet:
        """Return the next record, from this committed one to `new`."""
        return HomeSet(self.version + 1, lease, self.new, tuple(new), False)

    def without(self, gone: Collection[NodeId]) -> HomeSet:
        """Return this record without one of `gone` in each set of an even number of homes, of four or more.

        Of four homes three are a majority, which any two of a certain three meet, whoever the fourth is: so
        who knows the one record and who knows the other cannot miss each other.
        """
        old, new = (_less_one(homes, gone) for homes in (self.old, self.new))
        if not self.committed:
            return self._replace(old=old, new=new)
        return self if new == self.new else HomeSet(self.version + 1, NO_LEASE, new, new, True)

    def renewed(self, lease: LeaseNumber) -> HomeSet:
        """Return this unfinished record as a later leader proposes it again (H2)."""
        return self._replace(lease=lease)

    def fields(self) -> HomeSetFields:
        """Return the record as it travels and is stored."""
        return self.version, self.lease.n, self.lease.node, list(self.old), list(self.new), self.committed


def _less_one(homes: tuple[NodeId, ...], gone: Collection[NodeId]) -> tuple[NodeId, ...]:
    """Return homes without the first of `gone` that is one, if they are an even number."""
    spare = None if len(homes) % 2 or len(homes) < 4 else next((n for n in gone if n in homes), None)
    return tuple(n for n in homes if n != spare)


def majority(homes: Collection[NodeId]) -> int:
    """Return how many nodes are a majority of `homes`."""
    return len(homes) // 2 + 1


def read_home_set(fields: Any) -> HomeSet:
    """Read what `HomeSet.fields` returned.

    Errors: ProtocolError for anything else.
    """
    try:
        version, n, node, *two, committed = fields
        old, new = (tuple(homes) for homes in two)
    except (TypeError, ValueError):
        raise ProtocolError("a home set is not six fields") from None
    if not all(type(h) is bytes and len(h) == NODE_ID_SIZE for h in (node, *old, *new)):
        raise ProtocolError("a home set names what is not a node")
    if not all(1 <= len(homes) == len(set(homes)) <= MAX_HOMES for homes in (old, new)):
        raise ProtocolError(f"a home set does not name 1 to {MAX_HOMES} different nodes")
    if not (type(version) is type(n) is int and version >= 1 and n >= 0):
        raise ProtocolError("a home set has a version or lease number that cannot be")
    return HomeSet(version, LeaseNumber(n, NodeId(node)), old, new, bool(committed))
