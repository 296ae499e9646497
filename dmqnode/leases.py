"""The holding side of leases: claims, renewals, changes of home sets.

    IDLE ──want──> CLAIMING ──majority──> HELD ──merged──> SERVING ──release, time over, higher number──> IDLE
                                           └─ an unfinished home set is first brought to its end (H2) ─┘

A lease is believed only as long as a majority of the homes has promised it, counted from before the request
left (L4).  Renewal is one message for each pair of nodes, whatever the number of leases.  The core never
awaits; messages to this node itself go through the same effects as those to others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from dmqnode.grants import NOBODY, Grants
from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber, read_home_set
from dmqnode.ids import NodeId, PartitionId
from dmqnode.lease_effects import (
    Acquired,
    Denial,
    Effect,
    HomesChanged,
    Lost,
    Persist,
    Serving,
    ToPeer,
)
from dmqnode.lease_states import HELD, Attempt, Lease
from dmqnode.messages import Message
from dmqnode.peer_messages import Agreed, Claim, Committed, Denied, Granted, Propose, Release, Renew, Renewed
from dmqnode.renewals import Renewals

RENEW_EVERY = 0.4
"""Seconds between renewals, and between proposals to a node that does not agree."""
BACK_OFF = (0.1, 0.5)
"""Seconds after a denied claim before the next, drawn at random (L5)."""


class Leases:
    """Every lease that this node holds or claims.

    Arguments:
        me: this node.
        grants: what it has promised, its own leases included.
        rng: for nonces and for waiting.
        mark: tells where the record of a partition led here has come to; a home that is there has on disk
            all that was answered until now (H3).
    """

    def __init__(
        self, me: NodeId, grants: Grants, rng: random.Random, mark: Callable[[PartitionId], int]
    ) -> None:
        self._me = me
        self._grants = grants
        self._rng = rng
        self._mark = mark
        self._held: dict[PartitionId, Lease] = {}
        self._claims: dict[PartitionId, Attempt] = {}
        self._not_before: dict[PartitionId, float] = {}
        self.seen: dict[PartitionId, LeaseNumber] = {}
        """The highest number of others that a claim was denied for; the next claim is above it."""
        self._renewals = Renewals(rng)
        self._effects: list[Effect] = []
        self._next_renewal = -math.inf

    # --- asking about leases -------------------------------------------------------------------------

    def held(self, fast: float, partition: PartitionId) -> Lease | None:
        """Return the lease of a partition if this node holds it at this very moment."""
        lease = self._held.get(partition)
        return lease if lease is not None and self._runs(fast, lease) else None

    def leads(self, fast: float, partition: PartitionId, number: LeaseNumber) -> bool:
        """Tell whether the lease of this number is held and serving now (L4, P6)."""
        lease = self.held(fast, partition)
        return lease is not None and lease.serving and lease.number == number

    def counted(self, partition: PartitionId) -> HomeSet | None:
        """Return the home set whose majorities count for a lease held here, None if none is held."""
        lease = self._held.get(partition)
        return None if lease is None else lease.counted

    def known(self, partition: PartitionId) -> bool:
        """Tell whether most homes of a partition whose lease is held have on disk that they are these."""
        lease = self._held.get(partition)
        return lease is not None and lease.known

    def __len__(self) -> int:
        return len(self._held)

    def all(self) -> list[PartitionId]:
        """Return the partitions whose leases this node holds or claims."""
        return [*self._held, *self._claims]

    def _runs(self, fast: float, lease: Lease) -> bool:
        if fast < lease.until or self._alone(lease):
            return True
        self._count(lease)
        return fast < lease.until

    def _alone(self, lease: Lease) -> bool:
        """Tell whether only this node could grant the lease to another, and is not forgotten unknowingly."""
        return self._grants.few and lease.counted.members == (self._me,)

    def _count(self, lease: Lease) -> None:
        """Work out until when a majority has promised.

        What was confirmed once stays promised, also by a node that then stops to renew.
        """
        moment = min(self._renewals.moment(homes, lease.barred) for homes in lease.counted.sets)
        if moment > lease.since:
            lease.until = max(lease.until, moment + HELD)

    def _bar(self, partition: PartitionId, lease: Lease, node: NodeId) -> None:
        """Count no more on a node that does not renew this lease."""
        self._count(lease)
        lease.barred[node] = math.inf
        self._renewals.remove(node, partition)

    # --- claiming ------------------------------------------------------------------------------------

    def want(self, fast: float, partition: PartitionId, record: HomeSet, *, offered: bool = False) -> None:
        """Claim a lease unless it is held, being claimed, or was denied a moment ago.

        Arguments:
            record: the partition's first home set, where this node knows none.
            offered: its holder has made way for this node: no need to wait after a denial.
        """
        if partition in self._held or partition in self._claims:
            return
        if fast < self._not_before.get(partition, -math.inf) and not offered:
            return
        promise = self._grants.form(partition, record)
        number = max(promise.highest, self.seen.get(partition, NO_LEASE)).above(self._me)
        claim = Attempt(number, self._rng.getrandbits(48), fast, promise.record)
        self._claims[partition] = claim
        # This node first: its number is on disk before anybody else hears of it, so that no two runs of this
        # node use the same; and while it may not grant, it does not stand in the way of those who may.
        self._ask(partition, claim, (self._me,))

    def claiming(self, partition: PartitionId) -> bool:
        """Tell whether a claim is under way."""
        return partition in self._claims

    def _ask(self, partition: PartitionId, claim: Attempt, nodes: tuple[NodeId, ...]) -> None:
        message = Claim(partition, claim.number.n, claim.nonce, claim.record.fields())
        for node in nodes:
            if node not in claim.asked:
                claim.asked[node] = None
                self._effects.append(ToPeer(node, message))

    def _on_granted(self, fast: float, sender: NodeId, granted: Granted) -> None:
        claim = self._claims.get(granted.partition)
        if claim is None or (claim.number.n, claim.nonce) != (granted.n, granted.nonce):
            return  # an answer to an earlier attempt does not count (L2)
        if fast - claim.started >= HELD:
            return
        claim.granted[sender] = record = read_home_set(granted.record)
        if record.newer_than(claim.record):
            claim.record = record
            self._grants.learn(granted.partition, record)
        self._ask(granted.partition, claim, claim.record.members)
        if not claim.record.has_majority(claim.granted):
            return
        if self._me in claim.record.members:
            self._acquire(fast, granted.partition, claim)
        else:
            self._give_up_claim(fast, granted.partition, NOBODY)

    def _acquire(self, fast: float, partition: PartitionId, claim: Attempt) -> None:
        del self._claims[partition]
        self.seen.pop(partition, None)
        lease = self._held[partition] = Lease(claim, fast)
        for node in claim.record.members:
            self._renewals.add(node, partition, lease.number.n)
        promise = self._grants.promise(partition, claim.record)
        if claim.record.newer_than(promise.record):
            promise.record = claim.record
        self._effects.append(Acquired(partition, lease.number, lease.record))
        self._tell(partition, lease)

    def _on_denied(self, fast: float, sender: NodeId, denied: Denied) -> None:
        highest = LeaseNumber(denied.highest, NodeId(denied.highest_node))
        lease = self._held.get(denied.partition)
        if lease is not None and lease.number.n == denied.n and highest > lease.number:
            self._bar(denied.partition, lease, sender)
            self.seen[denied.partition] = max(highest, self.seen.get(denied.partition, NO_LEASE))
        claim = self._claims.get(denied.partition)
        if claim is None or (claim.number.n, claim.nonce) != (denied.n, denied.nonce):
            return
        self.seen[denied.partition] = max(highest, self.seen.get(denied.partition, NO_LEASE))
        claim.denied[sender] = None
        if sender == self._me or claim.hopeless:
            self._give_up_claim(fast, denied.partition, NodeId(denied.holder))

    def _give_up_claim(self, fast: float, partition: PartitionId, holder: NodeId) -> None:
        self._not_before[partition] = fast + self._rng.uniform(*BACK_OFF)
        self._effects.append(Denial(partition, holder))
        # What was granted must not stand in the way of others, who may be waiting for it in turn.
        self.release(partition)

    # --- serving, releasing --------------------------------------------------------------------------

    def merged(self, fast: float, partition: PartitionId, number: LeaseNumber) -> None:
        """The copy has everything that a majority of the homes had: serve, or first finish a change (H2)."""
        lease = self._held.get(partition)
        if lease is None or lease.number != number or lease.serving or lease.proposal is not None:
            return
        if lease.record.committed:
            self._serve(partition, lease)
        else:
            self._propose(fast, partition, lease, lease.record.renewed(lease.number))

    def _serve(self, partition: PartitionId, lease: Lease) -> None:
        lease.serving = True
        self._effects.append(Serving(partition, lease.number))

    def release(self, partition: PartitionId, successor: NodeId = NOBODY) -> None:
        """Give a lease up, held or claimed; to `successor`, if named, which has what is to be kept (N2)."""
        claim, lease = self._claims.pop(partition, None), self._held.get(partition)
        told = [] if claim is None else [(node, claim.number.n) for node in claim.asked]
        if lease is not None:
            self._lose(partition)
            told += [(node, lease.number.n) for node in lease.counted.members]
        self._effects += [ToPeer(node, Release(partition, n, successor)) for node, n in told]

    def _lose(self, partition: PartitionId) -> None:
        lease = self._held.pop(partition)
        for node in lease.counted.members:
            self._renewals.remove(node, partition)
        self._effects.append(Lost(partition, lease.number))

    # --- changing the home set -----------------------------------------------------------------------

    def propose(self, fast: float, partition: PartitionId, homes: tuple[NodeId, ...]) -> bool:
        """Begin to change the home set; False if the lease is not serving or a change is under way.

        The new homes must have everything, and follow: only then they agree (H3).
        """
        lease = self.held(fast, partition)
        if lease is None or not lease.serving or lease.proposal is not None or not lease.record.committed:
            return False
        if changes := homes != lease.record.new:
            self._propose(fast, partition, lease, lease.record.change(lease.number, homes))
        return changes

    def _propose(self, fast: float, partition: PartitionId, lease: Lease, record: HomeSet) -> None:
        # What the old set has promised goes on to count; those who were no homes count once they agree.
        if self._alone(lease):
            lease.until = fast + HELD
        self._count(lease)
        for node in record.members:
            if node not in lease.record.members:
                lease.barred[node] = math.inf
        lease.proposal = record
        lease.mark = self._mark(partition)
        lease.agreed = {}
        self._repeat_proposal(partition, lease)

    def _repeat_proposal(self, partition: PartitionId, lease: Lease) -> None:
        record = lease.proposal
        assert record is not None
        message = Propose(partition, lease.number.n, record.fields(), lease.mark)
        for node in record.members:
            if node not in lease.agreed:
                self._effects.append(ToPeer(node, message))

    def _on_agreed(self, fast: float, sender: NodeId, agreed: Agreed) -> None:
        lease, record = self.held(fast, agreed.partition), read_home_set(agreed.record)
        if lease is None or lease.number.n != agreed.n or record.age != lease.counted.age:
            return
        if lease.barred.get(sender) == math.inf and sender in lease.counted.members:
            # Who agrees grants, be it late: renewals that leave from now on count again.
            lease.barred[sender] = fast
            self._renewals.add(sender, agreed.partition, lease.number.n)
        if record.committed and lease.confirmed(sender):
            self._effects.append(HomesChanged(agreed.partition, lease.record))
        elif not record.committed and lease.proposal is not None:
            lease.agreed[sender] = None
            if lease.proposal.has_majority(lease.agreed):
                self._commit(agreed.partition, lease, lease.proposal)

    def _commit(self, partition: PartitionId, lease: Lease, proposal: HomeSet) -> None:
        lease.record = proposal.commit()
        lease.proposal = None
        lease.untold = dict.fromkeys(proposal.members)
        for node in proposal.members:
            if node not in lease.record.members:
                self._renewals.remove(node, partition)
        self._tell(partition, lease)
        self._effects.append(HomesChanged(partition, lease.record))
        if not lease.serving:
            self._serve(partition, lease)

    def _tell(self, partition: PartitionId, lease: Lease) -> None:
        message = Committed(partition, lease.number.n, lease.record.fields())
        self._effects += [ToPeer(node, message) for node in lease.untold]

    # --- renewing ------------------------------------------------------------------------------------

    def _on_renewed(self, fast: float, sender: NodeId, renewed: Renewed) -> None:
        left_at = self._renewals.left_at(sender, renewed)
        if left_at is None:
            return
        if renewed.unknown:
            self._effects += self._renewals.named(fast, sender)
            return
        for partition in renewed.refused:
            lease = self._held.get(partition)
            # Only a lease that was in that list can have been refused.
            if lease is not None and left_at > max(lease.since, lease.barred.get(sender, -math.inf)):
                self._bar(partition, lease, sender)
                if lease.record.committed and lease.proposal is None and sender in lease.record.new:
                    lease.untold[sender] = None  # denied before it heard of a release: it grants as it agrees
        self._renewals.confirm(sender, left_at)

    # --- the crank -----------------------------------------------------------------------------------

    def receive(self, fast: float, slow: float, sender: NodeId, message: Message) -> bool:
        """Take in a message of a peer; tell whether it was one of leases.  Errors: ProtocolError."""
        match message:
            case Granted():
                self._on_granted(fast, sender, message)
            case Denied():
                self._on_denied(fast, sender, message)
            case Renewed():
                self._on_renewed(fast, sender, message)
            case Agreed():
                self._on_agreed(fast, sender, message)
            case Claim() | Renew() | Release() | Propose() | Committed():
                self._promise(fast, slow, sender, message)
            case _:
                return False
        return True

    def _promise(
        self,
        fast: float,
        slow: float,
        sender: NodeId,
        message: Claim | Renew | Release | Propose | Committed,
    ) -> None:
        grants = self._grants
        effect: Effect | None = None
        match message:
            case Claim():
                effect = grants.on_claim(slow, sender, message)
                if isinstance(effect, Persist):
                    self._overtaken(fast, message.partition, LeaseNumber(message.n, sender))
            case Propose():
                effect = grants.on_propose(slow, sender, message)
                if isinstance(effect, Persist):
                    self._overtaken(fast, message.partition, LeaseNumber(message.n, sender))
            case Renew():
                effect = grants.on_renew(slow, sender, message)
            case Committed():
                effect = grants.on_committed(slow, sender, message)
                self._overtaken(fast, message.partition, LeaseNumber(message.n, sender))
            case Release():
                grants.on_release(slow, sender, message)
        if effect is not None:
            self._effects.append(effect)

    def _overtaken(self, fast: float, partition: PartitionId, number: LeaseNumber) -> None:
        """This node has promised a later lease: its own of that partition, held or claimed, is over."""
        lease = self._held.get(partition)
        if lease is not None and lease.number < number:
            self._lose(partition)
        claim = self._claims.get(partition)
        if claim is not None and claim.number < number:
            self._give_up_claim(fast, partition, number.node)

    def tick(self, fast: float) -> None:
        """Do what is due: lose what is over, renew, repeat what was not answered."""
        if fast < self._next_renewal:
            return
        self._next_renewal = fast + RENEW_EVERY
        for partition in [p for p, le in self._held.items() if not self._runs(fast, le)]:
            self._lose(partition)
        for partition in [p for p, c in self._claims.items() if fast - c.started >= c.patience]:
            self._give_up_claim(fast, partition, NOBODY)
        for partition in [p for p, at in self._not_before.items() if at <= fast]:
            del self._not_before[partition]
        self._effects += self._renewals.due(fast)
        for partition, lease in self._held.items():
            if lease.proposal is not None:
                self._repeat_proposal(partition, lease)
            elif lease.untold:
                self._tell(partition, lease)

    def next_deadline(self) -> float:
        """Return when `tick` is to be called (holder's time), math.inf for never."""
        return self._next_renewal if self._held or self._claims else math.inf

    def take_effects(self) -> list[Effect]:
        """Return, once, what is to be done, in order."""
        effects, self._effects = self._effects, []
        return effects
