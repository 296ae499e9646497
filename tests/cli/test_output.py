"""Standard output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import output
from cli.output import ReaderGone, taken, write, write_lines, write_text


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe in the place of standard output: (where to read, where it is written)."""
    reading, writing = os.pipe()
    monkeypatch.setattr(output, "STDOUT", writing)
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            pass


def test_everything_is_written_at_once(pipe: tuple[int, int]) -> None:
    write(b"a")
    assert os.read(pipe[0], 10) == b"a"
    write_text("é")
    write_lines(["x", "y"])
    write_lines([])
    assert os.read(pipe[0], 10).decode() == "é\nx\ny\n"


def test_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(ReaderGone):
        write(b"a")


def test_a_pipe_is_taken_when_it_is_empty(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PATIENCE", 0.01)
    assert taken()
    write(b"ab")
    assert not taken()
    os.read(pipe[0], 1)
    assert not taken()
    os.read(pipe[0], 1)
    assert taken()
    write(b"c")
    os.close(pipe[0])
    with pytest.raises(ReaderGone):
        taken()


def test_a_file_is_taken(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (place / "file").open("wb") as file:
        monkeypatch.setattr(output, "STDOUT", file.fileno())
        write(b"x")
        assert taken()


def test_a_pipe_that_does_not_block(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    if os.fork() == 0:
        os.close(writing)
        os.set_blocking(reading, True)
        size = 0
        while data := os.read(reading, 1 << 16):
            size += len(data)
        os._exit(0 if size == 1 << 20 else 1)
    write(bytes(1 << 20))
    os.close(writing)
    assert os.wait()[1] == 0


def test_what_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    (place / "file").write_bytes(b"")
    descriptor = os.open(place / "file", os.O_RDONLY)
    monkeypatch.setattr(output, "STDOUT", descriptor)
    with pytest.raises(OSError, match="it is closed: 'standard output'"):
        write(b"x")
    os.close(descriptor)
