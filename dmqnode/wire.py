"""How messages become bytes and bytes messages.

    frame    u32 length of the payload · u32 CRC-32 of the payload · payload      (little-endian)
    payload  u32 length of the head · head · blobs, one behind the other
    head     one CBOR array: [tag, number, field…]

The fields are in the order in which `messages` declares them.  Trailing fields that are at their
default may be absent, and fields behind the known ones are ignored, so a message can grow.  A field
of type `Blob` is in the head as its length; its bytes are among the blobs, in the order of the heads.
Whatever the bytes, reading them gives messages or `ProtocolError`, nothing else.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import cache
from io import BytesIO
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints
from zlib import crc32

import cbor2

from dmqnode.errors import ProtocolError
from dmqnode.ids import LOG_ID_SIZE, PARTITION_ID_SIZE, LogId, PartitionId
from dmqnode.messages import BY_TAG, Blob, Message, Record

MAGIC = b"DMQ\x01"
"""What the side that dialled writes before its first frame."""
FRAME_HEAD = 8
MAX_FRAME = 16 << 20
"""The longest payload that a side reads, unless it says otherwise in Hello or Welcome."""
SMALL_PIECE = 4 << 10
LARGE_PIECE = 64 << 10
MAX_INTEGER = 2**63 - 1

_FRAME = struct.Struct("<II")
_U32 = struct.Struct("<I")
_HEADS = struct.Struct("<III")

Read = Callable[[Any, "_Blobs"], Any]
"""Turns what CBOR gave for a field into the field's value, or raises ProtocolError."""


# --- writing ---------------------------------------------------------------------------------------------


def encode(number: int, message: Message) -> list[bytes]:
    """Return one frame in pieces; the blobs are passed on uncopied.

    Arguments:
        number: of the request that this is, or is the answer to; 0 for neither.
        message: any protocol message.
    """
    start, blobs = _encode(number, message)
    length, checksum = len(start), crc32(start)
    for blob in blobs:
        length += len(blob)
        checksum = crc32(blob, checksum)
    return [_FRAME.pack(length, checksum) + start, *blobs]


def encode_payload(number: int, message: Message) -> bytes:
    """Return one frame's payload, for messages that travel inside another."""
    start, blobs = _encode(number, message)
    return b"".join((start, *blobs))


def _encode(number: int, message: Message) -> tuple[bytes, list[bytes]]:
    fields = message.values()
    blobs: list[bytes] = []
    for at, write in _shape(type(message)).writers:
        fields[at] = write(fields[at], blobs)
    head = cbor2.dumps([message.TAG, number, *fields])
    return _U32.pack(len(head)) + head, blobs


def _write_blob(blob: bytes, blobs: list[bytes]) -> int:
    blobs.append(blob)
    return len(blob)


def _write_records(records: list[Record], blobs: list[bytes]) -> list[list[Any]]:
    out = []
    for record in records:
        fields = record.values()
        for at, write in _shape(type(record)).writers:
            fields[at] = write(fields[at], blobs)
        out.append(fields)
    return out


# --- reading ---------------------------------------------------------------------------------------------


class FrameReader:
    """Cuts a stream of bytes into the payloads of frames, whatever the pieces it comes in.

    Arguments:
        max_frame: the longest payload to accept, bytes.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self.max_frame = max_frame
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = FRAME_HEAD

    @property
    def held(self) -> int:
        """How many bytes of a frame have come that is not whole yet."""
        return self._size if self._pieces else 0

    def feed(self, data: bytes) -> list[memoryview]:
        """Take the next bytes and return every payload that is now whole, its checksum verified.

        Errors: ProtocolError for a frame that is too long or damaged.
        """
        if self._pieces:
            # The pieces of a long frame are joined once, when it is whole.
            if len(data) < SMALL_PIECE and len(self._pieces[-1]) < LARGE_PIECE:
                # A frame that trickles in would otherwise take many times its size.
                self._pieces[-1] += data
            else:
                self._pieces.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        view, at, end = memoryview(data), 0, len(data)
        payloads = []
        self._wanted = FRAME_HEAD
        while end - at >= FRAME_HEAD:
            length, checksum = _FRAME.unpack_from(data, at)
            if length > self.max_frame:
                raise ProtocolError(f"a frame of {length} bytes came; the limit is {self.max_frame}")
            if end - at < FRAME_HEAD + length:
                self._wanted = FRAME_HEAD + length
                break
            at += FRAME_HEAD
            payload = view[at : at + length]
            if crc32(payload) != checksum:
                raise ProtocolError("a frame came damaged: its checksum does not match")
            payloads.append(payload)
            at += length
        if at < end:
            self._pieces = [data[at:]]
            self._size = end - at
        return payloads


def decode(payload: memoryview | bytes) -> tuple[int, Message]:
    """Read one payload; return the request number and the message.

    Errors: ProtocolError for bytes that are not a known message with fields of the right types.
    """
    view = memoryview(payload)
    if len(view) < 4:
        raise ProtocolError("a frame is too short for the length of its head")
    (size,) = _U32.unpack_from(view)
    if size > len(view) - 4:
        raise ProtocolError("the head of a frame is longer than the frame")
    head = _read_head(bytes(view[4 : 4 + size]))
    if len(head) < 2 or type(head[0]) is not int or type(head[1]) is not int:
        raise ProtocolError("the head of a frame does not begin with a tag and a number")
    cls = BY_TAG.get(head[0])
    if cls is None:
        raise ProtocolError(f"message tag {head[0]} is not known")
    if not 0 <= head[1] <= MAX_INTEGER:
        raise ProtocolError("a request number is out of range")
    blobs = _Blobs(view, 4 + size)
    message = cls(*_shape(cls).read(head[2:], blobs))
    if blobs.at != len(view):
        raise ProtocolError(f"a {cls.__name__} frame has bytes that none of its fields accounts for")
    return head[1], message


def _read_head(head: bytes) -> list[Any]:
    stream = BytesIO(head)
    try:
        value = cbor2.CBORDecoder(stream).decode()
    # What the library raises depends on its version and on the tag that was abused.
    except (
        cbor2.CBORDecodeError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        RecursionError,
    ) as error:
        raise ProtocolError(f"the head of a frame is not CBOR: {error}") from error
    if stream.tell() != len(head):
        raise ProtocolError("the head of a frame is longer than the value in it")
    if type(value) is not list:
        raise ProtocolError("the head of a frame is not an array")
    return value


class _Blobs:
    """The blobs of one frame, taken in order."""

    __slots__ = ("at", "view")

    def __init__(self, view: memoryview, at: int) -> None:
        self.view = view
        self.at = at

    def take(self, size: Any) -> Blob:
        """Return the next `size` bytes."""
        if type(size) is not int or not 0 <= size <= len(self.view) - self.at:
            raise ProtocolError("a blob is longer than the frame that should hold it")
        self.at += size
        return Blob(bytes(self.view[self.at - size : self.at]))


class _Shape:
    """How the fields of one class are written and read, found once from its annotations."""

    def __init__(self, cls: type[Record]) -> None:
        hints = get_type_hints(cls)
        types = [hints[name] for name in cls.FIELDS]
        self._name = cls.__name__
        self._names = cls.FIELDS
        self._reads = [_reader(t) for t in types]
        self._required = len(types) - len(cls.DEFAULTS)
        self.writers = [(at, write) for at, t in enumerate(types) if (write := _writer(t)) is not None]

    def read(self, values: list[Any], blobs: _Blobs) -> list[Any]:
        """Return the checked fields, as many as are present and known."""
        if len(values) < self._required:
            raise ProtocolError(
                f"a {self._name} has {len(values)} fields, at least {self._required} are needed"
            )
        at = blobs.at
        try:
            return [read(value, blobs) for read, value in zip(self._reads, values)]
        except ProtocolError:
            blobs.at = at
            self._complain(values, blobs)
            raise

    def _complain(self, values: list[Any], blobs: _Blobs) -> None:
        """Name the field that is wrong.  Errors: ProtocolError."""
        for name, read, value in zip(self._names, self._reads, values):
            try:
                read(value, blobs)
            except ProtocolError as error:
                raise ProtocolError(f"{self._name}.{name}: {error}") from None


@cache
def _shape(cls: type[Record]) -> _Shape:
    return _Shape(cls)


def _writer(hint: Any) -> Callable[[Any, list[bytes]], Any] | None:
    if hint is Blob:
        return _write_blob
    element = get_args(hint)[0] if get_origin(hint) is list else None
    return _write_records if isinstance(element, type) and issubclass(element, Record) else None


# --- the types of fields ---------------------------------------------------------------------------------


def _reader(hint: Any) -> Read:
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        (inner,) = (a for a in args if a is not NoneType)
        read = _reader(inner)
        return lambda value, blobs: None if value is None else read(value, blobs)
    if origin is list:
        return _reader_of_list(args[0])
    if origin is tuple:
        return _reader_of_tuple(args)
    if isinstance(hint, type) and issubclass(hint, Record):
        return lambda value, blobs: hint(*_shape(hint).read(_read_list(value, blobs), blobs))
    return _PLAIN[hint if origin is None else origin]


def _reader_of_list(hint: Any) -> Read:
    read = _reader(hint)

    def read_all(value: Any, blobs: _Blobs) -> list[Any]:
        return [read(v, blobs) for v in _read_list(value, blobs)]

    return read_all


def _reader_of_tuple(hints: tuple[Any, ...]) -> Read:
    reads = [_reader(h) for h in hints]

    def read_tuple(value: Any, blobs: _Blobs) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(reads):
            raise ProtocolError(f"an array of {len(reads)} values is expected")
        return tuple([read(v, blobs) for read, v in zip(reads, value)])

    return read_tuple


def _read_list(value: Any, _: _Blobs) -> list[Any]:
    if type(value) is not list:
        raise ProtocolError("an array is expected")
    return value


def _read_integer(value: Any, _: _Blobs) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise ProtocolError("an integer within 0 and 2^63 - 1 is expected")
    return value


def _read_number(value: Any, _: _Blobs) -> float:
    if type(value) is int and -MAX_INTEGER <= value <= MAX_INTEGER:
        return float(value)
    if type(value) is not float or not math.isfinite(value):
        raise ProtocolError("a finite number is expected")
    return value


def _read_exactly(cls: type, what: str) -> Read:
    def read(value: Any, _: _Blobs) -> Any:
        if type(value) is not cls:
            raise ProtocolError(f"{what} is expected")
        return value

    return read


def _read_id(size: int) -> Read:
    def read(value: Any, _: _Blobs) -> bytes:
        if type(value) is not bytes or len(value) != size:
            raise ProtocolError(f"an id of {size} bytes is expected")
        return value

    return read


def _read_map(value: Any, blobs: _Blobs) -> dict[str, Any]:
    if type(value) is not dict:
        raise ProtocolError("a map is expected")
    # Values may be shared inside CBOR, so that few bytes unfold to many values: count them.
    left = len(blobs.view)
    found: list[Any] = [value]
    while found:
        left -= 1
        if left < 0:
            raise ProtocolError("a map has more values than its frame has bytes")
        inner = found.pop()
        if type(inner) is dict:
            _check(all(type(key) is str for key in inner), "a map has a key that is not a text")
            found.extend(inner.values())
        elif type(inner) is list:
            found.extend(inner)
        elif type(inner) is int:
            _check(-MAX_INTEGER <= inner <= MAX_INTEGER, "an integer in a map is out of range")
        elif type(inner) is float:
            _check(math.isfinite(inner), "a number in a map is not finite")
        elif type(inner) not in _VALUES:
            raise ProtocolError(
                f"a map has a value of a type that does not belong there: {type(inner).__name__}"
            )
    return value


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise ProtocolError(sentence)


_VALUES = (NoneType, bool, str, bytes)
_PLAIN: dict[Any, Read] = {
    int: _read_integer,
    float: _read_number,
    str: _read_exactly(str, "a text"),
    bytes: _read_exactly(bytes, "a byte string"),
    bool: _read_exactly(bool, "true or false"),
    dict: _read_map,
    Blob: lambda value, blobs: blobs.take(value),
    LogId: _read_id(LOG_ID_SIZE),
    PartitionId: _read_id(PARTITION_ID_SIZE),
}
