"""Where the members are is kept beside the store, and read where the store does not say."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from dmqnode import addressbook
from tests.dmqnode.running import until

ADDRESSES = ["h1:7367", "h2:7367"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert addressbook.read(tmp_path) == ()
    addressbook.write(tmp_path, ADDRESSES)
    assert addressbook.read(tmp_path) == tuple(ADDRESSES)
    addressbook.write(tmp_path, ADDRESSES[:1])
    assert addressbook.read(tmp_path) == (), "a node alone has nobody to join"
    assert not list(tmp_path.iterdir())


async def test_it_follows_the_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addressbook, "LOOK_EVERY", 0.01)
    current = list(ADDRESSES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(addressbook.keep, tmp_path, lambda: current)
        await until(lambda: addressbook.read(tmp_path) == tuple(ADDRESSES))
        current.append("h3:7367")
        await until(lambda: len(addressbook.read(tmp_path)) == 3)
        nursery.cancel_scope.cancel()


def test_what_is_no_address_is_left_out(tmp_path: Path) -> None:
    (tmp_path / addressbook.FILE).write_bytes(b"h1:7367\n127.0.x:1x\nh2:7367\n:\n")
    assert addressbook.read(tmp_path) == tuple(ADDRESSES)
    (tmp_path / addressbook.FILE).write_bytes(b"h1:7367\nh2:7367\n..x:7367\n\xff\xfe")
    assert addressbook.read(tmp_path) == tuple(ADDRESSES)


def test_a_file_that_says_nothing_is_no_sign_that_nobody_was_there(tmp_path: Path) -> None:
    """The disk that harmed the store has harmed it, too; the node would go on beside the others."""
    (tmp_path / addressbook.FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(addressbook.Unreadable, match="there is no address in it; give --join"):
        addressbook.read(tmp_path)
    (tmp_path / addressbook.FILE).unlink()
    (tmp_path / addressbook.FILE).mkdir()
    with pytest.raises(addressbook.Unreadable, match="Is a directory"):
        addressbook.read(tmp_path)


async def test_where_it_cannot_be_written_it_is_tried_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    tried: list[float] = []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def in_thread(act: Callable[..., None], *args: object) -> None:
        await trio.lowlevel.checkpoint()
        tried.append(trio.current_time())
        act(*args)

    monkeypatch.setattr(addressbook, "write", full)
    monkeypatch.setattr(trio.to_thread, "run_sync", in_thread)
    with trio.move_on_after(2.5 * addressbook.TRY_EVERY):
        await addressbook.keep(tmp_path, lambda: ADDRESSES)
    assert len(tried) == 3
