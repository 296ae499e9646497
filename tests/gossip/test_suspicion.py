"""How long a suspect may defend itself."""

from __future__ import annotations

import pytest

from gossip.messages import NodeId
from gossip.suspicion import Suspicion, suspicion_timeout


def node(number: int) -> NodeId:
    return NodeId(bytes([number] * 8))


@pytest.mark.parametrize(
    ("confirmations", "timeout"), [(0, 30.0), (1, 16.0), (2, 7.81), (3, 2.0), (4, 2.0), (9, 2.0)]
)
def test_each_witness_shortens_it_the_first_most(confirmations: int, timeout: float) -> None:
    found = suspicion_timeout(low=2.0, high=30.0, confirmations=confirmations, wanted=3)
    assert found == pytest.approx(timeout, abs=0.01)


def test_without_possible_witnesses_it_is_the_shortest() -> None:
    assert suspicion_timeout(low=2.0, high=30.0, confirmations=0, wanted=0) == 2.0


def test_a_witness_counts_once_and_only_while_wanted() -> None:
    suspicion = Suspicion(node(1), 100.0, low=2.0, high=30.0, wanted=2)
    assert suspicion.due == 130.0
    assert not suspicion.confirm(node(1))
    assert suspicion.confirm(node(2))
    assert not suspicion.confirm(node(2))
    assert suspicion.due < 130.0
    assert suspicion.confirm(node(3))
    assert suspicion.due == 102.0
    assert not suspicion.confirm(node(4))


def test_time_not_lived_does_not_count() -> None:
    suspicion = Suspicion(node(1), 100.0, low=2.0, high=2.0, wanted=0)
    suspicion.prolong(60.0)
    assert suspicion.due == 162.0
