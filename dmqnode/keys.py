"""The LevelDB keys of a node, ordered so that what is read together lies together.

    n…                               the node's identity and boot number
    q queue-id                       a queue's definition, or that it was deleted
    p partition-id                   everything of one partition (10 bytes), then
        a …                          of a copy: see `smallrows`; ax letter: such a record was set aside
        b log-id seq                 a batch, under the seq of its first message
        b log-id ff×8                the fence behind a log's last batch
        d log-id n                   a log's dead set: 0 the base, 1 … what came since
        l log-id                     a log: when opened, of which kind
        n slot                       a note: one delivery; slots are used again
        s                            the partition's state
        t due log-id seq             a delayed batch by when it is due
        u minute …                   what was sent in that minute, to recognise repetitions
    ff crc key                       a damaged record that the store has set aside

One partition's batches are one contiguous ascending range.  A deleted prefix makes seeks in an LSM
tree slow, so nobody seeks over one: the dead set says where the living begin, and the fence, which is
never deleted before its log, stops a reader at the log's end before it meets deleted keys behind it.
Slots are reused for the same reason, and the indexes by time are read from a stored low mark.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dmqnode.ids import LOG_ID_SIZE, PARTITION_ID_SIZE, QUEUE_ID_SIZE, LogId, PartitionId, QueueId

IDENTITY = b"n\x00identity"
QUEUES = b"q"
QUEUES_END = b"r"
COPIES = b"p"
"""The keys of copies of partitions: p, partition, and what is described above."""
COPIES_END = b"q"
DEBTS = b"h"
"""The keys of debts: h, partition, log, first seq."""
DEBTS_END = b"i"
_U64 = struct.Struct(">Q")
_U32 = struct.Struct(">I")
_FENCE = b"\xff" * 8


HARM = b"ax"
"""Behind a partition's prefix: a record of this copy was set aside; what follows is its letter."""
_DESCRIBING = (b"d", b"l", b"m", b"n", b"s", b"u")
"""Letters of the small records, which say what a copy knows."""
_STALE = b"ad"
ASIDE = b"\xff"
ASIDE_END = b"\xff" * 64
_ASIDE_HEAD = 5


def aside_queue(key: bytes) -> QueueId | None:
    """Return the queue whose definition was set aside under `key`, None if it is something else."""
    original = key[_ASIDE_HEAD:]
    if original.startswith(QUEUES) and len(original) == len(QUEUES) + QUEUE_ID_SIZE:
        return QueueId(original[len(QUEUES) :])
    return None


def harm_key(key: bytes) -> bytes | None:
    """Return where it is noted that the record under `key` was set aside, None if it need not be."""
    at = 1 + PARTITION_ID_SIZE
    letter = key[at : at + 1]
    if key[:1] == COPIES and (letter in _DESCRIBING or key[at:] == _STALE):
        return key[:at] + HARM + letter
    return None


def queue_key(queue: QueueId) -> bytes:
    """Where a queue's definition is."""
    return QUEUES + queue


def queue_range(queue: QueueId) -> tuple[bytes, bytes]:
    """Everything of all partitions of a queue: the first key, and one behind the last."""
    prefix = COPIES + queue
    end = (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")
    return prefix, end


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """Makes and reads the keys of one partition."""

    prefix: bytes

    @classmethod
    def of(cls, partition: PartitionId) -> PartitionKeys:
        """Return the keys of `partition`."""
        return cls(COPIES + partition)

    def batch(self, log: LogId, first: int) -> bytes:
        return self.prefix + b"b" + log + _U64.pack(first)

    def fence(self, log: LogId) -> bytes:
        return self.prefix + b"b" + log + _FENCE

    def batches(self) -> tuple[bytes, bytes]:
        """The range of all batches of all logs."""
        return self.prefix + b"b", self.prefix + b"c"

    def first_seq(self, batch_key: bytes) -> int:
        """Return the seq in a batch's key."""
        return int(_U64.unpack(batch_key[-8:])[0])

    def dead(self, log: LogId, number: int) -> bytes:
        return self.prefix + b"d" + log + _U32.pack(number)

    def log(self, log: LogId) -> bytes:
        return self.prefix + b"l" + log

    def note(self, slot: int) -> bytes:
        return self.prefix + b"n" + _U32.pack(slot)

    def state(self) -> bytes:
        return self.prefix + b"s"

    def harm(self) -> tuple[bytes, bytes]:
        """The range of the notes of what was damaged, see `harm_key`."""
        return self.prefix + HARM, self.prefix + HARM + b"\xff"

    def described(self) -> tuple[bytes, bytes]:
        """The range that describes the partition: dead sets, logs, notes, state."""
        return self.prefix + b"d", self.prefix + b"t"

    def due(self, due: int, log: LogId, first: int) -> bytes:
        return self.prefix + b"t" + _U64.pack(max(0, due)) + log + _U64.pack(first)

    def due_range(self, low: int) -> tuple[bytes, bytes]:
        """The delayed batches due at `low` (ms) or later."""
        return self.prefix + b"t" + _U64.pack(max(0, low)), self.prefix + b"u"

    def read_due(self, key: bytes) -> tuple[int, LogId, int]:
        """Return (due in ms, log, first seq) of a key made by `due`."""
        at = len(self.prefix) + 1
        (due,), (first,) = _U64.unpack(key[at : at + 8]), _U64.unpack(key[-8:])
        return due, LogId(key[at + 8 : at + 8 + LOG_ID_SIZE]), first

    def is_due(self, key: bytes) -> bool:
        """Tell whether `key` was made by `due`, of this partition."""
        at = len(self.prefix)
        return key[: at + 1] == self.prefix + b"t" and len(key) == at + 1 + 16 + LOG_ID_SIZE

    def sent(self, minute: int, name: bytes) -> bytes:
        return self.prefix + b"u" + _U32.pack(minute) + name

    def sent_range(self, minute: int) -> tuple[bytes, bytes]:
        """What was sent in `minute` or later."""
        return self.prefix + b"u" + _U32.pack(max(0, minute)), self.prefix + b"v"

    def read_sent(self, key: bytes) -> tuple[int, bytes]:
        """Return (minute, name) of a key made by `sent`."""
        at = len(self.prefix) + 1
        return int(_U32.unpack(key[at : at + 4])[0]), key[at + 4 :]

    def tail(self, key: bytes) -> tuple[bytes, bytes]:
        """Split a key of this partition into its letter and what follows."""
        at = len(self.prefix)
        return key[at : at + 1], key[at + 1 :]


assert PARTITION_ID_SIZE == 10, "the drawing above says how long a partition id is"
