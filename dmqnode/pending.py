"""Write groups: what is written at once, and what happens behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from dmqnode.clock import Now
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import LogId, PartitionId
from dmqnode.partition import Collected
from storage.ops import WriteBatch


class Shipment(NamedTuple):
    """What a write group changed in one partition that other homes follow: entry `seq` of a lease."""

    partition: PartitionId
    number: LeaseNumber
    seq: int
    collected: Collected | None
    then: tuple[Callable[[Now], None], ...]
    """Called once enough homes have the entry."""
    brought: tuple[tuple[LogId, int, int], ...] = ()
    """Messages (log, low, high) that it writes besides those collected."""
    relied: tuple[tuple[LogId, int, int], ...] = ()
    """Messages that must be on enough homes, too, before `then` is called."""


class Addition(NamedTuple):
    """What joins the next entry of a partition, besides what the partition itself changed."""

    ops: WriteBatch
    then: Callable[[Now], None]
    brought: tuple[tuple[LogId, int, int], ...]
    relied: tuple[tuple[LogId, int, int], ...]


@dataclass(slots=True)
class Look:
    """Ranges to be read as they are right behind a write group."""

    ranges: tuple[tuple[bytes, bytes], ...]
    then: Callable[[Now, dict[bytes, bytes]], None]
    mark: Callable[[], None]
    found: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Pending:
    """One write group: what the committer writes, and what may be said afterwards."""

    batch: WriteBatch
    sync: bool
    collected: list[Collected]
    then: list[Callable[[Now], None]]
    looks: list[Look] = field(default_factory=list)
    shipped: list[Shipment] = field(default_factory=list)
