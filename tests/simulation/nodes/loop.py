"""Trio as a simulation needs it: every run with the same seed is the same, and a process can stand still.

A process is everything that has the same `Process` in its context.  One that stands still takes no step: what
wakes its tasks is remembered, and its timers run out meanwhile, as when a real one is stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import trio
from trio._core import _run
from trio.testing import MockClock


class Process:
    """Some tasks that live, stand still and die together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.held: list[Any] = []

    def thaw(self) -> None:
        """Go on."""
        self.frozen = False
        held, self.held = self.held, []
        _run.GLOBAL_RUN_CONTEXT.runner.runq.extend(held)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


@contextmanager
def _alike(seed: int) -> Iterator[None]:
    original, runner = _run.Runner.reschedule, _run.Runner

    def reschedule(self: Any, task: Any, next_send: Any = _run._NO_SEND) -> None:
        original(self, task, next_send)
        process = task.context.get(PROCESS)
        if process is not None and process.frozen:
            process.held.append(self.runq.pop())

    random_before, sorted_before = _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    patched: Any = _run
    runner.reschedule = reschedule  # type: ignore[method-assign]
    patched._ALLOW_DETERMINISTIC_SCHEDULING = True
    _run._r.seed(seed)
    try:
        yield
    finally:
        runner.reschedule = original  # type: ignore[method-assign]
        patched._ALLOW_DETERMINISTIC_SCHEDULING = sorted_before
        _run._r.setstate(random_before)


def run_alike(seed: int, main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` in virtual time that begins at 0, the same whenever it is run with this seed."""
    with _alike(seed):
        trio.run(main, clock=MockClock(autojump_threshold=0.0))
