"""Records, there and back; and those that FORMAT 1 wrote, which every later release must read.

The files in golden/ are never edited: a changed record gets a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode import records
from dmqnode.batch import Batch, encode, encode_rows
from dmqnode.errors import ProtocolError
from dmqnode.ids import LogId, NodeId
from dmqnode.records import Identity, Note, NotedSegment, State, Unreadable

GOLDEN = Path(__file__).parent / "golden"
LOG, OTHER = LogId(b"L" * 20), LogId(b"M" * 20)
BATCH = encode_rows(
    [
        (b"first", {"a": {"k": "v"}, "g": "group"}),
        (b"", {"t": 1500, "d": "once"}),
        (b"\xff" * 3, {}),
    ]
)
STATE = State(1234, 5000, 7, {LOG: 9, OTHER: 0}, [(LOG, 1, 4)], 1_700_000_000_000)
NOTE = Note(
    5,
    77,
    1_700_000_000_500,
    "worker",
    [NotedSegment(LOG, 0, 9, 400, 12, 0, 2, 5, 3, None), NotedSegment(OTHER, 4, 1, 90, 13, 99, 4, 5, 1, "g")],
)
IDENTITY = Identity(NodeId(b"node-id1"), 3, 0xDEADBEEF)
RECORDS: dict[str, tuple[bytes, Any, Any]] = {
    "identity": (
        records.encode_identity(IDENTITY, b"c" * 16),
        records.decode_identity,
        (IDENTITY, b"c" * 16),
    ),
    "log": (records.encode_log(12, delayed=True), records.decode_log, (12, True, None)),
    "log-closed": (records.encode_log(12, delayed=False, end=9), records.decode_log, (12, False, 9)),
    "state": (records.encode_state(STATE), records.decode_state, STATE),
    "note": (records.encode_note(NOTE), records.decode_note, NOTE),
    "due": (records.encode_due(3, 12, 400), records.decode_due, (3, 12, 400)),
}


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_format_1_are_read(name: str) -> None:
    _, decode, meaning = RECORDS[name]
    assert decode(golden(name)) == meaning


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_written_is_read(name: str) -> None:
    record, decode, meaning = RECORDS[name]
    assert decode(record) == meaning


def rows_of(batch: Batch) -> list[tuple[bytes, list[Any]]]:
    return [(body, [batch.value(c, n) for c in "agtd"]) for n, body in enumerate(batch.bodies())]


def test_a_batch_of_format_1_is_read() -> None:
    sent_at, due, batch = records.decode_batch(golden("batch"))
    assert (sent_at, due) == (1_700_000_000_000, 1_700_000_060_000)
    assert rows_of(batch) == rows_of(BATCH)
    assert records.read_batch_head(golden("batch")) == (due, 3)
    assert records.read_sent_at(golden("batch")) == sent_at


@given(
    bodies=st.lists(st.binary(max_size=20), min_size=1, max_size=8),
    sent_at=st.integers(0, 2**63),
    due=st.integers(0, 2**63),
)
def test_batches_come_back_as_they_came(bodies: list[bytes], sent_at: int, due: int) -> None:
    record = records.encode_batch(sent_at, due, encode(bodies))
    found = records.decode_batch(record)
    assert (found[0], found[1], found[2].bodies()) == (sent_at, due, bodies)
    assert records.read_batch_head(record) == (due, len(bodies))


@given(at=st.integers(0, 1000), junk=st.binary(max_size=40))
def test_half_a_batch_is_unreadable(at: int, junk: bytes) -> None:
    record = records.encode_batch(1, 0, BATCH)
    for broken in (record[: at % len(record)], b"\2" + record[1:], b"\1" + junk):
        with pytest.raises(Unreadable):
            records.decode_batch(broken)
    with pytest.raises(ProtocolError):
        records.read_batch_head(record[: at % records.BATCH_HEAD])
