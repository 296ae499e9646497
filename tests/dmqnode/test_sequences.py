"""The numbers of sends."""

from __future__ import annotations

import pytest

from dmqnode import sequences
from dmqnode.sequences import Sequences


def test_each_queue_has_numbers_of_its_own_without_gaps() -> None:
    numbers = Sequences()
    assert [(q, numbers.give(q)) for q in "abaab"] == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]
    assert (len(numbers), numbers.floor("a")) == (5, 1)


def test_the_floor_is_the_lowest_of_its_queue_that_is_not_settled() -> None:
    numbers = Sequences()
    for queue in "aaabb":
        numbers.give(queue)
    assert numbers.settle("a", 2)
    assert numbers.floor("a") == 1
    assert numbers.settle("a", 1)
    assert (numbers.floor("a"), numbers.floor("b")) == (3, 1)
    assert not numbers.settle("a", 1), "once only"
    assert numbers.settle("a", 3)
    assert numbers.give("a") == numbers.floor("a") == 4
    assert len(numbers) == 3


def test_of_many_queues_the_numbers_of_idle_ones_are_dropped_and_not_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequences, "MAX_QUEUES", 3)
    numbers = Sequences()
    for _ in range(5):
        numbers.settle("a", numbers.give("a"))
    for queue in ("busy", "c", "d", "e"):
        number = numbers.give(queue)
        if queue != "busy":
            numbers.settle(queue, number)
    assert set(numbers._last) == {"busy", "d", "e"}
    assert numbers.give("a") > 5
    assert numbers.give("busy") == 2
