"""What a member may be, and which claim about it counts."""

from __future__ import annotations

from itertools import product

import pytest

from gossip.errors import InvalidSetting
from gossip.messages import Member, NodeId, Status, first_incarnation, supersedes

ALIVE, SUSPECT, DEAD, LEFT = Status
NODE = NodeId(b"n" * 8)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": NodeId(b"short")},
        {"name": "n" * 65},
        {"address": ""},
        {"address": "a" * 256},
        {"zone": "ü" * 33},
        {"meta": b"m" * 513},
        {"weight": -1.0},
        {"weight": float("nan")},
        {"lowest": 2, "highest": 1},
        {"incarnation": -1},
        {"incarnation": (1 << 62) + 1},
    ],
)
def test_a_member_that_would_not_fit_into_a_packet_cannot_be(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidSetting):
        Member(**{"id": NODE, "name": "n", "address": "a:1", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claim", "old", "same", "newer"),
    [
        # claim, about one that is, counts at the same incarnation, counts at a newer one
        (ALIVE, ALIVE, False, True),
        (ALIVE, SUSPECT, False, True),
        (ALIVE, DEAD, False, True),
        (ALIVE, LEFT, False, True),
        (SUSPECT, ALIVE, True, True),
        (SUSPECT, SUSPECT, False, True),
        (SUSPECT, DEAD, False, False),
        (SUSPECT, LEFT, False, False),
        (DEAD, ALIVE, True, True),
        (DEAD, SUSPECT, True, True),
        (DEAD, DEAD, False, True),
        (DEAD, LEFT, False, True),
        (LEFT, ALIVE, True, True),
        (LEFT, SUSPECT, True, True),
        (LEFT, DEAD, True, True),
        (LEFT, LEFT, False, True),
    ],
)
def test_which_claim_counts(claim: Status, old: Status, same: bool, newer: bool) -> None:
    assert supersedes(claim, 5, old, 5) is same
    assert supersedes(claim, 6, old, 5) is newer
    assert supersedes(claim, 4, old, 5) is False


def test_no_two_claims_supersede_each_other() -> None:
    claims = list(product(Status, (1, 2)))
    for (a, i), (b, j) in product(claims, claims):
        assert not (supersedes(a, i, b, j) and supersedes(b, j, a, i))


def test_a_later_run_begins_above_all_refutations_of_the_earlier() -> None:
    assert first_incarnation(2) - first_incarnation(1) >= 1_000_000
    assert first_incarnation(2**32 - 1) < 1 << 62
