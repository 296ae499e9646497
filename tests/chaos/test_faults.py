"""Shapes of faults that do not need a node to be looked at."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos import damage, smalldisk
from tests.chaos.campaign import network_for
from tests.chaos.faults import CLASSES, GROUPS, NEED_SMALL, overlap
from tests.chaos.network import Network
from tests.chaos.on_links import reach_of
from tests.chaos.site import Event
from tests.chaos.smalldisk import SmallDisk


@pytest.mark.parametrize("nodes", range(4, 11))
def test_in_a_ring_each_sees_a_majority_and_none_sees_all(nodes: int) -> None:
    seen = 2 * reach_of(nodes) + 1
    assert nodes // 2 < seen < nodes


def test_every_class_is_in_one_group() -> None:
    assert len(CLASSES) == sum(len(group) for group in GROUPS.values())


def test_a_pair_is_told_from_one_after_the_other() -> None:
    cut, kill = Event("cut", "", 0, 2), Event("kill", "", 1, 3)
    assert overlap([cut, kill])
    assert not overlap([cut, kill._replace(began=2.5)])
    assert not overlap([cut, Event("cut", "", 1, 3)])


def test_only_a_proxy_makes_noise() -> None:
    assert network_for(frozenset({"loss-1", "kill-one"})) is Network
    assert network_for(frozenset({"kill-one"}), "proxy") is Network


@pytest.mark.parametrize("kind", ["truncated", "file removed"])
def test_any_file_of_a_store_may_be_struck_but_for_its_lock_and_notes(kind: str, tmp_path: Path) -> None:
    names = ("000003.log", "000005.ldb", "MANIFEST-000002", "CURRENT", "LOCK", "LOG")
    struck = set()
    for seed in range(60):
        for name in names:
            (tmp_path / name).write_bytes(bytes(100))
        damage.KINDS[kind](tmp_path, random.Random(seed))
        struck |= {n for n in names if not (tmp_path / n).exists() or (tmp_path / n).stat().st_size < 100}
    assert struck == set(names[:4])


@pytest.mark.skipif(not smalldisk.possible(), reason=f"no root: {NEED_SMALL} cannot be done")
def test_a_small_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path, 1 << 20)
    try:
        disk.room(8192)
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "file").write_bytes(bytes(100_000))
        disk.room(None)
        (tmp_path / "file").write_bytes(bytes(100_000))
    finally:
        disk.close()
    assert not list(tmp_path.iterdir())
