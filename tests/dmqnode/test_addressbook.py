"""Where the members are is kept beside the store, and read where the store does not say."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

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
    (tmp_path / addressbook.FILE).write_bytes(b"h1:7367\n\xff\xfe")
    assert addressbook.read(tmp_path) == ()
