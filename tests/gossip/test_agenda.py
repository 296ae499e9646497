"""What is to be done when."""

from __future__ import annotations

import math

from gossip.agenda import Agenda


def test_things_come_in_the_order_of_their_times_then_of_their_entry() -> None:
    agenda, done = Agenda(), []
    assert agenda.next() == math.inf

    def act(now: float, name: str) -> None:
        done.append((now, name))
        if name == "b":
            agenda.at(2.0, act, "added")
            agenda.at(9.0, act, "later")

    for due, name in ((2.0, "a"), (1.0, "b"), (2.0, "c"), (5.0, "d")):
        agenda.at(due, act, name)
    assert agenda.next() == 1.0
    for call, arguments in agenda.pop_due(3.0):
        call(3.0, *arguments)
    assert [name for _, name in done] == ["b", "a", "c", "added"]
    assert agenda.next() == 5.0
    assert len(agenda) == 2
