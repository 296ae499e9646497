"""The score of a node's own health."""

from __future__ import annotations

from gossip.awareness import Awareness


def test_the_score_stays_within_its_limits() -> None:
    awareness = Awareness(8)
    scores = []
    for change in (0, -1, -10, 1, -1, 5, -1, 10, -1, -10):
        awareness.note(change)
        scores.append(awareness.score)
    assert scores == [0, 0, 0, 1, 0, 5, 4, 8, 7, 0]


def test_an_ailing_node_waits_longer() -> None:
    awareness = Awareness(8)
    assert awareness.scale(0.5) == 0.5
    awareness.note(2)
    assert awareness.scale(0.5) == 1.5
