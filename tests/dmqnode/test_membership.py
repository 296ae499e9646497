"""What a node keeps of itself and its cluster survives, and is made where it is missing."""

from __future__ import annotations

from dmqnode.acquaintances import Acquaintances
from dmqnode.grants import GRANTS
from dmqnode.ids import NodeId
from dmqnode.membership import (
    ACQUAINTANCES,
    decode_acquaintances,
    encode_acquaintances,
    found,
    join,
    read_membership,
)
from dmqnode.roster import Member, Roster
from storage.memory import MemoryStore
from storage.ops import WriteBatch


def test_an_empty_directory_belongs_to_nobody() -> None:
    first = read_membership(MemoryStore())
    assert (first.roster, first.name, first.key, first.used) == (None, "", b"", False)
    assert not first.several
    assert first.identity.boot == 1


def test_a_founder_is_the_only_member_until_others_come() -> None:
    store = MemoryStore()
    first = read_membership(store)
    founded = found(store, first, "dmq", Member(first.identity.node, "n", "h:1"))
    again = read_membership(store)
    assert (again.cluster, again.key, again.name) == (founded.cluster, founded.key, "dmq")
    assert again.identity.node == first.identity.node
    assert again.identity.boot == 2
    assert again.roster is not None
    assert again.roster.version == 1
    assert again.roster.members == (Member(first.identity.node, "n", "h:1"),)
    assert not again.several
    # It may start at another address as long as it is alone.
    moved = found(store, again, "dmq", Member(first.identity.node, "n", "h:2"))
    assert (moved.key, moved.cluster) == (founded.key, founded.cluster)


def test_a_joiner_takes_over_the_cluster() -> None:
    store = MemoryStore()
    fresh = read_membership(store)
    roster = Roster(4, (Member(NodeId(b"founder!"), "f", "h:1"), Member(fresh.identity.node, "n", "h:2")))
    join(store, fresh, cluster=b"c" * 16, name="dmq", key=b"k" * 32, roster=roster)
    again = read_membership(store)
    assert (again.cluster, again.key) == (b"c" * 16, b"k" * 32)
    assert again.roster is not None
    assert (again.roster.version, again.roster.members) == (4, roster.members)
    assert again.several


def test_promises_and_acquaintances_are_read() -> None:
    store = MemoryStore()
    batch = WriteBatch()
    batch.put(GRANTS + bytes(10), b"promise")
    batch.put(ACQUAINTANCES, encode_acquaintances({NodeId(b"12345678"): (3, 4)}))
    store.write(batch, sync=True)
    membership = read_membership(store)
    assert membership.promises == [(bytes(10), b"promise")]
    assert membership.acquaintances == {NodeId(b"12345678"): (3, 4)}
    met = Acquaintances(NodeId(b"87654321"), lambda: Roster(1, ()), membership.acquaintances)
    assert decode_acquaintances(encode_acquaintances(met.met)) == met.met
