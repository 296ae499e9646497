"""Numbers that no earlier run of this node has given."""

from __future__ import annotations

from dmqnode.ids import LogId, log_id
from dmqnode.records import Identity


class Numbering:
    """Names the logs and deliveries of one run."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._logs = 0
        self._deliveries = 0

    def new_log(self) -> LogId:
        """Return the id of a new log of this run (I1)."""
        self._logs += 1
        return log_id(self._identity.node, self._identity.boot, self._identity.nonce, self._logs)

    def new_delivery(self) -> int:
        """Return a delivery number that no earlier run of this node has given."""
        self._deliveries += 1
        return ((self._identity.boot & 0xFFFFFF) << 40) | self._deliveries
