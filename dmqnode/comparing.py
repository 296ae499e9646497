"""Now and then a leader compares its small records with those of the homes that follow.

write group ──> leader reads its own, and says at which entry ──Compare──> home reads its own at that entry
            ──Compared: a hash──> alike: nothing ── unlike: the lease is taken anew, and all copies merged

What was damaged on a disk and not read since is noticed so.  What changed since the last time is compared
soon, what did not now and then, a few partitions at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.ids import NodeId, PartitionId
from dmqnode.peer_messages import Compare, Compared
from dmqnode.port import Port
from dmqnode.smallrows import small_ranges

if TYPE_CHECKING:
    from dmqnode.following import Stream

EVERY = 30.0
"""Seconds between two comparisons of one partition that changes."""
IDLE_EVERY = 300.0
"""Seconds between two of one that does not: disks forget also what nobody touches."""
AT_ONCE = 16
"""Comparisons begun in one step, four times a second."""
PATIENCE = 10.0
"""Seconds after which a comparison that was not answered is forgotten."""


@dataclass(slots=True)
class Comparison:
    """One comparison under way, of the records as they were after entry `seq`."""

    began: float
    seq: int = -1
    own: bytes = b""
    others: dict[NodeId, bytes] = field(default_factory=dict)


class Comparing:
    """Compares what this node leads.

    Arguments:
        port: to the rest of the node.
        streams: of the partitions that are led here.
    """

    def __init__(self, port: Port, streams: Mapping[PartitionId, Stream]) -> None:
        self._port = port
        self._streams = streams
        self.unlike: Callable[[PartitionId, NodeId], None] = lambda partition, node: None
        """Called with a home whose records are not the leader's."""
        self._due: dict[PartitionId, float] = {}
        self._done: dict[PartitionId, tuple[int, int, float]] = {}
        """Up to which entry of which lease each partition was compared."""
        self._running: dict[PartitionId, Comparison] = {}
        self._walk: list[PartitionId] = []

    def tick(self, now: Now) -> None:
        """Begin what is due, in turn."""
        if not self._walk:
            self._walk = list(self._streams)
            for known in (self._due, self._done, self._running):
                for partition in [p for p in known if p not in self._streams]:
                    del known[partition]
        begun = 0
        while self._walk and begun < AT_ONCE:
            stream = self._streams.get(self._walk.pop())
            begun += stream is not None and self._begin(now, stream)

    def _begin(self, now: Now, stream: Stream) -> bool:
        partition = stream.partition
        running = self._running.get(partition)
        if running is not None and now.run - running.began < PATIENCE:
            return False
        # The first time at a moment of its own, so that those that began together do not stay together.
        first = now.run + EVERY * int.from_bytes(partition[:2], "big") / 65536
        if self._due.setdefault(partition, first) > now.run:
            return False
        *done, at = self._done.get(partition, (-1, -1, 0.0))
        if done == [stream.number.n, stream.seq] and now.run - at < IDLE_EVERY:
            return False
        if not stream.following():
            return False
        self._due[partition] = now.run + EVERY
        comparison = self._running[partition] = Comparison(now.run)

        def mark() -> None:
            comparison.seq = stream.seq
            for node in stream.following():
                self._port.send(node, Compare(partition, stream.number.n, stream.seq))

        def read(now: Now, rows: dict[bytes, bytes]) -> None:
            comparison.own = digest_of(rows)
            self._judge(stream, comparison)

        self._port.boundary(small_ranges(stream.keys), read, mark)
        return True

    def on_compared(self, stream: Stream, sender: NodeId, compared: Compared) -> None:
        """A home says what it has."""
        comparison = self._running.get(stream.partition)
        if comparison is not None and comparison.seq == compared.seq:
            comparison.others[sender] = compared.digest
            self._judge(stream, comparison)

    def _judge(self, stream: Stream, comparison: Comparison) -> None:
        partition = stream.partition
        if not comparison.own or self._running.get(partition) is not comparison:
            return
        if self._streams.get(partition) is not stream:
            return
        for node, digest in comparison.others.items():
            if digest != comparison.own and node in stream.following():
                del self._running[partition]
                self.unlike(partition, node)
                return
        if len(comparison.others) >= len(stream.followers):
            del self._running[partition]
            self._done[partition] = (stream.number.n, comparison.seq, comparison.began)


def digest_of(rows: dict[bytes, bytes]) -> bytes:
    """Return a hash of records, whatever order they come in."""
    whole = blake2b(digest_size=16)
    for key in sorted(rows):
        for part in (key, rows[key]):
            whole.update(len(part).to_bytes(4, "big"))
            whole.update(part)
    return whole.digest()
