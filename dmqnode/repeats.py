"""What copies say of recent sends, and which messages of one copy only repeat those of another.

A send whose outcome a client did not learn may lie in two logs: in that of a leader that could not tell
anybody any more, and, repeated, in that of the next, or of whoever stood in.  Of the two the one survives
that the copy which followed furthest knows; the other dies before anybody is given it (C5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import cbor2

from dmqnode.dedup import WINDOW_MINUTES, Runs, overlaps
from dmqnode.errors import ProtocolError
from dmqnode.ids import LogId
from dmqnode.ranges import RangeSet

_NAME = 5
"""Where in the key of a row its name begins: behind u and the minute."""


class Known(NamedTuple):
    """One send that a copy remembers: by its producer and sequence, or by a dedup id."""

    producer: bytes
    sequence: int
    name: str | None
    runs: Runs
    kept: bool = False
    """Whether a stand-in had taken it in."""


def sends_in(rows: Mapping[bytes, bytes]) -> Iterator[tuple[int, Known]]:
    """Yield what small records say of sends: (minute, send).  Errors: ProtocolError."""
    for key, record in rows.items():
        if key[:1] != b"u":
            continue
        minute, name = int.from_bytes(key[1:_NAME], "big"), key[_NAME:]
        if name[:1] == b"p":
            _, runs, _, kept = read_producer(record)
            for sequence, places in runs.items():
                yield minute, Known(name[1:], sequence, None, places)
            for sequence, places in kept.items():
                yield minute, Known(name[1:], sequence, None, places, kept=True)
        else:
            for text, log, seq in _loaded(record):
                yield minute, Known(b"", 0, text, [(LogId(bytes(log)), seq, 1)])


class Repeats:
    """The sends that some copies know, to be asked which messages of further copies are repetitions."""

    def __init__(self) -> None:
        self._places: dict[tuple[bytes, int, str | None], list[tuple[int, Runs]]] = {}
        """Where, and in which minute, copies say that a send went: each of these places was judged by whoever
        wrote it down."""
        self._told: dict[bytes, RangeSet] = {}

    def elsewhere(self, rows: Mapping[bytes, bytes]) -> list[Runs]:
        """Return where sends went, as copies before say, that this one knows elsewhere."""
        return [
            runs
            for minute, sent in sends_in(rows)
            for at, runs in self._places.get((sent.producer, sent.sequence, sent.name), [])
            if runs != sent.runs and (sent.name is None or abs(at - minute) <= WINDOW_MINUTES)
        ]

    def learn(
        self,
        rows: Mapping[bytes, bytes],
        extra: Mapping[LogId, RangeSet],
        lacking: Mapping[LogId, RangeSet],
    ) -> list[tuple[LogId, int, int]]:
        """Take in what one more copy says.

        Arguments:
            rows: its small records.
            extra: messages that it has and those before it did not know.
            lacking: messages that those before it knew of, and did not have: they may be owed.

        Returns which of these repeat what the others have.  Errors: ProtocolError.
        """
        void: list[tuple[LogId, int, int]] = []
        mine = list(sends_in(rows))
        for minute, sent in mine:
            told = sent.name is None and sent.sequence in self._told.get(sent.producer, RangeSet())
            known = [
                runs
                for at, runs in self._places.get((sent.producer, sent.sequence, sent.name), [])
                # Under a dedup id of long ago comes what is meant to be another message.
                if sent.name is None or abs(at - minute) <= WINDOW_MINUTES
            ]
            if sent.runs not in known and (known or told):
                # That a send was told does not say that this is not the place where it went.
                elsewhere = bool(known) and not any(overlaps(lacking, runs) for runs in known)
                for among in (extra, lacking) if elsewhere else (extra,):
                    for log, first, count in sent.runs:
                        pieces = among[log].within(first, first + count) if log in among else []
                        places = (run for runs in known for run in runs)
                        both = RangeSet((a, a + n) for at, a, n in places if at == log)
                        void += [(log, a, b) for low, high in pieces for a, b in both.gaps(low, high)]
        # Of two places that one copy shows, its leader has marked one dead: neither judges the other here.
        for minute, sent in mine:
            place = (minute, sent.runs)
            self._places.setdefault((sent.producer, sent.sequence, sent.name), []).append(place)
        for key, record in rows.items():
            if key[:1] == b"u" and key[_NAME : _NAME + 1] == b"p":
                known_told = self._told.setdefault(key[_NAME + 1 :], RangeSet())
                for low, high in read_producer(record)[2]:
                    known_told.add(low, high)
        return void


def without(rows: Mapping[bytes, bytes], void: Mapping[LogId, RangeSet]) -> dict[bytes, bytes]:
    """Return rows of recent sends without the places that are dead because they repeat others.

    Errors: ProtocolError.
    """

    def dead(runs: Runs) -> bool:
        return overlaps(void, runs)

    out: dict[bytes, bytes] = {}
    for key, record in rows.items():
        if key[:1] != b"u":
            out[key] = record
        elif key[_NAME : _NAME + 1] == b"p":
            floor, runs, told, kept = read_producer(record)
            left = [{n: places for n, places in found.items() if not dead(places)} for found in (runs, kept)]
            out[key] = cbor2.dumps([floor, left[0], told.encode(), left[1]])
        else:
            names = [n for n in _loaded(record) if not dead([(LogId(bytes(n[1])), n[2], 1)])]
            out[key] = cbor2.dumps(names)
    return out


def read_producer(record: bytes) -> tuple[int, dict[int, Runs], RangeSet, dict[int, Runs]]:
    """Read a producer's row: floor, where unsettled sends went, which others were told, which were kept.

    Errors: ProtocolError.
    """
    try:
        floor, found, *rest = _loaded(record)
        told = RangeSet.decode(rest[0]) if rest else RangeSet()
        return floor, _runs(found), told, _runs(rest[1]) if rest else {}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ProtocolError(f"what a copy says of a producer cannot be read: {error}") from error


def _runs(found: dict[int, list[Any]]) -> dict[int, Runs]:
    return {n: [(LogId(bytes(a)), b, c) for a, b, c in places] for n, places in found.items()}


def _loaded(record: bytes) -> Any:
    try:
        return cbor2.loads(record)
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise ProtocolError(f"what a copy says of recent sends is not CBOR: {error}") from error


def join_rows(key: bytes, a: bytes, b: bytes) -> bytes:
    """Return one row of what two copies say under a key; where both know a send, `a` holds.

    Errors: ProtocolError.
    """
    if key[_NAME : _NAME + 1] != b"p":
        names = {text: (log, seq) for found in (b, a) for text, log, seq in _loaded(found)}
        return cbor2.dumps([[text, log, seq] for text, (log, seq) in names.items()])
    floor_a, runs_a, told_a, kept_a = read_producer(a)
    floor_b, runs_b, told_b, kept_b = read_producer(b)
    for low, high in told_b:
        told_a.add(low, high)
    return cbor2.dumps([max(floor_a, floor_b), {**runs_b, **runs_a}, told_a.encode(), {**kept_b, **kept_a}])
