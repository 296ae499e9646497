"""Which node is dialled, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.addresses import FIRST_PAUSE, LONGEST_PAUSE, STEADY, Dialling, split_address
from dmqnode.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:7367", ("127.0.0.1", 7367)), ("[::1]:80", ("::1", 80)), ("node-1:65535", ("node-1", 65535))],
)
def test_addresses_are_split(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address
    assert str(Dialling([text], lambda: 0.5)) == text


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:0", "host:65536", "host:x", "host:²"])
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        Dialling([text], lambda: 0.5)


def test_all_addresses_are_tried_before_a_pause() -> None:
    dialling = Dialling(["a:1", "b:2", "c:3"], lambda: 1.0)
    names = []
    for _ in range(6):
        names.append(dialling.name)
        dialling.failed(5.0, "no")
    assert names == ["a:1", "b:2", "c:3"] * 2
    assert dialling.not_before == 5.0 + 2 * FIRST_PAUSE


@given(rounds=st.integers(1, 40), chance=st.floats(0, 1))
def test_pauses_double_up_to_the_longest(rounds: int, chance: float) -> None:
    dialling = Dialling(["a:1"], lambda: chance)
    for _ in range(rounds):
        dialling.failed(0.0, "no")
    whole = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (rounds - 1))
    assert whole / 2 <= dialling.not_before <= whole


def test_a_connection_that_lasted_is_replaced_at_once() -> None:
    dialling = Dialling(["a:1", "b:2"], lambda: 1.0)
    dialling.failed(0.0, "no")
    dialling.welcomed(1.0)
    dialling.lost(1.0 + STEADY, "gone")
    assert dialling.not_before == 1.0 + STEADY
    assert dialling.name == "a:1"


def test_a_node_that_ends_every_connection_is_not_dialled_in_a_loop() -> None:
    dialling = Dialling(["a:1"], lambda: 1.0)
    now = 0.0
    for _ in range(10):
        now = max(now, dialling.not_before)
        dialling.welcomed(now)
        dialling.lost(now, "gone")
    assert now > 3.0
