"""Partitions whose homes were given up (M4), a majority of them or all: formed anew, if nobody knows better.

    known homes are gone ──AnyHomes──> every member ──HomesKnown: no later ones, all──> formed anew, claimed
                                                  └─ HomesKnown: yes ──> there are others: they lead

Who should be a home is computed from the list of members, and members that come later would compute others;
and what a node knows of the homes may be old: it was away while they changed, perhaps more than once.
So nobody claims before every member has said, at one and the same version of the list, that it knows of no
later homes; with a newer version this must be asked again, and who had such answers and has not claimed by
then has said no itself.

The same is asked before that, of homes without a majority whose dead members are none too many to be
forgotten: who asks tells the others who does not answer, and the leader of the list, if it has missed all
those for `dead_after`, too, forgets them (M2).  Who hears one of them again takes back what it told, and
is believed only over the link on which it told it: there it would have taken it back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from dmqnode.clock import Now
from dmqnode.homesets import MAX_HOMES, NO_LEASE, HomeSet, read_home_set
from dmqnode.ids import NodeId, PartitionId, QueueId
from dmqnode.messages import Message
from dmqnode.peer_messages import AnyHomes, Committed, HomesKnown
from dmqnode.roster import ROSTER, Roster

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

AGAIN = 1.0
"""Seconds after which those who have not answered are asked again."""
AT_ONCE = 1000
"""Partitions about which questions are under way."""
TELL_AT_ONCE = 10
"""Partitions of which it is told, in one step, that their homes have no majority: one is enough."""
BELIEVED = 120.0
"""Seconds for which it is believed, if not taken back, that somebody does not answer; it is told again."""


def reform(roster: Roster, record: HomeSet, wanted: Iterable[NodeId]) -> HomeSet:
    """Return the home set that is left when a majority of one was declared destroyed (M4).

    Those who should be homes now must agree, too: were they homes already, they know a newer record.
    """
    if not roster.destroyed or record.has_majority([n for n in record.members if n not in roster.destroyed]):
        return record
    left = [n for n in record.members if roster.find(n) is not None]
    homes = tuple(dict.fromkeys((*left, *wanted)))[:MAX_HOMES]
    return HomeSet(record.version + 1, NO_LEASE, homes, homes, True)


def reduced(roster: Roster, record: HomeSet, answers: Callable[[NodeId], bool]) -> HomeSet:
    """Return a home set without one of an even number of homes that is destroyed, if that helps (M4).

    Half of four is no majority, but two of the three that are left are one: none but the destroyed is missed.
    """
    if not roster.destroyed or record.has_majority([n for n in record.members if answers(n)]):
        return record
    smaller = record.without(roster.destroyed)
    helps = smaller.has_majority([n for n in smaller.members if answers(n)])
    return smaller if helps else record


class _Inquiry:
    __slots__ = ("again_at", "missing", "record", "version")

    def __init__(self, version: int, record: HomeSet, missing: dict[NodeId, None]) -> None:
        self.version = version
        self.record = record
        """The latest homes that this node knows."""
        self.missing = missing
        """Who has not said that it knows of no later ones."""
        self.again_at = -math.inf


class _Missed(NamedTuple):
    """What somebody says of homes without a majority."""

    version: int
    by: NodeId
    silent: tuple[NodeId, ...]
    """Who does not answer it, the homes first."""
    at: float
    """When this node was told so."""


class Orphans:
    """Finds out whether homes may be formed anew, and answers those who ask."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._inquiries: dict[PartitionId, _Inquiry] = {}
        self._missed: dict[PartitionId, _Missed] = {}
        self._silent: tuple[NodeId, ...] = ()
        """Who does not answer, where nobody is forgotten for that alone."""
        self._left = 0
        self._left_out = False
        """Whether partitions wait until there is less to be asked."""

    def begin(self) -> None:
        """A step of looks begins."""
        rosters, reachable = self._clustering.rosters, self._clustering.reachable
        nodes = rosters.current.nodes if rosters.scarce else ()
        self._silent = tuple(node for node in nodes if not reachable(node))
        self._left = TELL_AT_ONCE
        self._inquiries = {p: i for p, i in self._inquiries.items() if self._matters(p, i)}
        if self._left_out and len(self._inquiries) < AT_ONCE:
            self._left_out = False
            self._clustering.mender.changed()
        for partition, missed in list(self._missed.items()):
            if any(map(reachable, missed.silent)):
                del self._missed[partition]
                if missed.by == self._clustering.me:
                    self._tell(AnyHomes(partition, rosters.current.version, None, []))

    def homes(self, partition: PartitionId, first: HomeSet) -> HomeSet:
        """Return the first home set of a partition, or that which is to be formed if all homes are gone."""
        clustering, roster = self._clustering, self._clustering.rosters.current
        if not roster.destroyed:
            return first
        promise = clustering.cluster.grants.find(partition)
        known = first if promise is None else promise.record
        if any(node in roster.nodes for node in known.members):
            return first
        formed = clustering.cluster.grants.reform(partition, known)
        if formed is known:
            return first
        if clustering.me in formed.members and not self._sure(partition, known):
            return first
        return formed

    def may_claim(self, partition: PartitionId, first: HomeSet) -> bool:
        """Tell whether this node may claim; of homes formed anew, whether nobody knows of later ones."""
        clustering = self._clustering
        if clustering.walls.silent or clustering.leaving:
            return False
        promise = clustering.cluster.grants.find(partition)
        if promise is None or first.newer_than(promise.record):
            if first.version > 1:
                return self._is_sure(partition)
            known = first
        else:
            known = promise.record
        grants = clustering.cluster.grants
        if grants.reform(partition, known) is known or grants.reduce(known) is not known:
            return True
        # The list itself is on all members, or on seven: of those that are left most know its homes.
        return partition == ROSTER or self._sure(partition, known)

    def _is_sure(self, partition: PartitionId) -> bool:
        inquiry = self._inquiries.get(partition)
        version = self._clustering.rosters.current.version
        return inquiry is not None and inquiry.version == version and not inquiry.missing

    def _sure(self, partition: PartitionId, known: HomeSet) -> bool:
        """Tell whether all members have said that they know of no homes later than `known`; if not, ask."""
        inquiry = self._ask(partition, known)
        return inquiry is not None and not inquiry.missing

    def _ask(self, partition: PartitionId, known: HomeSet) -> _Inquiry | None:
        """Ask all members that have not said so; return how far that is, None if too much is being asked."""
        clustering, roster = self._clustering, self._clustering.rosters.current
        inquiry = self._inquiries.get(partition)
        if inquiry is None or inquiry.version != roster.version or inquiry.record != known:
            if inquiry is None and len(self._inquiries) >= AT_ONCE:
                self._left_out = True
                return None
            missing = {node: None for node in roster.nodes if node != clustering.me}
            inquiry = self._inquiries[partition] = _Inquiry(roster.version, known, missing)
        if inquiry.missing and inquiry.again_at <= self._broker.now.run:
            inquiry.again_at = self._broker.now.run + AGAIN
            for node in inquiry.missing:
                clustering.send(node, AnyHomes(partition, roster.version, known.fields()))
        return inquiry

    def _matters(self, partition: PartitionId, inquiry: _Inquiry) -> bool:
        """Tell whether homes are still to be formed anew, or to be complained of, so that all must say no."""
        clustering, roster, record = self._clustering, self._clustering.rosters.current, inquiry.record
        if inquiry.version != roster.version:
            return False
        if self._broker.registry.definition_of(QueueId(partition[:8])) is None:
            return False  # deleted
        promise = clustering.cluster.grants.find(partition)
        if promise is not None and promise.record.newer_than(record):
            return False  # they were formed, or found
        anew = clustering.cluster.grants.reform(partition, record) is not record
        return anew or _bereft(roster, record, self._silent)

    # --- homes without a majority, while nobody is forgotten for being absent alone (M2) --------------

    def look(self, partition: PartitionId, known: HomeSet) -> None:
        """If homes have no majority, and the dead are not forgotten, say so, and who does not answer.

        Arguments:
            known: the latest homes that this node knows.
        """
        silent = self._silent
        if not silent or not self._left or partition == ROSTER:
            return
        clustering, roster = self._clustering, self._clustering.rosters.current
        if not _bereft(roster, known, silent):
            return
        order = (*known.members, *clustering.wanted(partition))
        if next(filter(clustering.reachable, order), None) != clustering.me:
            return
        self._left -= 1
        inquiry = self._ask(partition, known)
        if inquiry is None or not set(inquiry.missing) <= set(silent):
            return
        told = AnyHomes(partition, roster.version, known.fields(), list(silent))
        self._note(clustering.me, told)
        self._tell(told)

    def _tell(self, told: AnyHomes) -> None:
        for node in self._clustering.rosters.current.nodes:
            if node != self._clustering.me and self._clustering.reachable(node):
                self._clustering.send(node, told)

    def _note(self, sender: NodeId, told: AnyHomes) -> None:
        """Believe, for a while, that homes have no majority."""
        roster, now = self._clustering.rosters.current, self._broker.now.run
        silent = tuple(NodeId(node) for node in told.silent or ())
        if told.record is None or not silent:
            return
        record = read_home_set(told.record)
        if not _bereft(roster, record, silent):
            return
        # To strike off others helps only where all the other homes are destroyed, and these must say no (M4).
        silent = tuple(sorted(silent, key=lambda node: node not in record.members))
        self._missed = {p: m for p, m in self._missed.items() if now < m.at + BELIEVED}
        if len(self._missed) < AT_ONCE or told.partition in self._missed:
            self._missed[told.partition] = _Missed(roster.version, sender, silent, now)

    def _take_back(self, sender: NodeId, partition: PartitionId) -> None:
        missed = self._missed.get(partition)
        if missed is not None and missed.by == sender:
            del self._missed[partition]

    def missed(self, absent: list[NodeId]) -> NodeId | None:
        """Return one of the members absent for long that homes have no majority without; None: not known.

        All who do not answer those homes are absent here, too; all others know of no later homes.
        """
        version, now = self._clustering.rosters.current.version, self._broker.now.run
        for missed in self._missed.values():
            believed = missed.version == version and now < missed.at + BELIEVED and self._hears(missed)
            if believed and set(missed.silent) <= set(absent):
                return missed.silent[0]
        return None

    def _hears(self, missed: _Missed) -> bool:
        """Tell whether it would have been heard here if who said so had taken it back."""
        since = self._clustering.linked.get(missed.by, math.inf)
        return missed.by == self._clustering.me or since <= missed.at

    # --- questions and answers -----------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a question or an answer; tell whether it was one.  Errors: ProtocolError."""
        match message:
            case AnyHomes(partition, silent=[]):
                self._take_back(sender, partition)
            case AnyHomes():
                self._answer(sender, message)
            case HomesKnown():
                inquiry = self._inquiries.get(message.partition)
                if inquiry is None or inquiry.version != message.version or message.known:
                    return True
                if sender in inquiry.missing:
                    del inquiry.missing[sender]
                    if not any(map(self._clustering.reachable, inquiry.missing)):
                        self._clustering.mender.changed()  # which claims, or tells whom homes miss
            case _:
                return False
        return True

    def _answer(self, sender: NodeId, question: AnyHomes) -> None:
        """Say what this node knows, if it goes by the same list of members."""
        clustering, roster = self._clustering, self._clustering.rosters.current
        if question.version != roster.version:
            return  # one of the two hears of the newer in a moment
        promise = clustering.cluster.grants.find(question.partition)
        known = promise is not None and any(node in roster.nodes for node in promise.record.members)
        if promise is not None and question.record is not None:
            newer = promise.record.newer_than(read_home_set(question.record))
            # Of later ones that are gone, too, the sender hears, and asks anew.
            known = newer and (known or promise.record.committed)
        if promise is not None and known and promise.record.committed:
            clustering.send(sender, Committed(question.partition, 0, promise.record.fields()))
        clustering.send(sender, HomesKnown(question.partition, question.version, known))
        if not known:
            self._note(sender, question)


def _bereft(roster: Roster, record: HomeSet, silent: tuple[NodeId, ...]) -> bool:
    """Tell whether homes have no majority without those who do not answer."""
    there = [node for node in roster.nodes if node not in silent]
    return not reduced(roster, record, lambda node: node in there).has_majority(there)
