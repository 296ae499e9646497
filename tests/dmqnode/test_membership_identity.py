"""Who a node is: counted at each start, and another one if that cannot be read (I1, I2)."""

from __future__ import annotations

import random

from dmqnode.keys import IDENTITY
from dmqnode.membership import take_identity
from storage.memory import MemoryStore


def test_each_start_is_a_run_of_its_own() -> None:
    store = MemoryStore()
    first, cluster = take_identity(store)
    second, same = take_identity(store)
    assert (first.node, cluster) == (second.node, same)
    assert (first.boot, second.boot) == (1, 2)
    assert first.nonce != second.nonce


def test_a_damaged_identity_is_set_aside_and_the_node_is_another() -> None:
    store = MemoryStore()
    first, cluster = take_identity(store)
    store.damage(IDENTITY, random.Random(1))
    second, other = take_identity(store)
    assert second.node != first.node
    assert other != cluster
    assert store.statistics().set_aside == 1
    assert take_identity(store)[0].node == second.node
