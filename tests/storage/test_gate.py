"""Many pass at once; who is alone is alone."""

from __future__ import annotations

import threading

import pytest

from storage.gate import Gate


def run(*targets: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=target) for target in targets]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    return threads


def test_many_are_inside_together() -> None:
    gate, together = Gate(), threading.Barrier(3, timeout=10)

    def passing() -> None:
        with gate.passing():
            together.wait()

    for thread in run(passing, passing, passing):
        thread.join(10)
    assert not together.broken


def test_alone_waits_for_those_inside_and_keeps_others_out() -> None:
    gate = Gate()
    entered, leave = threading.Event(), threading.Event()
    log: list[str] = []

    def first() -> None:
        with gate.passing():
            entered.set()
            assert leave.wait(10)
            log.append("first leaves")

    def alone() -> None:
        with gate.alone():
            log.append("alone")
            assert gate._inside == 0

    def late() -> None:
        with gate.passing():
            log.append("late")

    threads = run(first)
    assert entered.wait(10)
    threads += run(alone)
    with gate._changed:
        assert gate._changed.wait_for(lambda: gate._taken, 10) or gate._taken
    threads += run(late)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert log == ["first leaves", "alone", "late"]


def test_an_error_inside_opens_the_gate_again() -> None:
    gate = Gate()
    for inside in (gate.passing, gate.alone, gate.passing):
        with pytest.raises(KeyError), inside():
            raise KeyError
    assert (gate._inside, gate._taken) == (0, False)
