"""What a node has on disk about itself and its cluster, read and written at the start (rules I1 to I3).

    n 00 identity       who it is, how often it has started, the id of its cluster
    n 00 cluster        the cluster's name and key; missing until it has founded or joined one
    n 00 roster         the members, as far as it knows
    n 00 acquaintances  which run of each other member it has met last (I2)
    g partition-id      what it has promised about leases

The functions block; call them in a worker thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cbor2

from dmqnode import roster as rosters
from dmqnode.disk import perform_read
from dmqnode.grants import GRANTS, GRANTS_END
from dmqnode.ids import NODE_ID_SIZE, NodeId, PartitionId
from dmqnode.keys import IDENTITY, QUEUES, QUEUES_END
from dmqnode.logs import say
from dmqnode.reads import Get
from dmqnode.records import Identity, decode_identity, encode_identity
from dmqnode.roster import ROSTER_KEY, Member, Roster
from storage.ops import WriteBatch
from storage.store import Row, Store

CLUSTER = b"n\x00cluster"
ACQUAINTANCES = b"n\x00acquaintances"
KEY_SIZE = 32
CLUSTER_ID_SIZE = 16
Chance = Callable[[int], bytes]
"""Returns so many random bytes."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Who a node is, and of which cluster."""

    identity: Identity
    cluster: bytes
    """The id of the cluster (I3)."""
    name: str = ""
    """The cluster's name; empty while the node has none."""
    key: bytes = b""
    """What members prove to one another that they know."""
    roster: Roster | None = None
    """None while the node belongs to no cluster."""
    acquaintances: dict[NodeId, tuple[int, int]] = field(default_factory=dict)
    promises: list[tuple[PartitionId, bytes]] = field(default_factory=list)
    used: bool = False
    """Whether it holds queues."""

    @property
    def several(self) -> bool:
        """Whether the cluster has, or had, more members than this one."""
        roster = self.roster
        return roster is not None and (roster.version > 1 or len(roster.members) > 1)


def take_identity(store: Store, chance: Chance = os.urandom) -> tuple[Identity, bytes]:
    """Read who this node is, or make it up; count this start; return it with the cluster's id (I1, I3).

    If the record is damaged it is set aside, and this node is a new one (I2).
    """
    found = perform_read(store, Get((IDENTITY,)))
    record = found.rows[0][1] if found.rows else None
    if found.damaged:
        say(
            "the record of this node's identity is damaged and was set aside; it goes on as a new node",
            level=logging.ERROR,
        )
    if record is None:
        node, boot, cluster = NodeId(chance(NODE_ID_SIZE)), 0, chance(CLUSTER_ID_SIZE)
    else:
        (node, boot, _), cluster = decode_identity(record)
    identity = Identity(node, boot + 1, int.from_bytes(chance(4)))
    batch = WriteBatch()
    batch.put(IDENTITY, encode_identity(identity, cluster))
    store.write(batch, sync=True)
    return identity, cluster


def read_membership(store: Store, chance: Chance = os.urandom) -> Membership:
    """Take an identity, and read what is known of the cluster."""
    identity, cluster = take_identity(store, chance)
    record, roster, met = store.get(CLUSTER), store.get(ROSTER_KEY), store.get(ACQUAINTANCES)
    name, key = cbor2.loads(record) if record is not None else ("", b"")
    return Membership(
        identity,
        cluster,
        name,
        key,
        rosters.decode(roster) if roster is not None else None,
        decode_acquaintances(met) if met is not None else {},
        [(PartitionId(row.key[1:]), row.value) for row in _all(store, GRANTS, GRANTS_END)],
        bool(store.scan(QUEUES, QUEUES_END, limit=1).rows),
    )


def found(store: Store, membership: Membership, name: str, me: Member, key: bytes = b"") -> Membership:
    """Found a cluster of this one node, or tell the one that has no other member where it now is.

    Arguments:
        key: random bytes; unless it has a key already, it gets this one.
    """
    key = membership.key or key or os.urandom(KEY_SIZE)
    membership = replace(membership, name=name, key=key, roster=Roster(1, (me,)))
    _write(store, membership)
    return membership


def join(
    store: Store, membership: Membership, *, cluster: bytes, name: str, key: bytes, roster: Roster
) -> Membership:
    """Belong to a cluster from now on."""
    membership = replace(membership, cluster=cluster, name=name, key=key, roster=roster)
    _write(store, membership)
    return membership


def _write(store: Store, membership: Membership) -> None:
    assert membership.roster is not None
    batch = WriteBatch()
    batch.put(IDENTITY, encode_identity(membership.identity, membership.cluster))
    batch.put(CLUSTER, cbor2.dumps([membership.name, membership.key]))
    batch.put(ROSTER_KEY, rosters.encode(membership.roster))
    store.write(batch, sync=True)


def encode_acquaintances(met: dict[NodeId, tuple[int, int]]) -> bytes:
    """Return the record of which run of each member was met last."""
    return cbor2.dumps({node: list(run) for node, run in met.items()})


def decode_acquaintances(record: bytes) -> dict[NodeId, tuple[int, int]]:
    """Read what `encode_acquaintances` wrote."""
    return {NodeId(node): (boot, nonce) for node, (boot, nonce) in cbor2.loads(record).items()}


def _all(store: Store, start: bytes, stop: bytes) -> list[Row]:
    rows: list[Row] = []
    while True:
        page = store.scan(start, stop, limit=4096)
        rows += page.rows
        if not page.more or not page.rows:
            return rows
        start = page.rows[-1].key + b"\x00"
