"""Many threads at once, or one alone: a gate before something that must be replaced or closed whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets any number of threads in, except while somebody wants to be, or is, alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._taken = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside together with others; waits while somebody is alone. Not reentrant."""
        with self._changed:
            while self._taken:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be inside when everybody else has left; nobody enters meanwhile.

        Not from inside `passing`: that would wait for ever.
        """
        with self._changed:
            while self._taken:
                self._changed.wait()
            self._taken = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
