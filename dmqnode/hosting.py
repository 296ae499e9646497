"""What the cluster's cores ask of the part of the node that runs the partitions led here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dmqnode.clock import Now
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.log import Log
from dmqnode.messages import Message
from dmqnode.peer_messages import Fill
from dmqnode.port import Then
from dmqnode.smallrows import Described, Gaps


class Hosting(Protocol):
    """Opens, feeds and closes partitions."""

    def open_partition(
        self,
        now: Now,
        partition: PartitionId,
        gaps: Gaps,
        then: Callable[[Now, dict[LogId, Log]], None],
        damaged: Callable[[list[bytes]], bool],
    ) -> None:
        """Load a partition from disk; call `then` with its logs.  It is not served before `serve`.

        Arguments:
            damaged: told the keys of damaged records; if it returns True, this opening is over.
        """

    def sealed(self, partition: PartitionId) -> bool:
        """Tell whether only its leader takes sends to a partition: what it does not know dies (F2)."""

    def serve(self, now: Now, partition: PartitionId) -> None:
        """This node holds the lease, and the copy is whole: deliver."""

    def drain(self, now: Now, partition: PartitionId, then: Then) -> None:
        """Take nothing new, write what is known of deliveries; call `then` once all of it is on the homes."""

    def close_partition(self, now: Now, partition: PartitionId, unanswered: list[Then]) -> None:
        """The lease is over: forget the partition.

        Arguments:
            unanswered: what waited for copies; its outcome is unknown.
        """

    def adopt(self, now: Now, partition: PartitionId, described: Described, *, certain: bool) -> None:
        """A home shows what this node, which leads, may not know: take it in.

        Arguments:
            certain: what a fifo queue's homes did not show before this node led was never answered (F2).
        """

    def take_in(self, now: Now, fill: Fill, then: Then) -> None:
        """A home sent batches that this node, which leads, lacked; call `then` once they are in."""

    def looked(self, now: Now, sender: NodeId, fill: Fill) -> None:
        """What a home, or this node itself, has found on its disk is taken in."""

    def unreadable(self, now: Now, partition: PartitionId, log: LogId, low: int, high: int) -> None:
        """Messages of a partition led here cannot be read: they are lacking."""

    def unlike(self, partition: PartitionId, node: NodeId) -> None:
        """The small records of a home are not those of this node, which leads."""

    def missing(self, partition: PartitionId) -> Gaps:
        """Return what the copy of a partition led here lacks."""

    def forwarded(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in what belongs to requests that travel between nodes; tell whether it was such."""
