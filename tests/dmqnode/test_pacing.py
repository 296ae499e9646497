"""Copying in the background leaves the node to those who send and receive."""

from __future__ import annotations

from dmqnode.pacing import (
    AT_ONCE,
    BUSY,
    BUSY_REST,
    LONGEST,
    LONGEST_MOVING,
    MOVING_REST,
    PATIENCE,
    REST,
    Pacing,
)


def test_so_many_pages_are_under_way_and_no_more() -> None:
    pacing = Pacing()
    for page in range(AT_ONCE):
        assert pacing.may_begin(1.0, moves=False)
        pacing.begins(1.0, page)
    assert not pacing.may_begin(1.0, moves=False)


def test_after_a_page_it_rests_in_proportion() -> None:
    pacing = Pacing()
    pacing.begins(1.0, "page")
    pacing.ends(1.01, "page", moves=False)
    rest = 0.01 * REST
    assert not pacing.may_begin(1.01 + rest / 2, moves=False)
    assert 1.01 < pacing.next_begin(1.01, moves=False) <= 1.01 + rest * 1.001
    assert pacing.may_begin(1.01 + rest * 1.001, moves=False)


def test_it_rests_longer_while_clients_write() -> None:
    for ago, times in ((BUSY / 2, BUSY_REST), (BUSY * 2, REST)):
        pacing = Pacing()
        pacing.written(1.01 - ago)
        pacing.begins(1.0, "page")
        pacing.ends(1.01, "page", moves=False)
        assert abs(pacing.next_begin(1.01, moves=False) - (1.01 + 0.01 * times)) < 1e-9


def test_what_only_moves_a_copy_yields_the_most_to_clients() -> None:
    assert MOVING_REST > BUSY_REST
    for ago, rest in ((BUSY / 2, 0.01 * MOVING_REST), (BUSY * 2, 0.01 * REST)):
        pacing = Pacing()
        pacing.written(1.01 - ago)
        pacing.begins(1.0, "page")
        pacing.ends(1.01, "page", moves=True)
        assert not pacing.may_begin(1.01 + rest - 1e-6, moves=True)
        assert pacing.may_begin(1.01 + rest + 1e-6, moves=True)
    pacing.written(4.0)
    pacing.begins(3.0, "page")
    pacing.ends(4.0, "page", moves=True)
    assert pacing.may_begin(4.0 + LONGEST_MOVING, moves=True)


def test_what_makes_something_safer_does_not_wait_for_the_rest_of_what_moves() -> None:
    pacing = Pacing()
    pacing.written(1.01)
    pacing.begins(1.0, "page")
    pacing.ends(1.01, "page", moves=True)
    rest = 0.01 * BUSY_REST
    assert pacing.may_begin(1.01 + rest + 1e-6, moves=False)
    assert not pacing.may_begin(1.01 + rest + 1e-6, moves=True)
    assert abs(pacing.next_begin(1.01, moves=False) - (1.01 + rest)) < 1e-9
    assert abs(pacing.next_begin(1.01, moves=True) - (1.01 + 0.01 * MOVING_REST)) < 1e-9


def test_a_slow_page_is_not_followed_by_a_long_rest() -> None:
    pacing = Pacing()
    pacing.begins(1.0, "page")
    pacing.ends(3.0, "page", moves=False)
    assert pacing.may_begin(3.0 + LONGEST, moves=False)


def test_the_end_of_a_page_that_is_not_known_means_nothing() -> None:
    pacing = Pacing()
    pacing.ends(1.0, "page", moves=False)
    assert pacing.may_begin(1.0, moves=False)


def test_a_page_whose_receiver_died_does_not_hold_up_the_others_for_ever() -> None:
    pacing = Pacing()
    for page in range(AT_ONCE):
        pacing.begins(1.0, page)
    assert not pacing.may_begin(1.0 + PATIENCE / 2, moves=False)
    assert pacing.may_begin(1.1 + PATIENCE, moves=False)
