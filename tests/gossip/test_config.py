"""The formulas, and what cannot be set."""

from __future__ import annotations

import doctest
from dataclasses import replace

import pytest

import gossip.config
from gossip.config import SwimConfig
from gossip.errors import InvalidSetting


def test_the_examples_in_the_formulas_are_true() -> None:
    result = doctest.testmod(gossip.config)
    assert result.failed == 0
    assert result.attempted >= 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"probe_interval": 0.0},
        {"probe_timeout": 0.6},
        {"suspicion_factor": 0.5},
        {"suspicion_spread": 0.5},
        {"transmit_factor": 0.0},
        {"gossip_fanout": 0},
        {"awareness_limit": -1},
        {"packet_limit": 100},
        {"members_limit": 0},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSetting):
        replace(SwimConfig.lan(), **wrong)  # type: ignore[arg-type]


def test_local_is_quicker_to_meet_but_no_quicker_to_judge() -> None:
    lan, local = SwimConfig.lan(), SwimConfig.local()
    assert local.remeet_interval < lan.remeet_interval
    assert local.suspicion_low(3) == lan.suspicion_low(3)
    assert local.probe_timeout == lan.probe_timeout
