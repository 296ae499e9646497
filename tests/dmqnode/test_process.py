"""What may be in the way of a node's start, and how it is said."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
import trio

from dmqnode import process
from dmqnode.addressbook import Unreadable
from dmqnode.config import NodeConfig
from dmqnode.errors import DMQError, UsageError
from dmqnode.ids import NodeId
from dmqnode.process import CannotStart
from dmqnode.roster import ROSTER_KEY, Member, Roster, encode
from storage.errors import StorageError
from storage.leveldb import LevelStore
from storage.ops import WriteBatch


@pytest.mark.parametrize(
    ("host", "name"),
    [("box", "box"), ("box.example.org", "box"), ("my_box", "my-box"), ("-", "node"), ("é" * 3, "node")],
)
def test_the_name_of_the_host_is_made_a_name_of_a_node(
    monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert process._name_of_host() == name


@pytest.mark.parametrize(
    ("told", "listens", "reached"),
    [
        ("127.0.0.1:0", "127.0.0.1:7367", "127.0.0.1:7367"),
        ("0.0.0.0:0", "0.0.0.0:7367", "box:7367"),
        ("[::]:7367", "[::]:7367", "box:7367"),
        ("[::1]:7367", "[::1]:7367", "[::1]:7367"),
        ("dmq-1.example.net:0", "10.0.0.5:7367", "dmq-1.example.net:7367"),
    ],
)
def test_a_node_is_reached_at_the_name_it_listens_at_or_at_the_hosts_if_everywhere(
    monkeypatch: pytest.MonkeyPatch, told: str, listens: str, reached: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    assert process._reachable(told, listens) == reached


async def test_a_free_port_is_taken_and_told() -> None:
    async with process._listening("127.0.0.1:0") as listeners:
        assert len(listeners) == 1
        address = process._address_of(listeners)
        assert address.startswith("127.0.0.1:")
        assert not address.endswith(":0")
        with pytest.raises(CannotStart, match="another program does, perhaps a node"):
            async with process._listening(address):
                pass


@pytest.mark.parametrize("address", ["192.0.2.1:7367", "nowhere.invalid:7367"])
async def test_an_address_of_others_cannot_be_listened_at(address: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        async with process._listening(address):
            pass


def test_what_the_system_says_behind_trios_error_is_found() -> None:
    outer = OSError("all failed")
    outer.__cause__ = ExceptionGroup("", [OSError(errno.EACCES, "no")])
    error = process._refused("h:1", outer)
    assert isinstance(error, CannotStart)
    assert "Permission denied" in str(error)


def test_a_group_with_one_known_cause_is_that_cause() -> None:
    known, bug = DMQError("a sentence"), ValueError("a bug")
    inner = BaseExceptionGroup("", [known])
    assert process._single(BaseExceptionGroup("", [inner])) is known
    failed = StorageError("the disk")
    assert process._single(BaseExceptionGroup("", [failed])) is failed
    both = BaseExceptionGroup("", [known, bug])
    assert process._single(both) is both


async def test_waiting_to_join_ends_with_the_signal(autojump_clock: trio.testing.MockClock) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def signalled() -> None:
            await trio.sleep(5)
            stop.set()

        nursery.start_soon(signalled)
        assert await process._until_stopped(stop, trio.sleep_forever) is None
        assert trio.current_time() == 5


async def test_what_was_settled_is_returned() -> None:
    async def settle() -> str:
        await trio.lowlevel.checkpoint()
        return "membership"

    assert await process._until_stopped(trio.Event(), settle) == "membership"  # type: ignore[arg-type,comparison-overlap]


@pytest.mark.parametrize(
    ("join", "known", "starts"),
    [
        ((), (), False),
        (("me:1",), ("me:1",), False),
        (("other:1",), (), True),
        ((), ("me:1", "other:1"), True),
    ],
)
def test_who_cannot_read_where_the_others_were_needs_another_one(
    tmp_path: Path, join: tuple[str, ...], known: tuple[str, ...], starts: bool
) -> None:
    (tmp_path / "members").write_bytes(b"\xff")
    config = NodeConfig(data=tmp_path, join=join)
    if starts:
        assert process._noted(config, "me:1", known) == ()
    else:
        with pytest.raises(Unreadable, match="give --join and the address of a member"):
            process._noted(config, "me:1", known)


def test_a_store_that_knows_its_members_needs_no_other_list(tmp_path: Path) -> None:
    """An older one lies renamed beside it, and the list there says nothing."""
    (tmp_path / "members").write_bytes(b"\xff")
    (tmp_path / "store.forgotten-1").mkdir()
    store = LevelStore.open(tmp_path)
    ops = WriteBatch()
    ops.put(ROSTER_KEY, encode(Roster(1, (Member(NodeId(b"m" * 8), "me", "me:1"),))))
    store.write(ops, sync=True)
    store.close()
    store, lost = process._open(NodeConfig(data=tmp_path), "me:1")
    store.close()
    assert lost is None
