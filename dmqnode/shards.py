"""Shards: how one partition of a queue is named and defined where it is served."""

from __future__ import annotations

from dataclasses import replace

from dmqnode.queues import Definition


def shard_name(queue: str, index: int) -> str:
    """Return the name under which one partition of a queue is served; no queue of a user has such a name."""
    return f"{queue}#{index}"


def is_shard(name: str) -> bool:
    """Tell whether a name is of a shard."""
    return "#" in name


def queue_of_shard(name: str) -> str:
    """Return the queue that a shard is of."""
    return name.partition("#")[0]


def renamed(definition: Definition, index: int) -> Definition:
    """Return the definition of one partition's shard."""
    settings = replace(definition.settings, partitions=1)
    return replace(definition, settings=settings, first_partitions=0)
