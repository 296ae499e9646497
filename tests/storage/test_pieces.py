"""Pieces cover the range, in order, and hold little each."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import plyvel
import pytest

from storage import pieces as module
from storage.keys import u64
from storage.pieces import pieces


def test_pieces_cover_a_range_without_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 100_000)
    db = plyvel.DB(os.fspath(tmp_path), create_if_missing=True, compression=None)
    for number in range(1000):
        db.put(b"prefix" + u64(number * 7), os.urandom(1000))
    db.compact_range()
    cut = list(pieces(db, b"prefix", b"prefiy"))
    assert cut[0][0] == b"prefix"
    assert cut[-1][1] == b"prefiy"
    assert all(one[1] == other[0] for one, other in pairwise(cut))
    assert all(low < high for low, high in cut)
    sizes = [db.approximate_size(low, high) for low, high in cut]
    assert sum(sizes) == pytest.approx(1_000_000, rel=0.1)
    assert max(sizes) <= 200_000
    assert 5 <= len(cut) <= 25
    db.close()


def test_an_empty_range_is_one_piece(tmp_path: Path) -> None:
    db = plyvel.DB(os.fspath(tmp_path), create_if_missing=True)
    assert list(pieces(db, b"a", b"b")) == [(b"a", b"b")]
    db.close()
