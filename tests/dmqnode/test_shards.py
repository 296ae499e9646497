"""How one partition of a queue is named where it is served."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.errors import Refused
from dmqnode.ids import QueueId
from dmqnode.queues import Definition, Settings
from dmqnode.shards import is_shard, read_shard, renamed, shard_name


def definition(id_: bytes = b"queue001", **settings: object) -> Definition:
    made: Any = settings
    return Definition(id=QueueId(id_), name="orders", owner="me", created_at=1000, settings=Settings(**made))


@given(st.binary(min_size=8, max_size=8), st.integers(0, 65535))
def test_a_name_says_which_partition_it_is(id_: bytes, index: int) -> None:
    name = shard_name(definition(id_), index)
    assert is_shard(name)
    assert read_shard(name) == (id_, index)


def test_names_of_queues_are_none() -> None:
    assert not is_shard("orders")
    for name in ("orders", "orders#0", "#", "00#x"):
        with pytest.raises(Refused, match="not the name of a partition"):
            read_shard(name)


def test_a_shard_is_a_queue_of_one_partition_with_the_settings_of_all() -> None:
    shard = renamed(definition(partitions=8, visibility=7.0, ordering="fifo"))
    assert (shard.settings.partitions, shard.keyed_partitions) == (1, 1)
    assert (shard.settings.visibility, shard.settings.ordering, shard.name) == (7.0, "fifo", "orders")
