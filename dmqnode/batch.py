"""A batch of messages as one block of bytes: the unit of the wire, of the log record and of a delivery.

Bodies are never decoded between the socket and the disk.  Layout, integers little-endian:

    offset  size
    0       1        format, 1
    1       1        flags: 1 = every body has the same length, 2 = there is metadata
    2       2        zero
    4       4        n, the number of messages, at least 1
    8       4        m, the length of the metadata (0 without flag 2)
    12      4 or 4n  length of every body (flag 1), or of each
    …       m        metadata, CBOR
    …                the bodies, one behind the other

Metadata is a map from a column ("a" attributes, "g" group, "t" time to live in ms from `sent_at`,
"d" dedup id) to [value of most messages, {index: value of this one}]; an absent column is the
default for every message.  So what all messages share is stored once, and the usual batch has none.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import cbor2

from dmqnode.errors import InvalidRequest, ProtocolError
from dmqnode.messages import Blob

FORMAT = 1
UNIFORM = 1
METADATA = 2
MAX_MESSAGES = 65_536
"""Messages in one batch: what a node refuses to take at once bounds what it must hold at once."""
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTES_SIZE = 65_536
MAX_MOVE_ATTRIBUTES = 8
MAX_MOVE_SIZE = 8192
"""What moves to a dead-letter queue may add to a message's attributes."""
MAX_NAME = 256

_HEAD = struct.Struct("<BBHII")
_U32 = struct.Struct("<I")

Column = tuple[Any, dict[int, Any]]
Metadata = dict[str, Column]
_COLUMNS = ("a", "g", "t", "d")
_SWAP = array("I", [1]).tobytes()[0] != 1
assert array("I").itemsize == 4, "dmq needs a platform whose unsigned int has 32 bits"


class Batch:
    """One batch: its bytes, and where each body lies in them.

    Immutable.  `blob` is the whole as it travels; `count` the number of messages; `metadata` the
    columns, empty for most batches; `bytes` the sum of the bodies' lengths.
    """

    __slots__ = ("_base", "_ends", "_length", "_special", "blob", "bytes", "count", "metadata")

    def __init__(
        self, blob: bytes, count: int, length: int | None, ends: Sequence[int], base: int, metadata: Metadata
    ):
        self.blob = Blob(blob)
        self.count = count
        self._length = length
        self._ends = ends
        self._base = base
        self.metadata = metadata
        self._special = any(special for _, special in metadata.values())
        self.bytes = len(blob) - base

    def __len__(self) -> int:
        return self.count

    def span(self, low: int, high: int) -> int:
        """Return how many bytes the bodies of messages low … high - 1 take."""
        return self._end(high) - self._end(low)

    def weight(self, index: int) -> int:
        """Return how many bytes one message takes: its body, and the metadata that is its own."""
        size = self.span(index, index + 1)
        if self._special:
            own = [special[index] for _, special in self.metadata.values() if index in special]
            size += sum(8 + len(cbor2.dumps(value)) for value in own)
        return size

    def fits(self, low: int, high: int, size: int) -> int:
        """Return how far up to `high` messages from `low` on take at most `size` bytes; at least low + 1."""
        high = self._bodies_fit(low, high, size)
        if self._special:
            for h in range(low, high):
                size -= self.weight(h)
                if size < 0 and h > low:
                    return h
        return high

    def _bodies_fit(self, low: int, high: int, size: int) -> int:
        if self._length is not None:
            return min(high, low + max(1, size // self._length)) if self._length else high
        limit, h = self._end(low) + size, low + 1
        while h < high and self._ends[h] <= limit:
            h += 1
        return h

    def _end(self, index: int) -> int:
        if self._length is not None:
            return self._length * index
        return self._ends[index - 1] if index else 0

    def lengths(self, low: int = 0, high: int | None = None) -> array[int]:
        """Return the length of each body, of `low` … `high` - 1."""
        high = self.count if high is None else high
        if self._length is not None:
            return array("I", [self._length]) * (high - low)
        ends = self._ends[low:high]
        return array("I", (b - a for a, b in zip((self._end(low), *ends), ends, strict=False)))

    @property
    def uniform(self) -> int | None:
        """The length of every body, None if they differ."""
        return self._length

    def packed_bodies(self) -> bytes:
        """Return all bodies, one behind the other."""
        return self.blob[self._base :]

    def longest(self) -> int:
        """Return the length of the longest body."""
        return self._length if self._length is not None else max(self.lengths())

    def body(self, index: int) -> bytes:
        """Return the body of one message."""
        return self.blob[self._base + self._end(index) : self._base + self._end(index + 1)]

    def bodies(self) -> list[bytes]:
        """Return the bodies of all messages."""
        blob, base = self.blob, self._base
        if (size := self._length) is not None:
            if size == 0:
                return [b""] * self.count
            return [blob[at : at + size] for at in range(base, len(blob), size)]
        start, out = base, []
        for end in self._ends:
            out.append(blob[start : base + end])
            start = base + end
        return out

    def value(self, column: str, index: int) -> Any:
        """Return what message `index` has in a metadata column, None by default."""
        found = self.metadata.get(column)
        return None if found is None else found[1].get(index, found[0])

    def attributes(self, index: int) -> dict[str, str]:
        """Return a new dict of one message's attributes."""
        return dict(self.value("a", index) or ()) if "a" in self.metadata else {}

    def part(self, low: int, high: int) -> Batch:
        """Return messages low … high - 1 as a batch of their own."""
        if low == 0 and high == self.count:
            return self
        metadata = {
            name: (common, {i - low: v for i, v in special.items() if low <= i < high})
            for name, (common, special) in self.metadata.items()
        }
        start = self._base + self._end(low)
        bodies = self.blob[start : self._base + self._end(high)]
        if self._length is not None:
            return _assemble(array("I", [self._length]), high - low, bodies, metadata, uniform=True)
        return _assemble(self.lengths(low, high), high - low, bodies, metadata, uniform=False)

    def select(self, indices: Sequence[int]) -> Batch:
        """Return the messages at `indices`, in that order, as a batch of their own."""
        metadata: Metadata = {}
        for name, (common, special) in self.metadata.items():
            metadata[name] = (common, {n: special[i] for n, i in enumerate(indices) if i in special})
        bodies = [self.body(i) for i in indices]
        return _assemble(array("I", map(len, bodies)), len(bodies), b"".join(bodies), metadata, uniform=False)


def encode(bodies: Sequence[bytes], metadata: Metadata | None = None) -> Batch:
    """Make a batch.

    Arguments:
        bodies: 1 … MAX_MESSAGES bodies.
        metadata: columns as in the module's description, each (common value, {index: value}).
    """
    lengths = array("I", map(len, bodies))
    return _assemble(lengths, len(bodies), b"".join(bodies), metadata or {}, uniform=False)


def encode_rows(rows: Sequence[tuple[bytes, dict[str, Any]]]) -> Batch:
    """Make a batch of (body, {column: value}) rows, whatever they share stored once.

    The most usual case, rows whose columns are all equal, is found without building a table.
    """
    first = rows[0][1]
    names = {name for _, columns in rows for name in columns} if len(rows) > 1 else set(first)
    metadata: Metadata = {}
    for name in sorted(names):
        common = first.get(name)
        special = {i: c.get(name) for i, (_, c) in enumerate(rows) if c.get(name) != common}
        metadata[name] = (common, special)
    return encode([body for body, _ in rows], metadata)


def merge(batches: Sequence[Batch]) -> Batch:
    """Join batches into one, in order; for what meets in one group commit."""
    if len(batches) == 1:
        return batches[0]
    metadata: Metadata = {}
    if any(b.metadata for b in batches):
        metadata = _merge_metadata(batches)
    bodies = b"".join([b.packed_bodies() for b in batches])
    count = sum(b.count for b in batches)
    size = batches[0].uniform
    if size is not None and all(b.uniform == size for b in batches):
        return _assemble(array("I", [size]), count, bodies, metadata, uniform=True)
    lengths = array("I")
    for b in batches:
        lengths.extend(b.lengths())
    return _assemble(lengths, count, bodies, metadata, uniform=False)


def _merge_metadata(batches: Iterable[Batch]) -> Metadata:
    rows: dict[str, dict[int, Any]] = {}
    offset = 0
    for b in batches:
        for name in b.metadata:
            column = rows.setdefault(name, {})
            for i in range(b.count):
                if (value := b.value(name, i)) is not None:
                    column[offset + i] = value
        offset += b.count
    return {name: (None, column) for name, column in rows.items()}


def _assemble(lengths: array[int], count: int, bodies: bytes, metadata: Metadata, *, uniform: bool) -> Batch:
    if not uniform:
        size = lengths[0]
        if count == 1 or (size * count == len(bodies) and lengths.count(size) == count):
            lengths, uniform = lengths[:1], True
    kept = {name: column for name, column in metadata.items() if column[0] is not None or column[1]}
    packed = cbor2.dumps(kept) if kept else b""
    table = _little(lengths).tobytes()
    flags = (UNIFORM if uniform else 0) | (METADATA if kept else 0)
    blob = b"".join((_HEAD.pack(FORMAT, flags, 0, count, len(packed)), table, packed, bodies))
    base = _HEAD.size + len(table) + len(packed)
    if uniform:
        return Batch(blob, count, lengths[0], (), base, kept)
    return Batch(blob, count, None, array("Q", accumulate(lengths)), base, kept)


def _little(numbers: array[int]) -> array[int]:
    if _SWAP:
        numbers = numbers[:]
        numbers.byteswap()
    return numbers


def parse(blob: bytes) -> Batch:
    """Read a batch, checking everything that its later use relies on.

    Errors: ProtocolError for bytes that are not a batch.
    """
    try:
        format_, flags, zero, count, packed = _HEAD.unpack_from(blob)
    except struct.error:
        raise ProtocolError(f"a batch of {len(blob)} bytes has no whole header") from None
    if format_ != FORMAT or zero or flags & ~(UNIFORM | METADATA):
        raise ProtocolError(f"batch format {format_} with flags {flags:#x} is not known")
    if not 1 <= count <= MAX_MESSAGES:
        raise ProtocolError(f"a batch of {count} messages is outside 1..{MAX_MESSAGES}")
    table = 4 if flags & UNIFORM else 4 * count
    base = _HEAD.size + table + packed
    if base > len(blob) or bool(packed) != bool(flags & METADATA):
        raise ProtocolError("a batch is shorter than its header says")
    metadata = _read_metadata(blob[base - packed : base], count) if packed else {}
    if flags & UNIFORM:
        (size,) = _U32.unpack_from(blob, _HEAD.size)
        if size * count != len(blob) - base:
            raise ProtocolError("the bodies of a batch do not have the length that its header says")
        return Batch(blob, count, size, (), base, metadata)
    lengths = array("I")
    lengths.frombytes(blob[_HEAD.size : _HEAD.size + table])
    ends = array("Q", accumulate(_little(lengths)))
    if ends[-1] != len(blob) - base:
        raise ProtocolError("the bodies of a batch do not have the lengths that its header says")
    return Batch(blob, count, None, ends, base, metadata)


def _read_metadata(packed: bytes, count: int) -> Metadata:
    try:
        columns = cbor2.loads(packed)
    # What the library raises depends on its version and on the tag that was abused.
    except (
        cbor2.CBORDecodeError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        RecursionError,
    ) as error:
        raise ProtocolError(f"the metadata of a batch is not CBOR: {error}") from error
    if not isinstance(columns, dict):
        raise ProtocolError("the metadata of a batch is not a map")
    metadata: Metadata = {}
    unfolded = 0
    for name, column in columns.items():
        if name not in _COLUMNS:
            raise ProtocolError(f"metadata column {name!r} is not known")
        if not (isinstance(column, list | tuple) and len(column) == 2 and isinstance(column[1], dict)):
            raise ProtocolError(f"metadata column {name!r} is not [value, map]")
        common, special = column
        if not all(type(i) is int and 0 <= i < count for i in special):
            raise ProtocolError(f"metadata column {name!r} speaks of messages that the batch does not have")
        for value in (common, *special.values()):
            unfolded += _check_value(name, value)
        metadata[name] = (common, special)
    if unfolded > len(packed):
        # Shared values: a few bytes would become gigabytes where the batch is cut or joined.
        raise ProtocolError("the metadata of a batch refers to one value more than once")
    return metadata


def _check_value(name: str, value: Any) -> int:
    """Check one value; return how many characters of text it holds."""
    if value is None:
        return 0
    if name == "a":
        if not isinstance(value, dict) or not all(
            type(k) is str and type(v) is str for k, v in value.items()
        ):
            raise ProtocolError("attributes are not a map from text to text")
        size = sum(len(k) + len(v) for k, v in value.items())
        if len(value) > MAX_ATTRIBUTES + MAX_MOVE_ATTRIBUTES or size > MAX_ATTRIBUTES_SIZE + MAX_MOVE_SIZE:
            raise ProtocolError(f"a message has {len(value)} attributes of {size} characters: too many")
        return size
    if name == "t":
        if type(value) is not int or not 0 < value < 2**53:
            raise ProtocolError("a time to live is not a positive number of milliseconds")
        return 0
    if type(value) is not str or not 0 < len(value) <= MAX_NAME:
        raise ProtocolError(f"a group or dedup id is not a text of 1..{MAX_NAME} characters")
    return len(value)


def check_attributes(batch: Batch) -> None:
    """Check the attributes that a user gave against the limits; those of a move (`dmq.…`) do not count.

    Errors: InvalidRequest.
    """
    if "a" not in batch.metadata:
        return
    common, special = batch.metadata["a"]
    for attributes in (common, *special.values()):
        own = {k: v for k, v in (attributes or {}).items() if not k.startswith("dmq.")}
        if len(own) > MAX_ATTRIBUTES:
            raise InvalidRequest(f"a message has {len(own)} attributes; the limit is {MAX_ATTRIBUTES}")
        size = sum(len(k) + len(v) for k, v in own.items())
        if size > MAX_ATTRIBUTES_SIZE:
            raise InvalidRequest(
                f"the attributes of a message have {size} characters; the limit is {MAX_ATTRIBUTES_SIZE}"
            )
