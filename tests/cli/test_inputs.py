"""Reading bodies and lines."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import inputs
from cli.inputs import Source, opened, read_file, stdin
from dmqnode.errors import LimitExceeded, UsageError


def all_lines(source: Source) -> list[bytes]:
    found: list[bytes] = []
    while not source.ended:
        found += source.lines()
    return found


def lines_of(data: bytes) -> list[bytes]:
    descriptor = os.memfd_create("lines")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return all_lines(Source(descriptor, "memory"))
    finally:
        os.close(descriptor)


@given(st.lists(st.binary().map(lambda b: b.replace(b"\n", b""))))
def test_lines_come_as_they_were(found: list[bytes]) -> None:
    assert lines_of(b"".join(line + b"\n" for line in found)) == found


def test_the_last_line_needs_no_newline_and_empty_lines_count() -> None:
    assert lines_of(b"a\n\nb") == [b"a", b"", b"b"]
    assert lines_of(b"\n") == [b""]
    assert lines_of(b"") == []


def test_lines_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK", 3)
    assert lines_of(b"abcdefgh\nij\n\nk") == [b"abcdefgh", b"ij", b"", b"k"]


def test_whoever_writes_slowly_is_not_waited_for() -> None:
    reading, writing = os.pipe()
    source = Source(reading, "pipe")
    os.write(writing, b"one\ntwo\nhalf")
    assert list(source.lines()) == [b"one", b"two"]
    os.write(writing, b" a line\n")
    assert list(source.lines()) == [b"half a line"]
    assert not source.ended
    os.close(writing)
    assert list(source.lines()) == []
    assert source.ended
    os.close(reading)


def test_what_no_node_would_take_is_not_read(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(inputs, "LONGEST", 10)
    monkeypatch.setattr(inputs, "BLOCK", 4)
    with pytest.raises(LimitExceeded, match="line 2 of memory is longer than"):
        lines_of(b"a\n" + b"x" * 100)
    (place / "big").write_bytes(b"x" * 100)
    with pytest.raises(LimitExceeded, match="big is longer than"):
        read_file("big")


def test_files_that_cannot_be_read(place: Path) -> None:
    with pytest.raises(UsageError, match="cannot read none: No such file"):
        read_file("none")
    (place / "directory").mkdir()
    with pytest.raises(UsageError, match="directory"):
        read_file("directory")
    (place / "file").write_bytes(b"content")
    assert read_file("file") == b"content"
    with opened("file") as source:
        assert source.size == 7
        assert source.whole() == b"content"
        assert source.read_bytes == 7


def test_input_that_does_not_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    waits = []

    def wait(*_: object) -> None:
        waits.append(os.write(writing, b"late"))
        os.close(writing)

    monkeypatch.setattr(select, "select", wait)
    assert Source(reading, "pipe").whole() == b"late"
    assert waits == [4]
    os.close(reading)


def test_standard_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    descriptor = os.open(place / "file", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(inputs, "STDIN", descriptor)
    with pytest.raises(UsageError, match="standard input is closed"):
        stdin()
    os.close(descriptor)
    with pytest.raises(UsageError, match="standard input is closed"):
        stdin()
