"""What only one home has of a fifo queue keeps its place there, or never appears (rule F2)."""

from __future__ import annotations

import pytest

from tests.simulation import stories


@pytest.mark.parametrize("seed", range(5))
def test_what_one_home_has_does_not_appear_behind_what_another_had(seed: int) -> None:
    stories.two_homes_have_one_each(seed)


@pytest.mark.parametrize("seed", range(5))
def test_an_end_that_nobody_led_with_does_not_kill_what_is_stored_later(seed: int) -> None:
    stories.ends_that_nobody_led_with(seed)
