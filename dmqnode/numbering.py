"""Numbers that no earlier run of this node has given, nor another node."""

from __future__ import annotations

from hashlib import blake2b

from dmqnode.ids import LogId, log_id
from dmqnode.records import Identity


class Numbering:
    """Names the logs and deliveries of one run."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._logs = 0
        self._deliveries = 0
        # Receipts outlive a leader: the next must not give the numbers of its deliveries to its own.
        self._spread = int.from_bytes(blake2b(identity.node, digest_size=8).digest(), "big") >> 1

    def new_log(self) -> LogId:
        """Return the id of a new log of this run (I1)."""
        self._logs += 1
        return log_id(self._identity.node, self._identity.boot, self._identity.nonce, self._logs)

    def new_delivery(self) -> int:
        """Return a delivery number that no earlier run of this node has given, nor another node; never 0."""
        self._deliveries += 1
        made = ((self._identity.boot & 0x7FFFFF) << 40) | self._deliveries
        return made ^ self._spread or self.new_delivery()
