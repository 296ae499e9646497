"""What this node believes of each member, and how claims change it.

What this node is told of itself it answers, by a higher incarnation: that is the only way back from being
suspect or dead (SWIM §4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gossip.agenda import Agenda
from gossip.awareness import Awareness
from gossip.config import SwimConfig
from gossip.effects import Changed, Twin
from gossip.meeting import Meeting
from gossip.members import Entry, Members
from gossip.messages import (
    CLAIMED,
    Alive,
    Claim,
    Dead,
    Known,
    Left,
    Member,
    NodeId,
    Status,
    Suspect,
    supersedes,
)
from gossip.outbox import Outbox
from gossip.rumours import Rumours
from gossip.suspicion import Suspicion


class Beliefs:
    """Applies claims to the list of members, and passes on those that were news.

    Arguments:
        me: this node; its incarnation rises here.
        suspected: called with (now, entry) when another node's suspicion of a member was news.
    """

    def __init__(
        self,
        me: Member,
        config: SwimConfig,
        members: Members,
        rumours: Rumours,
        agenda: Agenda,
        awareness: Awareness,
        meeting: Meeting,
        outbox: Outbox,
        suspected: Callable[[float, Entry], None],
    ) -> None:
        self.me = me
        self.remember = False
        """Whether the addresses to keep have changed."""
        self._config = config
        self._members = members
        self._rumours = rumours
        self._agenda = agenda
        self._awareness = awareness
        self._meeting = meeting
        self._outbox = outbox
        self._suspected = suspected
        self._twin_told = False

    # --- claims ----------------------------------------------------------------------------------------

    def alive(self, now: float, member: Member, *, spread: bool = True) -> None:
        """A member says (through others, perhaps) that it is there.

        Arguments:
            spread: whether to pass it on where it is news.
        """
        if member.id == self.me.id:
            self._alive_me(member)
            return
        entry = self._members.get(member.id)
        if entry is None:
            if not self._add(member, Status.ALIVE, now):
                return
        elif supersedes(Status.ALIVE, member.incarnation, entry.status, entry.member.incarnation):
            if entry.member.address != member.address:
                self.remember |= self._meeting.drop(entry.member.address)
            entry.member = member
            self._move(now, entry, Status.ALIVE)
        else:
            return
        self.remember |= self._meeting.heard(member.address)
        if spread:
            self._rumours.put(Alive(member))

    def claim(self, now: float, claim: Claim) -> None:
        """Somebody says that a member is suspect, dead or has left."""
        if claim.node == self.me.id:
            self._refute(claim.incarnation)
            return
        entry = self._members.get(claim.node)
        if entry is None:
            return  # A state will tell of it, with its address.
        if isinstance(claim, Suspect) and self._confirm(now, entry, claim):
            return
        status = CLAIMED[type(claim)]
        if not supersedes(status, claim.incarnation, entry.status, entry.member.incarnation):
            return
        if claim.incarnation > entry.member.incarnation:
            entry.member = replace(entry.member, incarnation=claim.incarnation)
        if isinstance(claim, Suspect):
            self._begin_suspicion(now, entry, claim.source)
        self._move(now, entry, status)
        if status is Status.LEFT:
            self.remember |= self._meeting.drop(entry.member.address)
        self._rumours.put(claim)
        if isinstance(claim, Suspect) and claim.source != self.me.id:
            self._suspected(now, entry)

    def merge(self, now: float, known: Known, source: NodeId, *, spread: bool) -> None:
        """Another node knows this of a member.

        Its word that one is dead counts as its suspicion only: the member may be cut off from it, not from
        this node. So when two halves of a split meet, everybody gets the time to refute.
        """
        member, status = known.member, known.status
        entry = self._members.get(member.id)
        if member.id == self.me.id:
            if status is Status.ALIVE:
                self._alive_me(member)
            else:
                self._refute(member.incarnation)
        elif entry is None and status >= Status.DEAD:
            self._add_absent(now, member, status, now - known.age)
        elif entry is not None and not entry.present and status is Status.DEAD:
            if member.incarnation > entry.member.incarnation and entry.status is Status.DEAD:
                entry.member = member
        elif status is Status.LEFT:
            self.claim(now, Left(member.id, member.incarnation, source))
        else:
            self.alive(now, member, spread=spread)
            if status is not Status.ALIVE:
                self.claim(now, Suspect(member.id, member.incarnation, source))

    # --- others ----------------------------------------------------------------------------------------

    def _add(self, member: Member, status: Status, since: float) -> bool:
        entry, removed = self._members.add(member, status, since)
        if removed is not None:
            self._outbox.tell(Changed(removed.member, removed.status, None))
        if entry is None:
            self._outbox.counters.overflow += 1
            return False
        self._outbox.tell(Changed(member, None, status))
        return True

    def _add_absent(self, now: float, member: Member, status: Status, since: float) -> None:
        if since < now - self._config.forget_dead_after:
            return  # Else those who forget it at different times would remind each other for ever.
        if self._add(member, status, since) and status is Status.DEAD:
            self.remember |= self._meeting.heard(member.address)

    def _move(self, now: float, entry: Entry, status: Status) -> None:
        old = self._members.move(entry, status, now)
        self._outbox.tell(Changed(entry.member, old, status))

    def _begin_suspicion(self, now: float, entry: Entry, source: NodeId) -> None:
        size = self._members.size
        entry.suspicion = Suspicion(
            source,
            now,
            low=self._config.suspicion_low(size),
            high=self._config.suspicion_high(size),
            wanted=self._config.wanted_confirmations(size),
        )
        self._outbox.counters.suspicions += 1
        self._agenda.at(entry.suspicion.due, self._suspicion_due, entry.member.id)

    def _confirm(self, now: float, entry: Entry, claim: Suspect) -> bool:
        """Count a further accuser of a suspect; tell whether the claim was about a suspicion under way."""
        suspicion = entry.suspicion
        if suspicion is None or claim.incarnation != entry.member.incarnation:
            return False
        if suspicion.confirm(claim.source):
            self._rumours.put(claim)
            self._agenda.at(max(now, suspicion.due), self._suspicion_due, claim.node)
        return True

    def _suspicion_due(self, now: float, node: NodeId) -> None:
        entry = self._members.get(node)
        if entry is None or entry.suspicion is None:
            return
        if entry.suspicion.due <= now:
            self._outbox.counters.deaths += 1
            self.claim(now, Dead(node, entry.member.incarnation, self.me.id))

    def forget_before(self, time: float) -> None:
        """Forget whoever is dead or has left for so long; the addresses of the dead are kept elsewhere."""
        for entry in self._members.all():
            if not entry.present and entry.since < time:
                self._members.remove(entry)
                self._outbox.tell(Changed(entry.member, entry.status, None))

    # --- this node -------------------------------------------------------------------------------------

    def _alive_me(self, member: Member) -> None:
        if member.incarnation < self.me.incarnation or member == self.me:
            return
        if member.address != self.me.address:
            self.twin(member.address)
        self._refute(member.incarnation)

    def _refute(self, incarnation: int) -> None:
        if incarnation < self.me.incarnation:
            return
        self._outbox.counters.refutations += 1
        self._awareness.note(1)
        self.renew(replace(self.me, incarnation=incarnation + 1))

    def renew(self, me: Member) -> None:
        """Pass on a new record of this node."""
        self.me = me
        self._rumours.put(Alive(me))

    def twin(self, address: str) -> None:
        """Another process says it is this node."""
        if not self._twin_told:
            self._twin_told = True
            self._outbox.tell(Twin(address))

    def overslept(self, late: float) -> None:
        """This node did not run for so long: nobody could refute to it meanwhile."""
        for entry in self._members.all():
            if entry.suspicion is not None:
                entry.suspicion.prolong(late)
                self._agenda.at(entry.suspicion.due, self._suspicion_due, entry.member.id)
