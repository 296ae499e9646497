"""Whole, torn and damaged logs are told apart, for logs that LevelDB itself wrote."""

from __future__ import annotations

import os
from pathlib import Path

import plyvel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import logfile
from storage.logfile import BLOCK, State, contents, inspect, readable


def written(directory: Path, sizes: list[int]) -> bytes:
    db = plyvel.DB(os.fspath(directory), create_if_missing=True, write_buffer_size=64 << 20)
    for number, size in enumerate(sizes):
        db.put(b"%d" % number, os.urandom(size))
    db.close()
    (log,) = directory.glob("*.log")
    return log.read_bytes()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Records of all sizes: in one block, over many, and so that padding is needed."""
    return written(tmp_path_factory.mktemp("log"), [10, 0, 1000, 100_000, 7, *[30_000, 2_700] * 3, 50])


def test_what_leveldb_wrote_is_whole(log: bytes) -> None:
    assert len(log) > 5 * BLOCK
    assert inspect(log) == (State.WHOLE, len(log))
    assert inspect(b"") == (State.WHOLE, 0)


@pytest.mark.parametrize("size", range(32_720, 32_770, 3))
def test_padding_at_the_end_of_a_block_is_understood(tmp_path: Path, size: int) -> None:
    assert inspect(written(tmp_path, [size, 10])).state is State.WHOLE


@given(st.data())
def test_a_flipped_bit_is_damage_wherever_it_is(log: bytes, data: st.DataObject) -> None:
    raw = bytearray(log)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    found = inspect(bytes(raw))
    # Padding, at most 6 zeros, means nothing and nobody reads it.
    padding = log[bit // 8 : bit // 8 + BLOCK - bit // 8 % BLOCK]
    if found.state is State.WHOLE:
        assert len(padding) <= 6
        assert not padding.strip(b"\x00")
    else:
        assert found.state is State.DAMAGED
        assert found.at <= bit // 8


@given(st.data())
def test_what_was_cut_short_is_torn_or_whole(log: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(log)))
    assert inspect(log[:cut]).state in (State.TORN, State.WHOLE)
    assert inspect(log[:cut] + bytes(data.draw(st.integers(0, 5000)))).state is not State.DAMAGED or cut


def test_zeros_at_the_end_are_a_torn_write(log: bytes) -> None:
    assert inspect(log + bytes(500)).state is State.TORN
    assert inspect(log + bytes(500) + b"x").state is State.DAMAGED


def test_a_log_is_written_as_leveldb_does(log: bytes) -> None:
    writes = list(contents(log))
    assert list(readable(log)) == writes
    assert logfile.written(writes) == log


@pytest.mark.parametrize("size", range(32_720, 32_770, 3))
def test_a_log_is_padded_as_leveldb_does(tmp_path: Path, size: int) -> None:
    raw = written(tmp_path, [size, 10])
    assert logfile.written(readable(raw)) == raw


@given(st.data())
def test_what_lies_before_damage_and_in_later_blocks_is_readable(log: bytes, data: st.DataObject) -> None:
    raw = bytearray(log)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    writes, left = list(contents(log)), list(readable(bytes(raw)))
    assert [write for write in writes if write in left] == left
    lost = [write for write in writes if write not in left]
    if lost:  # one after the other: those that have a piece in the rest of one block
        at = writes.index(lost[0])
        assert lost == writes[at : at + len(lost)]
        assert len(logfile.written(lost[1:-1])) <= BLOCK
    assert inspect(logfile.written(left)).state is State.WHOLE
