"""Which lines of a trace concern one message, and what they have to do with it.

A message is known by its body, and by its ids once it has some; these are learned from the trace, where a
batch with its body is written or handed over.  So a trace is to be read from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dmqnode.copying import VOID, decode_ops
from dmqnode.ids import LOG_ID_SIZE, PARTITION_ID_SIZE
from dmqnode.keys import DEBTS
from dmqnode.messages import Message, Record
from dmqnode.peer_messages import Align, Answer, Fetch, Fill, Filled, Forward, Keep, Offer, Ship, Summary
from dmqnode.ranges import RangeSet
from dmqnode.records import decode_note
from dmqnode.smallrows import decode_rows
from dmqnode.wire import decode
from tests.simulation.damage import numbers_in

Id = tuple[bytes, int]
Row = tuple[bytes, bytes | None]
PREFIX = 1 + PARTITION_ID_SIZE
"""Bytes before the letter in the key of a partition's record, and before the log in that of a debt."""


class Written(tuple[Row, ...]):
    """What one write puts and deletes."""

    __slots__ = ()


class Numbers(list[int]):
    """Messages of which a line speaks, by their numbers."""


class Concern:
    """One message, and what a trace has told of it so far.

    Arguments:
        number: the first six bytes of its body say the same.
        body: of it.
        ids: under which it is known to go.
    """

    def __init__(self, number: int, body: bytes, ids: Iterable[Id] = ()) -> None:
        self._number = number
        self._body = body
        self._ids = set(ids)
        self._batches: set[Id] = set()
        """The ids of the first messages of the batches that it is in."""
        self._dead: set[tuple[Any, Id]] = set()
        """Who was told of which of its ids that it is dead: dead sets say so ever again."""

    def why(self, line: tuple[Any, ...]) -> str:
        """Return what a line has to do with the message; empty: nothing."""
        where, what = line[1:-1], line[-1]
        if isinstance(what, Numbers):
            return "it" if self._number in what else ""
        if isinstance(what, Written):
            rows = [(key[PREFIX:], value) for key, value in what if key[:1] == b"p"]
            owed = [(b"b" + key[PREFIX:], value) for key, value in what if key[:1] == DEBTS]
            return self._rows(where, rows + owed)
        return self._said(where, what) if isinstance(what, Message) else ""

    # --- what is said --------------------------------------------------------------------------------

    def _said(self, where: Any, message: Message) -> str:
        match message:
            case Forward():
                return self._named(decode(message.request)[1])
            case Answer():
                return self._named(decode(message.answer)[1])
            case Ship():
                return self._rows(where, [row for entry in message.entries for row in decode_ops(entry.ops)])
            case Summary() | Align():
                return self._rows(where, decode_rows(message.rows).items())
            case Fetch() | Fill() | Filled():
                wanted = any(log == message.log and message.low <= n < message.high for log, n in self._ids)
                return "of its place" if wanted else self._named(message)
            case Keep() | Offer():
                for debt in message.debt if isinstance(message, Keep) else message.debts:
                    self._learn(debt.log, debt.first, debt.record)
        return self._named(message)

    def _named(self, value: Any) -> str:
        """Tell whether its body or its id is somewhere in a value."""
        if isinstance(value, bytes):
            return "its body" if self._body in value else ""
        if isinstance(value, Record):
            value = value.values()
        if not isinstance(value, list | tuple):
            return ""
        if any(self._covers(*pair) for pair in zip(value, [*value[1:], None], [*value[2:], None, None])):
            return "its id"
        return next((why for item in value if (why := self._named(item))), "")

    def _covers(self, log: Any, first: Any, count: Any) -> bool:
        """Tell whether this is a place of it: a log, and so many from a seq on, or a whole batch."""
        if not (isinstance(log, bytes) and len(log) == LOG_ID_SIZE and isinstance(first, int)):
            return False
        if not isinstance(count, int):
            return (log, first) in self._batches | self._ids
        return any(own == log and first <= seq < first + count for own, seq in self._ids)

    # --- what is written -----------------------------------------------------------------------------

    def _rows(self, where: Any, rows: Iterable[Row]) -> str:
        """Take in records of partitions by their keys without a prefix; return what they say of it."""
        found = [self._row(where, key[:1], key[1:], value) for key, value in rows]
        return ", ".join(dict.fromkeys(filter(None, found)))

    def _row(self, where: Any, letter: bytes, key: bytes, value: bytes | None) -> str:
        log = key[:LOG_ID_SIZE]
        if letter == b"b" and len(key) == LOG_ID_SIZE + 8:
            first = int.from_bytes(key[-8:], "big")
            if value is None:
                return "deleted" if (log, first) in self._batches else ""
            seq = self._learn(log, first, value)
            return "" if seq is None else f"stored as {log.hex()}-{seq}"
        if letter in (b"d", VOID) and value is not None:
            return self._died(where, log, RangeSet.decode(value))
        if letter == b"n" and value is not None:
            note = decode_note(value)
            if any((s.log, n) in self._ids for s in note.segments for n in range(s.low, s.high)):
                return f"delivery {note.delivery}" if note.delivery else "it waits"
        return ""

    def _learn(self, log: bytes, first: int, record: bytes) -> int | None:
        """A batch is there: return under which seq the message is in it, None if it is not."""
        numbers = numbers_in(record) if self._body in record else []
        if self._number not in numbers:
            return None
        seq = first + numbers.index(self._number)
        self._batches.add((log, first))
        self._ids.add((log, seq))
        return seq

    def _died(self, where: Any, log: bytes, dead: RangeSet) -> str:
        new = {(where, (own, seq)) for own, seq in self._ids if own == log and seq in dead} - self._dead
        self._dead |= new
        return "dead" if new else ""
