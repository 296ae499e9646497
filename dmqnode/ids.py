"""Names of things: logs, messages, partitions, receipts.

A *log id* is 20 bytes: the acceptor's node id (8), its boot number (4), the nonce of that boot (4)
and a counter that numbers the logs of one boot (4).  Big-endian, so that byte order is (node, boot)
order.  A node opens new logs at every start, so a sequence number lost with an unsynced write is
never given to another message (rule I1).  (log id, seq) names a message for ever, in every queue.

A *partition id* is 10 bytes: the queue's id (8, random) and the partition's index (2).
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from functools import lru_cache
from typing import NamedTuple, NewType

from dmqnode.errors import UsageError

NodeId = NewType("NodeId", bytes)
LogId = NewType("LogId", bytes)
QueueId = NewType("QueueId", bytes)
PartitionId = NewType("PartitionId", bytes)

NODE_ID_SIZE = 8
QUEUE_ID_SIZE = 8
LOG_ID_SIZE = 20
PARTITION_ID_SIZE = 10

_LOG = struct.Struct(">8sIII")
_RECEIPT = struct.Struct(">10sQ20sQ")
SEQ_MAX = 2**63 - 1


def log_id(node: NodeId, boot: int, nonce: int, counter: int) -> LogId:
    """Name the `counter`-th log that `node` opens in its run (`boot`, `nonce`)."""
    return LogId(_LOG.pack(node, boot, nonce, counter))


def acceptor_of(log: LogId) -> NodeId:
    """Return the node that opened a log."""
    return NodeId(log[:NODE_ID_SIZE])


def partition_id(queue: QueueId, index: int) -> PartitionId:
    """Name partition `index` (0 … 65535) of a queue."""
    return PartitionId(queue + index.to_bytes(2, "big"))


@lru_cache(maxsize=4096)
def log_text(log: LogId) -> str:
    """Return the 32 characters that stand for a log in message ids."""
    return base64.b32encode(log).decode("ascii").lower()


def message_id(log: LogId, seq: int) -> str:
    """Return a message's id as users see it: 32 characters, a hyphen and the sequence number."""
    return f"{log_text(log)}-{seq}"


def parse_message_id(text: str) -> tuple[LogId, int]:
    """Split a message id.

    Errors: UsageError when `text` is not one.
    """
    name, _, number = text.rpartition("-")
    try:
        log, seq = base64.b32decode(name.upper()), int(number)
    except (binascii.Error, ValueError):
        log, seq = b"", -1
    if len(log) != LOG_ID_SIZE or not 0 <= seq <= SEQ_MAX:
        raise UsageError(f"{text!r} is not a message id; ids are printed by dmq send and dmq receive --json")
    return LogId(log), seq


class Receipt(NamedTuple):
    """What a consumer shows to ack, nack or extend one message of one delivery."""

    partition: PartitionId
    delivery: int
    log: LogId
    seq: int

    def __str__(self) -> str:
        # No "-": a receipt that begins with one would be an option to a command.
        return base64.b64encode(_RECEIPT.pack(*self), b"._").decode("ascii").rstrip("=")


def parse_receipt(text: str) -> Receipt:
    """Read a receipt as printed by `str(receipt)`, or by earlier versions, which had "-" for ".".

    Errors: UsageError when `text` is not one.
    """
    try:
        data = base64.b64decode(text.replace("-", ".") + "=" * (-len(text) % 4), b"._", validate=True)
        partition, delivery, log, seq = _RECEIPT.unpack(data)
    except (binascii.Error, ValueError, struct.error):
        raise UsageError(
            f"{text[:80]!r} is not a receipt; receipts are printed by: dmq receive --json --keep"
        ) from None
    return Receipt(PartitionId(partition), delivery, LogId(log), seq)


def choose_partition(count: int, key: str | bytes) -> int:
    """Return the partition, 0 … count - 1, that sends under `key` always go to.

    The same key gives the same partition in every node and run: a repetition must find the first.
    """
    data = key.encode() if isinstance(key, str) else key
    return zlib.crc32(data) % count
