"""Bugs of one line, each planted in turn: a scenario must catch it within a few seeds.

A scenario that catches nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gossip.beliefs import Beliefs
from gossip.config import SwimConfig
from gossip.exchange import Exchange
from gossip.meeting import Meeting
from gossip.probing import Prober
from gossip.swim import Swim
from tests.gossip import scenarios

WITHIN = 5
"""Seeds within which each must be caught."""


def refute_with_the_same_incarnation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Beliefs, "_refute", lambda self, incarnation: self.renew(self.me))


def never_refute(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Beliefs, "_refute", lambda self, incarnation: None)


def send_news_once_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SwimConfig, "transmit_limit", lambda self, members: 1)


def keep_news_to_oneself(patch: pytest.MonkeyPatch) -> None:
    alive = Beliefs.alive
    patch.setattr(
        Beliefs, "alive", lambda self, now, member, *, spread=True: alive(self, now, member, spread=False)
    )


def never_meet_again(patch: pytest.MonkeyPatch) -> None:
    meet = Swim._addresses_to_try
    patch.setattr(Swim, "_addresses_to_try", lambda self, n: meet(self, n) if self._members.size == 1 else [])


def forget_addresses_with_their_members(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Meeting, "next_to_try", lambda self, skip: None)
    patch.setattr(Meeting, "seeds", (), raising=False)


def suspect_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Beliefs, "_suspicion_due", lambda self, now, node: None)


def suspect_without_asking_others(patch: pytest.MonkeyPatch) -> None:
    def give_up_early(self: Prober, now: float, number: int) -> None:
        self._end(now, number)

    patch.setattr(Prober, "_ask_others", give_up_early)
    patch.setattr(SwimConfig, "suspicion_low", lambda self, members: 0.1)


def accept_packets_of_another_cluster(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Swim, "_is_foreign", lambda self, envelope: False)


def accept_states_of_another_cluster(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exchange, "_objection", lambda self, envelope, state: "")


def trust_what_was_not_heard_in_sleep(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Beliefs, "overslept", lambda self, late: None)
    patch.setattr(Prober, "overslept", lambda self: None)


PLANTED: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[int], None]]] = [
    (refute_with_the_same_incarnation, scenarios.accused),
    (never_refute, scenarios.split),
    (send_news_once_only, scenarios.news),
    (keep_news_to_oneself, scenarios.news),
    (never_meet_again, scenarios.split),
    (forget_addresses_with_their_members, scenarios.split),
    (suspect_for_ever, scenarios.death),
    (suspect_without_asking_others, scenarios.quiet),
    (accept_packets_of_another_cluster, scenarios.strangers),
    (accept_states_of_another_cluster, scenarios.strangers),
    (trust_what_was_not_heard_in_sleep, scenarios.asleep),
]


@pytest.mark.parametrize(("plant", "scenario"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None],
    scenario: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    caught = 0
    for seed in range(WITHIN):
        try:
            scenario(seed)
        except AssertionError:
            caught += 1
    assert caught, f"{plant.__name__} was not caught by {WITHIN} seeds of {scenario.__name__}"
