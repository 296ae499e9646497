"""What a message is like that moves to the queue that keeps the name."""

from __future__ import annotations

from typing import Any

from dmqnode.batch import encode
from dmqnode.dedup import WINDOW_MINUTES
from dmqnode.ids import LogId, PartitionId, message_id
from dmqnode.merging import _rows
from dmqnode.messages import Part

LOG = LogId(b"L" * 20)
WALL = 1_000_000_000


def rows(age: int, **columns: Any) -> list[tuple[bytes, dict[str, Any]]]:
    blob = encode([b"a", b"b"], {name: (value, {}) for name, value in columns.items()}).blob
    return _rows(Part(PartitionId(b"P" * 10), 1, LOG, 5, 2, 1, WALL - age, blob), WALL)


def test_it_is_named_by_what_it_was() -> None:
    assert rows(0) == [
        (b"a", {"d": f"move:{message_id(LOG, 5)}"}),
        (b"b", {"d": f"move:{message_id(LOG, 6)}"}),
    ]


def test_its_own_dedup_id_goes_along_while_it_counts() -> None:
    assert rows(1000, d="mine")[0][1] == {"d": "mine"}
    assert rows(WINDOW_MINUTES * 60_000, d="mine")[0][1] == {"d": f"move:{message_id(LOG, 5)}"}


def test_group_attributes_and_what_is_left_of_its_time_go_along() -> None:
    (_, row), _ = rows(400, g="g", a={"dmq.reason": "x", "k": "v"}, t=1000)
    assert (row["g"], row["a"], row["t"]) == ("g", {"dmq.reason": "x", "k": "v"}, 600)
    assert rows(2000, t=1000)[0][1]["t"] == 1
