"""Shards: how one partition of a queue is named and defined where it is served."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from dmqnode.errors import Refused
from dmqnode.ids import QueueId
from dmqnode.queues import Definition


def shard_name(queue: Definition, index: int) -> str:
    """Return the name under which one partition of a queue is served; no queue of a user has such a name.

    It is made of the queue's id: for a while there may be several queues of one name.
    """
    return _name(queue.id, index)


@lru_cache(maxsize=4096)
def _name(queue: QueueId, index: int) -> str:
    return f"{queue.hex()}#{index}"


def is_shard(name: str) -> bool:
    """Tell whether a name is of a shard."""
    return "#" in name


@lru_cache(maxsize=4096)
def read_shard(name: str) -> tuple[QueueId, int]:
    """Return the queue and the index that a shard's name is made of.  Errors: Refused."""
    queue, _, index = name.partition("#")
    try:
        return QueueId(bytes.fromhex(queue)), int(index)
    except ValueError:
        raise Refused(f"{name!r} is not the name of a partition") from None


def renamed(definition: Definition) -> Definition:
    """Return the definition of one partition's shard."""
    settings = replace(definition.settings, partitions=1)
    return replace(definition, settings=settings, first_partitions=0)
