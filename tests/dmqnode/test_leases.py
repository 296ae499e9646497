"""Leases, step by step: what the world of leases shows only by chance, and what it would not see."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from dmqnode.grants import LEASE
from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import PartitionId
from dmqnode.lease_effects import Denial, HomesChanged, Lost, Persist, Serving, ToPeer
from dmqnode.lease_states import HELD, Attempt, Lease
from dmqnode.messages import Message
from dmqnode.peer_messages import Claim, Committed, Denied, Granted, Release, Renew, Renewed
from tests.dmqnode.leaseholders import ABC, A, B, C, D, Nodes, P, Q


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


def test_a_lease_is_taken_kept_and_lost(nodes: Nodes) -> None:
    nodes.want(A)
    assert nodes.leads(A)
    nodes.run(10.0)
    assert nodes.leads(A)
    nodes.want(B)
    assert not nodes.leads(B)
    assert Denial(P, A) in nodes.seen
    nodes.away = {B, C}
    nodes.run(LEASE + 0.5)
    assert not nodes.leads(A)
    assert Lost(P, LeaseNumber(1, A)) in nodes.seen
    assert nodes.leases[A].next_deadline() == math.inf


def test_the_lease_ends_before_what_was_granted_does(nodes: Nodes) -> None:
    nodes.want(A)
    start = nodes.now
    promise = nodes.grants[B].find(P)
    assert promise is not None
    assert promise.until == start + LEASE
    assert nodes.leases[A].held(start + HELD - 0.001, P) is not None
    assert nodes.leases[A].held(start + HELD, P) is None
    assert HELD * 1.01 < LEASE * 0.99


def test_a_number_is_on_disk_before_another_node_hears_of_it(nodes: Nodes) -> None:
    nodes.leases[A].want(nodes.now, P, ABC)
    (claim,) = nodes.leases[A].take_effects()
    assert isinstance(claim, ToPeer)
    assert claim.node == A
    nodes.leases[A].receive(nodes.now, nodes.now, A, claim.message)
    (write,) = nodes.leases[A].take_effects()
    assert isinstance(write, Persist)
    nodes.leases[A].receive(nodes.now, nodes.now, A, write.then[0].message)
    asked = nodes.leases[A].take_effects()
    assert [e.node for e in asked if isinstance(e, ToPeer)] == [B, C]


def test_one_denial_is_no_majority(nodes: Nodes) -> None:
    nodes.restart(B)  # it keeps silent, and says so before anybody else has granted
    nodes.want(A)
    assert nodes.leads(A)


def test_a_claim_that_comes_to_nothing_stands_in_nobodys_way(nodes: Nodes) -> None:
    nodes.away = {C}
    for node in (A, B):
        nodes.leases[node].want(nodes.now, P, ABC)
    nodes.settle()  # each has granted its own claim, and not the other's
    for _ in range(20):
        nodes.run(0.2)
        if nodes.leads(A) or nodes.leads(B):
            break
        for node in (A, B):
            nodes.leases[node].want(nodes.now, P, ABC)
        nodes.settle()
    assert nodes.leads(A) != nodes.leads(B)


def test_homes_that_restart_one_after_the_other_do_not_end_a_lease(nodes: Nodes) -> None:
    nodes.want(A)
    for node in (B, C, B, C):
        nodes.restart(node)
        nodes.run(LEASE + 0.5)
        assert nodes.leads(A)
    assert not any(isinstance(e, Lost) for e in nodes.seen)


def test_what_a_home_granted_and_then_promised_to_another_is_not_renewed_after_a_restart(
    nodes: Nodes,
) -> None:
    nodes.want(A)
    nodes.leases[A].release(P)
    nodes.settle()
    nodes.want(B)
    nodes.restart(C)
    answer = nodes.grants[C].on_renew(nodes.now, A, Renew(7, bytes(16), [(P, 1)]))
    assert answer == ToPeer(A, Renewed(7, False, [P]))
    answer = nodes.grants[C].on_renew(nodes.now, B, Renew(7, bytes(16), [(P, 2)]))
    assert answer == ToPeer(B, Renewed(7, False, []))


def test_a_renewal_that_left_in_the_instant_of_the_lease_says_nothing_of_it(nodes: Nodes) -> None:
    nodes.want(A, partition=Q)
    nodes.leases[A].want(nodes.now, P, ABC)
    start = nodes.now
    nodes.now += 0.5
    claim = nodes.leases[A].take_effects()
    nodes.leases[A].tick(nodes.now)
    renewals = [e for e in nodes.leases[A].take_effects() if isinstance(e, ToPeer)]
    assert len(renewals) == 3
    for effect in claim:
        nodes._do(A, effect)
    nodes.settle()
    assert nodes.leads(A)
    nodes.now += 0.5
    for node, message in renewals:
        assert isinstance(message, Renew)
        nodes.leases[A].receive(nodes.now, nodes.now, node, Renewed(message.nonce, False, []))
    assert nodes.leases[A].held(start + HELD, P) is None


def test_renewing_is_one_message_for_each_pair_of_nodes(nodes: Nodes) -> None:
    partitions = [PartitionId(n.to_bytes(10, "big")) for n in range(50)]
    for partition in partitions:
        nodes.want(A, partition=partition)
    nodes.run(1.0)
    nodes.sent.clear()
    nodes.run(0.5)
    renewals = [m for sender, to, m in nodes.sent if isinstance(m, Renew) and to == B]
    assert 1 <= len(renewals) <= 2
    assert all(not m.pairs for m in renewals)
    assert all(nodes.leads(A, partition) for partition in partitions)


def test_a_release_names_who_is_next(nodes: Nodes) -> None:
    nodes.want(A)
    nodes.leases[A].release(P, B)
    nodes.settle()
    nodes.want(C)
    assert not nodes.leads(C)
    nodes.want(B)
    assert nodes.leads(B)


def test_a_home_that_hears_of_the_release_behind_the_claim_grants_all_the_same(nodes: Nodes) -> None:
    """It denies, and follows who leads by now; that it does not renew must not end the lease."""
    nodes.want(A)
    nodes.away = {C}
    nodes.leases[A].release(P, B)
    nodes.settle()
    nodes.want(B)
    assert nodes.leads(B)
    nodes.away = set()
    nodes.grants[C].promise_at_least(P, LeaseNumber(2, B))
    nodes.run(1.0)
    nodes.away = {A}
    nodes.run(5.0)
    assert nodes.leads(B)
    assert [e.number for e in nodes.seen if isinstance(e, Lost)] == [(1, A)]


def test_a_claim_under_way_can_be_given_up(nodes: Nodes) -> None:
    nodes.leases[A].want(nodes.now, P, ABC)
    assert nodes.leases[A].all() == [P]
    for effect in nodes.leases[A].take_effects():
        nodes._do(A, effect)  # granted by itself; the others are asked
    nodes.leases[A].release(P)
    assert nodes.leases[A].all() == []
    nodes.settle()
    assert not nodes.leads(A)
    nodes.want(B)
    assert nodes.leads(B)


def test_a_change_of_homes_is_agreed_to_and_told(nodes: Nodes) -> None:
    nodes.want(A)
    assert not nodes.leases[A].propose(nodes.now, P, ABC.new)
    assert nodes.leases[A].propose(nodes.now, P, (A, B, D))
    assert not nodes.leases[A].propose(nodes.now, P, (A, B))
    nodes.settle()
    changed = [e.record for e in nodes.seen if isinstance(e, HomesChanged)]
    assert [r.new for r in changed] == [(A, B, D)] * 2, "in force, and known by most new homes"
    for node in (A, B, C, D):
        promise = nodes.grants[node].find(P)
        assert promise is not None
        assert promise.record == changed[0]
    nodes.away = {B, C}
    nodes.run(10.0)
    assert nodes.leads(A)  # with D, which renews since it agreed


def test_a_change_of_homes_is_known_once_most_new_homes_have_it_on_disk() -> None:
    changed = HomeSet.first((A, B, C)).change(LeaseNumber(1, A), (A, B, D)).commit()
    lease = Lease(Attempt(LeaseNumber(1, A), 0, 0.0, changed), 0.0)
    lease.untold = dict.fromkeys((A, B, C, D))
    assert not lease.known
    assert [lease.confirmed(node) for node in (C, A, B, D)] == [False, False, True, False]
    assert lease.known


def test_who_alone_knew_the_new_homes_may_be_gone_once_another_leads_them(nodes: Nodes) -> None:
    nodes.want(A, HomeSet.first((A,)))
    nodes.lost = {(B, Committed)}
    nodes.leases[A].propose(nodes.now, P, (B,))
    nodes.settle()
    nodes.leases[A].release(P, B)
    nodes.run(LEASE + 0.1)  # of the old homes A is not told that the lease is over
    nodes.lost = set()
    nodes.want(B)
    assert nodes.leads(B)
    nodes.away = {A}
    nodes.restart(B)
    nodes.run(LEASE + 0.1)
    nodes.want(B)
    assert nodes.leads(B), "it has no majority of the old homes"


def test_new_homes_are_not_known_because_one_node_that_is_none_showed_them(nodes: Nodes) -> None:
    nodes.want(A)
    nodes.lost = {(n, Committed) for n in (B, C, D)}
    nodes.leases[A].propose(nodes.now, P, (B, C, D))
    nodes.settle()
    nodes.leases[A].release(P, B)
    nodes.settle()
    nodes.away = {D}
    nodes.lost = {(B, Committed), (C, Committed)}
    nodes.want(B)
    assert nodes.leads(B)
    assert not nodes.leases[B].known(P), "it is on the disk of a former home"
    nodes.seen.clear()
    nodes.lost = {(C, Committed)}
    nodes.run(0.5)
    assert not nodes.leases[B].known(P), "and on that of one of three new homes"
    nodes.lost = set()
    nodes.run(0.5)
    assert nodes.leases[B].known(P)
    assert [e.record.new for e in nodes.seen if isinstance(e, HomesChanged)] == [(B, C, D)]


def test_new_homes_are_known_if_most_of_them_showed_them(nodes: Nodes) -> None:
    nodes.want(A)
    nodes.leases[A].propose(nodes.now, P, (A, B, D))
    nodes.settle()
    nodes.leases[A].release(P, B)
    nodes.settle()
    nodes.away = {A, C}
    nodes.sent.clear()
    nodes.want(B)
    assert nodes.leads(B)
    assert nodes.leases[B].known(P)
    nodes.run(1.0)
    assert not any(isinstance(message, Committed) for _, _, message in nodes.sent), "nobody need be told"


def test_an_only_home_needs_nobody_until_it_has_company(nodes: Nodes) -> None:
    alone = HomeSet.first((A,))
    nodes.restart(A)
    nodes.want(A, alone)
    assert nodes.leads(A)
    nodes.now += 3600.0
    assert nodes.leads(A)
    nodes.leases[A].propose(nodes.now, P, (A, B))
    nodes.settle()
    nodes.run(5.0)
    assert nodes.leads(A)
    nodes.away = {B}
    nodes.run(LEASE + 0.5)
    assert not nodes.leads(A)


def test_an_only_home_that_is_cut_off_serves_no_more_where_it_may_be_forgotten(nodes: Nodes) -> None:
    alone = HomeSet.first((A,))
    nodes.want(A, alone)
    grants = nodes.grants[A]
    grants.isolated = True
    nodes.run(LEASE)
    assert nodes.leads(A), "of two members none is forgotten unasked"
    grants.few = False
    nodes.run(LEASE)
    assert not nodes.leads(A)
    nodes.want(A, alone)
    assert not nodes.leads(A)
    grants.isolated = False
    nodes.run(LEASE)
    nodes.want(A, alone)
    assert nodes.leads(A)


@pytest.mark.parametrize("restarts", [False, True])
def test_homes_that_are_cut_off_renew_nothing_that_they_granted_before(
    nodes: Nodes, *, restarts: bool
) -> None:
    nodes.want(A)
    nodes.run(1.0)
    for node in (B, C):
        if restarts:
            nodes.restart(node)
        nodes.grants[node].isolated = True
    assert nodes.leads(A)
    nodes.run(LEASE)
    assert not nodes.leads(A)
    for node in (B, C):
        nodes.grants[node].isolated = False
    nodes.run(LEASE)
    nodes.want(A)
    assert nodes.leads(A)


def test_an_only_home_that_granted_to_another_keeps_silent_after_a_restart(nodes: Nodes) -> None:
    nodes.want(A, HomeSet.first((A,)))
    nodes.leases[A].propose(nodes.now, P, (B,))
    nodes.settle()
    assert nodes.leads(A)  # no home any more, but the lease goes on
    nodes.restart(B)
    nodes.want(B)
    assert not nodes.leads(B)


def test_an_unfinished_change_is_finished_before_serving(nodes: Nodes) -> None:
    nodes.want(A)
    nodes.leases[A].propose(nodes.now, P, (A, B, D))
    (proposal,) = [e for e in nodes.leases[A].take_effects() if isinstance(e, ToPeer) and e.node == B]
    nodes.leases[B].receive(nodes.now, nodes.now, A, proposal.message)
    nodes.leases[B].take_effects()  # B agrees; A crashes before it hears so
    nodes.restart(A)
    nodes.away = {A}
    nodes.run(LEASE + 0.1)
    nodes.seen.clear()
    nodes.want(C)
    serving = nodes.seen.index(Serving(P, LeaseNumber(2, C)))
    changed = next(e for e in nodes.seen if isinstance(e, HomesChanged))
    assert changed.record.new == (A, B, D)
    assert nodes.seen.index(changed) < serving


def test_answers_to_an_earlier_attempt_do_not_count(nodes: Nodes) -> None:
    leases = nodes.leases[A]
    leases.want(nodes.now, P, ABC)
    (own,) = leases.take_effects()
    assert isinstance(own, ToPeer)
    assert isinstance(own.message, Claim)
    for sender in (A, B, C):
        leases.receive(nodes.now, 0.0, sender, Granted(P, 1, own.message.nonce ^ 1, ABC.fields()))
        leases.receive(nodes.now, 0.0, sender, Denied(P, 1, own.message.nonce ^ 1, 9, B, b""))
    assert leases.take_effects() == []
    assert leases.claiming(P)


def test_a_message_of_another_kind_is_not_taken(nodes: Nodes) -> None:
    assert not nodes.leases[A].receive(0.0, 0.0, B, Message())
    assert nodes.leases[A].receive(0.0, 0.0, B, Release(P, 1, b""))


def calls(work: Callable[[], None]) -> int:
    """Return how many functions `work` calls: what it costs, whatever else the machine does."""
    made = 0

    def look(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(before)
    return made


@pytest.mark.slow
def test_ten_thousand_leases_cost_little() -> None:
    nodes = Nodes()
    for n in range(10_000):
        others = [(B, C), (C, D), (B, D), (D, C)][n % 4]
        nodes.leases[A].want(nodes.now, PartitionId(n.to_bytes(10, "big")), HomeSet.first((A, *others)))
    nodes.settle()
    costs = []
    for _ in range(15):
        nodes.now += 0.41
        costs.append(calls(lambda: nodes.leases[A].tick(nodes.now)))
        nodes.settle()
    assert len(nodes.leases[A]) == 10_000
    # One look at each, and at every fourth or fifth tick all ends are worked out anew: about 10 ms.
    assert sorted(costs)[len(costs) // 2] < 2 * 10_000
    assert max(costs) < 15 * 10_000
