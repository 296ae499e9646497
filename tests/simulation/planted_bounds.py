"""Bugs of one line that take nothing from anybody, but fill the memory (P8)."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.clock import Now
from dmqnode.dedup import Producer
from dmqnode.frontend import FrontEnd
from dmqnode.holds import Hold, Holds

Patch = pytest.MonkeyPatch


def the_receives_of_who_is_gone_stay(patch: Patch) -> None:
    patch.setattr(FrontEnd, "hung_up", lambda self, now, session: None)


def what_is_settled_stays_in_a_table(patch: Patch) -> None:
    original = Holds._end

    def end(self: Holds, hold: Hold) -> None:
        original(self, hold)
        self._by_delivery.setdefault(hold.delivery, [])

    patch.setattr(Holds, "_end", end)


def the_sessions_of_peers_that_are_gone_stay(patch: Patch) -> None:
    original = FrontEnd.gone

    def gone(self: FrontEnd, now: Now, node: Any) -> None:
        self._peer_sessions.pop(node, None)
        original(self, now, node)

    patch.setattr(FrontEnd, "gone", gone)


def every_sequence_of_a_producer_is_remembered(patch: Patch) -> None:
    patch.setattr(Producer, "settle", lambda self, sequence: None)
