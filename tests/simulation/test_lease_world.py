"""Leases and home sets keep their promises under every fault; and each rule is needed.

`PLANTED` removes one rule at a time from the real cores, and names seeds of which at least one sees it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from dmqnode.grants import LEASE, NOBODY, Grants, Promise
from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber
from dmqnode.lease_effects import Persist, ToPeer
from dmqnode.lease_states import Lease
from dmqnode.leaseclock import LeaseClock
from dmqnode.leases import Leases
from dmqnode.peer_messages import Granted, Renewed
from dmqnode.renewals import Renewals
from tests.simulation.lease_node import Host
from tests.simulation.lease_world import Broken, Plan, World

Patch = pytest.MonkeyPatch


def run(seed: int, plan: Plan | None = None) -> World:
    world = World(seed, plan)
    try:
        world.run()
    except Broken as broken:
        lines = "\n".join(" ".join(map(str, line)) for line in world.log[-40:])
        raise Broken(f"{broken}\nseed {seed}, {world.plan}\n{lines}") from None
    return world


@pytest.mark.share(4 / 15, few=40)
def test_no_promise_is_broken(seeds: range) -> None:
    counts = dict.fromkeys(("served", "commits", "answered", "crashes"), 0)
    for seed in seeds:
        world = run(seed)
        for name in counts:
            counts[name] += world.counts[name]
    assert all(n > len(seeds) // 4 for n in counts.values()), "nothing happened"


def test_a_seed_runs_alike_in_every_process() -> None:
    code = "from tests.simulation.test_lease_world import run\nprint([run(s).log for s in (1, 2, 3)])"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


# --- planted bugs ----------------------------------------------------------------------------------------


def an_earlier_answer_counts(patch: Patch) -> None:
    original = Leases._on_granted

    def on_granted(self: Leases, fast: float, sender: Any, granted: Granted) -> None:
        claim = self._claims.get(granted.partition)
        if claim is not None:
            granted = Granted(granted.partition, claim.number.n, claim.nonce, granted.record)
        original(self, fast, sender, granted)

    patch.setattr(Leases, "_on_granted", on_granted)


def renewals_name_nothing(patch: Patch) -> None:
    def on_renew(self: Grants, slow: float, sender: Any, renew: Any) -> ToPeer:
        for partition in self._held_by.get(sender, ()):
            self._promises[partition].until = slow + LEASE
        return ToPeer(sender, Renewed(renew.nonce, False, []))

    patch.setattr(Grants, "on_renew", on_renew)


def the_holder_counts_from_the_answer(patch: Patch) -> None:
    on_granted, on_renewed = Leases._on_granted, Leases._on_renewed
    now = [0.0]

    def granted_late(self: Leases, fast: float, sender: Any, granted: Granted) -> None:
        claim = self._claims.get(granted.partition)
        if claim is not None and claim.nonce == granted.nonce:
            claim.started = fast
        on_granted(self, fast, sender, granted)

    def renewed_late(self: Leases, fast: float, sender: Any, renewed: Renewed) -> None:
        now[0] = fast
        on_renewed(self, fast, sender, renewed)

    def left_at(self: Renewals, sender: Any, renewed: Renewed) -> float | None:
        return None if self._rounds.get(sender, {}).pop(renewed.nonce, None) is None else now[0]

    patch.setattr(Leases, "_on_granted", granted_late)
    patch.setattr(Leases, "_on_renewed", renewed_late)
    patch.setattr(Renewals, "left_at", left_at)


def only_the_monotonic_clock(patch: Patch) -> None:
    def advance(self: LeaseClock, reading: Any) -> None:
        elapsed = reading.monotonic - self._last.monotonic
        self.fast, self.slow, self._last = self.fast + elapsed, self.slow + elapsed, reading

    patch.setattr(LeaseClock, "advance", advance)


def a_running_lease_is_no_obstacle(patch: Patch) -> None:
    patch.setattr(Promise, "runs_for_other", lambda self, node, slow: False)


def late_writes_are_taken(patch: Patch) -> None:
    patch.setattr(Grants, "accepts", lambda self, partition, number: True)


def numbers_do_not_name_the_node(patch: Patch) -> None:
    comparisons: dict[str, Callable[[int, int], bool]] = {
        "__eq__": lambda a, b: a == b,
        "__ne__": lambda a, b: a != b,
        "__lt__": lambda a, b: a < b,
        "__le__": lambda a, b: a <= b,
        "__gt__": lambda a, b: a > b,
        "__ge__": lambda a, b: a >= b,
    }
    for name, compare in comparisons.items():
        patch.setattr(LeaseNumber, name, lambda a, b, compare=compare: compare(a[0], b[0]))
    patch.setattr(LeaseNumber, "__hash__", lambda number: hash(number[0]))
    on_claim, acquired = Grants.on_claim, World.acquired

    def grant_equal(self: Grants, slow: float, sender: Any, claim: Any) -> Any:
        promise = self._promises.get(claim.partition)
        if promise is not None and promise.highest.n == claim.n and promise.holder != sender:
            promise.highest = LeaseNumber(claim.n - 1, sender)
        return on_claim(self, slow, sender, claim)

    def acquired_bare(self: World, host: Host, partition: Any, number: LeaseNumber) -> None:
        acquired(self, host, partition, LeaseNumber(number.n, NO_LEASE.node))

    patch.setattr(Grants, "on_claim", grant_equal)
    patch.setattr(World, "acquired", acquired_bare)


def the_new_set_is_enough(patch: Patch) -> None:
    patch.setattr(HomeSet, "sets", property(lambda record: (record.new,)))


def a_newer_record_is_not_adopted(patch: Patch) -> None:
    original = Leases._on_granted

    def on_granted(self: Leases, fast: float, sender: Any, granted: Granted) -> None:
        claim = self._claims.get(granted.partition)
        if claim is not None:
            granted = Granted(granted.partition, granted.n, granted.nonce, claim.record.fields())
        original(self, fast, sender, granted)

    patch.setattr(Leases, "_on_granted", on_granted)


def an_unfinished_change_is_taken_as_finished(patch: Patch) -> None:
    original = Leases.merged

    def merged(self: Leases, fast: float, partition: Any, number: LeaseNumber) -> None:
        lease = self._held.get(partition)
        if lease is not None and lease.number == number and not lease.serving and lease.proposal is None:
            lease.record = lease.record.commit()
            self._grants.promise(partition, lease.record).record = lease.record
        original(self, fast, partition, number)

    patch.setattr(Leases, "merged", merged)


def whoever_is_asked_agrees(patch: Patch) -> None:
    original = Grants.on_propose

    def on_propose(self: Grants, slow: float, sender: Any, propose: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self, "_ready", lambda *_: True)
            return original(self, slow, sender, propose)

    patch.setattr(Grants, "on_propose", on_propose)


def what_an_earlier_proposal_brought_is_enough(patch: Patch) -> None:
    original = Leases._repeat_proposal

    def repeat(self: Leases, partition: Any, lease: Lease) -> None:
        lease.mark = 0
        original(self, partition, lease)

    patch.setattr(Leases, "_repeat_proposal", repeat)


def agreeing_grants_nothing(patch: Patch) -> None:
    original = Grants.on_propose

    def on_propose(self: Grants, slow: float, sender: Any, propose: Any) -> Any:
        promise = self._promises.get(propose.partition)
        held = promise is not None and promise.holder == sender
        effect = original(self, slow, sender, propose)
        if isinstance(effect, Persist) and not held:
            self._give(propose.partition, NOBODY, 0)
            self._promises[propose.partition].until = slow
        return effect

    patch.setattr(Grants, "on_propose", on_propose)


def former_homes_forget(patch: Patch) -> None:
    original = Grants.on_committed

    def on_committed(self: Grants, slow: float, sender: Any, committed: Any) -> Any:
        effect = original(self, slow, sender, committed)
        if effect is not None and self._me not in self._promises[committed.partition].record.members:
            return Persist(self.forget(committed.partition), effect.then)
        return effect

    patch.setattr(Grants, "on_committed", on_committed)


def who_has_just_started_grants(patch: Patch) -> None:
    patch.setattr(Grants, "silence", lambda boot: 0.0)


class Planted(NamedTuple):
    rule: str
    plant: Callable[[Patch], None]
    plan: Plan
    seeds: tuple[int, ...]
    """The first seeds, counted from 0, that see it under this plan; one is enough."""
    seen: str
    """How what is seen may begin."""


MOVES = Plan(cut=1.0, one_way=0.3, claim=0.5, move=0.5, seconds=20.0)
PLANTED = [
    Planted(
        "L1",
        who_has_just_started_grants,
        Plan(crash=0.6, cut=0.5, claim=0.5, move=0.0),
        (6, 7, 10, 17),
        "two",
    ),
    Planted(
        "L2",
        an_earlier_answer_counts,
        Plan(slow=0.3, cut=0.4, twice=0.1, claim=0.5, move=0),
        (5, 46, 57, 83),
        "two",
    ),
    Planted("L3", renewals_name_nothing, Plan(crash=0.2, cut=0.3, claim=0.2, move=0), (3, 6, 8, 13), "two"),
    Planted(
        "L4",
        the_holder_counts_from_the_answer,
        Plan(slow=0.3, cut=0.6, claim=0.5, move=0),
        (223, 287, 319, 460),
        "two",
    ),
    Planted(
        "L4", only_the_monotonic_clock, Plan(pause=0.3, step=0.3, claim=0.5, move=0), (2, 4, 6, 7), "two"
    ),
    Planted("L5", a_running_lease_is_no_obstacle, Plan(claim=0.5), (0, 1, 2, 3), "two"),
    Planted(
        "L6",
        late_writes_are_taken,
        Plan(slow=0.1, loss=0.1, cut=0.4, claim=0.5, move=0.05),
        (1, 3, 4, 5),
        "stale",
    ),
    Planted(
        "uniq",
        numbers_do_not_name_the_node,
        Plan(cut=0.4, slow=0.05, claim=0.4, move=0.05),
        (0, 7, 10, 26),
        "same",
    ),
    Planted("H1", the_new_set_is_enough, Plan(cut=0.6, claim=0.5, move=0.5), (1, 6, 11, 13), "two lost"),
    Planted(
        "H2",
        a_newer_record_is_not_adopted,
        Plan(cut=0.6, crash=0.2, claim=0.5, move=0.5),
        (6, 10, 16, 47),
        "two lost",
    ),
    Planted("H2", an_unfinished_change_is_taken_as_finished, MOVES, (630, 814, 903, 1089), "two lost"),
    Planted(
        "H3", whoever_is_asked_agrees, Plan(loss=0.1, cut=0.3, claim=0.5, move=0.5), (2, 7, 8, 9), "lost"
    ),
    Planted(
        "H3",
        what_an_earlier_proposal_brought_is_enough,
        Plan(loss=0.1, cut=0.6, claim=0.5),
        (13, 25, 33, 34),
        "lost",
    ),
    Planted("H3", agreeing_grants_nothing, Plan(cut=0.5, claim=0.5, move=0.5), (71, 212), "two"),
    Planted("H4", former_homes_forget, Plan(move=0.5), (0, 1, 2), "forgotten"),
]


def caught(bug: Planted, seed: int, patch: Patch) -> bool:
    with patch.context() as planted:
        bug.plant(planted)
        try:
            World(seed, bug.plan).run()
        except Broken as broken:
            return str(broken).split()[0].rstrip(":") in bug.seen
        return False


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: f"{bug.rule}-{bug.plant.__name__}")
def test_each_rule_is_needed(bug: Planted, monkeypatch: Patch) -> None:
    found = next((seed for seed in bug.seeds if caught(bug, seed, monkeypatch)), None)
    assert found is not None
    run(found, bug.plan)  # and with it all is well
