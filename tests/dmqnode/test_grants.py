"""What a node promises, and what it refuses to."""

from __future__ import annotations

import math

import pytest

from dmqnode.errors import ProtocolError
from dmqnode.grants import GRANTS, LEASE, NOBODY, RESERVED, Grants
from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.lease_effects import Persist, ToPeer
from dmqnode.peer_messages import Agreed, Claim, Committed, Denied, Granted, Propose, Release, Renew, Renewed
from dmqnode.renewals import PairSet

A, B, C, D = (NodeId(bytes([n]) * 8) for n in range(1, 5))
P, Q = (PartitionId(bytes([n]) * 10) for n in (1, 2))
ABC = HomeSet.first((A, B, C))


def granting(silent_until: float = -1.0, *, ready: bool = True) -> Grants:
    return Grants(A, silent_until, lambda *_: ready)


def claim(n: int, nonce: int = 5, record: HomeSet = ABC) -> Claim:
    return Claim(P, n, nonce, record.fields())


def digest(*pairs: tuple[PartitionId, int]) -> bytes:
    held = PairSet()
    for partition, n in pairs:
        held.put(partition, n)
    return held.digest


def test_a_grant_is_on_disk_before_it_is_said_and_echoes_the_nonce() -> None:
    grants = granting()
    effect = grants.on_claim(1.0, B, claim(1, nonce=77))
    assert isinstance(effect, Persist)
    assert effect.then == (ToPeer(B, Granted(P, 1, 77, ABC.fields())),)
    ((key, record),) = effect.ops
    assert key == GRANTS + P
    again = granting()
    assert record is not None
    again.load(P, record)
    loaded = again.find(P)
    assert loaded is not None
    assert (loaded.highest, loaded.record, loaded.holder) == (LeaseNumber(1, B), ABC, NOBODY)


def test_a_running_lease_a_higher_number_and_silence_are_refused() -> None:
    grants = granting(silent_until=2.0)
    silent = grants.on_claim(1.9, B, claim(1))
    assert silent == ToPeer(B, Denied(P, 1, 5, 0, bytes(8), NOBODY))
    assert isinstance(grants.on_claim(2.0, B, claim(3)), Persist)
    assert grants.on_claim(3.0, C, claim(4)) == ToPeer(C, Denied(P, 4, 5, 3, B, B))
    over = 2.0 + LEASE
    assert grants.on_claim(over, C, claim(2)) == ToPeer(C, Denied(P, 2, 5, 3, B, NOBODY))
    assert isinstance(grants.on_claim(over, C, claim(3)), Persist)  # (3, C) is above (3, B)
    assert isinstance(grants.on_claim(over, C, claim(3, nonce=6)), Persist)


def test_renewing_is_by_the_hash_of_what_is_held() -> None:
    grants = granting()
    grants.on_claim(1.0, B, claim(1))
    grants.on_claim(1.0, B, Claim(Q, 4, 5, ABC.fields()))
    unknown = ToPeer(B, Renewed(9, True, []))
    assert grants.on_renew(2.0, B, Renew(9, digest((P, 1)), [])) == unknown
    assert grants.on_renew(2.0, C, Renew(9, digest((P, 1), (Q, 4)), [])) == ToPeer(C, Renewed(9, True, []))
    promise = grants.find(P)
    assert promise is not None
    assert promise.until == 1.0 + LEASE
    assert grants.on_renew(2.0, B, Renew(9, digest((Q, 4), (P, 1)), [])) == ToPeer(B, Renewed(9, False, []))
    assert promise.until == 2.0 + LEASE
    named = Renew(9, bytes(16), [(P, 1), (Q, 3)])
    assert grants.on_renew(2.5, B, named) == ToPeer(B, Renewed(9, False, [Q]))
    # What is not named any more is forgotten only once it is over.
    assert grants.on_renew(2.6, B, Renew(9, digest((P, 1)), [])) == unknown
    grants.on_renew(2.0 + LEASE, B, Renew(9, bytes(16), [(P, 1)]))
    assert grants.on_renew(4.5, B, Renew(9, digest((P, 1)), [])) == ToPeer(B, Renewed(9, False, []))


def test_a_release_frees_the_lease_for_the_successor_first() -> None:
    grants = granting()
    grants.on_claim(1.0, B, claim(1))
    grants.on_release(1.1, C, Release(P, 1, C))
    grants.on_release(1.1, B, Release(P, 2, C))
    assert isinstance(grants.on_claim(1.2, C, claim(2)), ToPeer)
    grants.on_release(1.3, B, Release(P, 1, C))
    assert isinstance(grants.on_claim(1.4, D, claim(2)), ToPeer)
    assert isinstance(grants.on_claim(1.4, C, claim(2)), Persist)
    grants.on_release(1.5, C, Release(P, 2, D))
    assert isinstance(grants.on_claim(1.5 + RESERVED, B, claim(3)), Persist)


def test_writes_of_a_lease_that_was_passed_are_refused() -> None:
    grants = granting()
    assert grants.accepts(P, LeaseNumber(1, B))
    grants.on_claim(1.0, C, claim(2))
    assert not grants.accepts(P, LeaseNumber(2, B))
    assert grants.accepts(P, LeaseNumber(2, C))
    assert grants.accepts(P, LeaseNumber(3, A))


def test_agreeing_waits_for_the_copy_and_is_a_grant() -> None:
    proposed = ABC.change(LeaseNumber(3, B), (A, B, D))
    propose = Propose(P, 3, proposed.fields(), 8)
    grants = granting(ready=False)
    grants.promise(P, ABC)
    assert grants.on_propose(1.0, B, propose) is None
    promise = grants.find(P)
    assert promise is not None
    assert (promise.record, promise.until) == (ABC, -math.inf)
    grants._ready = lambda partition, number, mark: (partition, number, mark) == (P, LeaseNumber(3, B), 8)
    effect = grants.on_propose(1.0, B, propose)
    assert isinstance(effect, Persist)
    assert effect.then == (ToPeer(B, Agreed(P, 3, proposed.fields())),)
    assert (promise.record, promise.holder, promise.until) == (proposed, B, 1.0 + LEASE)
    assert isinstance(grants.on_claim(2.0, C, claim(4)), ToPeer)
    assert isinstance(grants.on_propose(2.0, C, Propose(P, 2, proposed.fields(), 8)), ToPeer)


def test_who_grants_forms_no_homes_but_keeps_those_that_it_is_shown() -> None:
    grants = granting()
    grants.promise(P, ABC)
    grants.reform = lambda partition, record: HomeSet(record.version + 1, NO_LEASE, (A, D), (A, D), True)
    shown = HomeSet(2, NO_LEASE, (A, B), (A, B), True)
    effect = grants.on_claim(1.0, B, Claim(P, 1, 5, shown.fields()))
    assert isinstance(effect, Persist)
    assert effect.then == (ToPeer(B, Granted(P, 1, 5, shown.fields())),)
    unfinished = ABC.change(LeaseNumber(9, B), (B, D))
    grants.on_claim(1.0, B, Claim(P, 2, 5, unfinished.fields()))
    assert grants.promise(P, ABC).record == shown, "a change needs the copy (H3)"
    assert grants.form(P, ABC).record == HomeSet(3, NO_LEASE, (A, D), (A, D), True)


def test_a_former_home_keeps_the_record() -> None:
    grants = granting()
    grants.on_claim(1.0, B, claim(3))
    committed = ABC.change(LeaseNumber(3, B), (B, C, D)).commit()
    effect = grants.on_committed(1.0, B, Committed(P, 3, committed.fields()))
    assert isinstance(effect, Persist)
    old = ABC.change(LeaseNumber(2, C), (A, D)).commit()
    assert grants.on_committed(1.0, C, Committed(P, 2, old.fields())) is not None
    promise = grants.find(P)
    assert promise is not None
    assert (promise.record, promise.highest) == (committed, LeaseNumber(3, B))


def test_a_home_that_missed_the_proposal_grants_when_it_hears_of_the_set() -> None:
    grants = granting()
    committed = HomeSet.first((B, C)).change(LeaseNumber(3, B), (A, B)).commit()
    grants.on_committed(1.0, B, Committed(P, 3, committed.fields()))
    assert isinstance(grants.on_claim(1.5, C, claim(4)), ToPeer)
    assert grants.on_renew(1.5, B, Renew(9, digest((P, 3)), [])) == ToPeer(B, Renewed(9, False, []))


def test_a_deleted_partition_is_forgotten() -> None:
    grants = granting()
    grants.on_claim(1.0, B, claim(1))
    assert list(grants.forget(P)) == [(GRANTS + P, None)]
    assert list(grants) == []
    assert grants.on_renew(1.0, B, Renew(9, digest(), [])) == ToPeer(B, Renewed(9, False, []))


def test_what_is_no_home_set_is_refused() -> None:
    bad: tuple[int, int, bytes, list[bytes], list[bytes], bool] = (0, 0, b"", [], [], False)
    with pytest.raises(ProtocolError):
        granting().on_claim(1.0, B, Claim(P, 1, 1, bad))
    with pytest.raises(ProtocolError):
        granting().on_propose(1.0, B, Propose(P, 1, bad, 0))
