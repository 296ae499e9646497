"""The roster: the numbered, durable list of members, which only majorities change (rules M1 to M5).

It is one system partition without messages: its homes are members (up to seven of them), its leader makes
one step at a time (a member joins, leaves, is forgotten), and a step is in force once a majority of the
homes has it on disk.  Placement and quorums use the roster, never the view of gossip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cbor2

from dmqnode.clock import Now
from dmqnode.errors import ProtocolError, Refused, Unavailable
from dmqnode.greetings import RosterIs, WantRoster
from dmqnode.hearing import NOTICED, Hearing
from dmqnode.homesets import MAX_HOMES, HomeSet
from dmqnode.ids import NODE_ID_SIZE, PARTITION_ID_SIZE, NodeId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.messages import Message, Step
from dmqnode.placement import Place, homes
from dmqnode.port import Port
from dmqnode.striking import StruckOff
from storage.ops import WriteBatch

ROSTER = PartitionId(bytes(PARTITION_ID_SIZE))
"""The system partition; no queue has the id of zeros."""
ROSTER_KEY = b"n\x00roster"
"""Where every node, home of the roster or not, keeps the newest that it has heard of."""
RECORD = b"m"
"""The record's key in the partition, behind its prefix."""
MAX_MEMBERS = 1000
MAX_DESTROYED = MAX_MEMBERS
"""So many are known to be destroyed: as many as may be lost at once, for homes to be formed anew (M4)."""
FORCED = 1000
"""What a step that no majority made adds to the version: more than steps that it does not know of."""
MOST_PLACED = 50_000
"""Partitions whose homes are remembered."""

Done = Callable[[Now, "Refused | None"], None]
Replicate = Callable[[Now, PartitionId, WriteBatch, Callable[[Now], None]], bool]


class Member(NamedTuple):
    """One member: who it is, and where it is reached."""

    node: NodeId
    name: str
    address: str
    zone: str = ""
    weight: float = 1.0

    @property
    def place(self) -> Place:
        """What placement needs to know of it."""
        return Place(self.node, self.zone, self.weight)


class Roster(NamedTuple):
    """One version of the list."""

    version: int
    members: tuple[Member, ...]
    founders: tuple[NodeId, ...] = ()
    """The members of the first version: the first homes of the roster's partition (H5); empty: these."""
    destroyed: tuple[NodeId, ...] = ()
    """Former members of which somebody said that their copies will not come back (M4)."""

    @property
    def first_homes(self) -> tuple[NodeId, ...]:
        """The nodes that held the roster's partition first."""
        return self.founders or self.nodes

    def find(self, node: NodeId) -> Member | None:
        """Return a member by its id."""
        return next((m for m in self.members if m.node == node), None)

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The members' ids."""
        return tuple(m.node for m in self.members)

    def homes(self, partition: PartitionId, replicas: int) -> tuple[NodeId, ...]:
        """Return where a partition should be, of this list."""
        wanted = MAX_HOMES if partition == ROSTER else replicas
        return homes(partition, [m.place for m in self.members], wanted)


def encode(roster: Roster) -> bytes:
    """Return the record of a roster."""
    members = [list(m) for m in roster.members]
    return cbor2.dumps([roster.version, members, list(roster.first_homes), list(roster.destroyed)])


def decode(record: bytes) -> Roster:
    """Read what `encode` returned.  Errors: ProtocolError."""
    try:
        version, found, first, lost = cbor2.loads(record)
        members = tuple(read_member(m) for m in found)
        founders = tuple(NodeId(bytes(n)) for n in first)
        destroyed = tuple(NodeId(bytes(n)) for n in lost)
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError) as error:
        raise ProtocolError(f"a roster cannot be read: {error}") from error
    if type(version) is not int or len({m.node for m in members}) != len(members):
        raise ProtocolError("a roster names a member twice, or has no version")
    return Roster(version, members, founders, destroyed)


def read_member(fields: Any) -> Member:
    """Read one member.  Errors: ProtocolError."""
    try:
        node, name, address, zone, weight = fields
    except (TypeError, ValueError):
        raise ProtocolError("a member is not five fields") from None
    texts = all(type(text) is str and len(text) <= 255 for text in (name, address, zone))
    is_id = type(node) is bytes and len(node) == NODE_ID_SIZE
    if not is_id or not texts or type(weight) not in (int, float) or not 0 <= weight <= 1e6:
        raise ProtocolError("a member's fields are not what they should be")
    return Member(NodeId(node), name, address, zone, float(weight))


def joining(step: Step) -> Member:
    """Return who is to join.  Errors: ProtocolError."""
    try:
        return read_member(cbor2.loads(step.member))
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError) as error:
        raise ProtocolError(f"who is to join cannot be read: {error}") from error


class Rosters:
    """This node's knowledge of the roster, and its part in changing it.

    Arguments:
        port: to the rest of the node.
        replicate: writes to the roster's partition if this node leads it; False if it does not.
        changed: called with every newer roster.
        replicas: R.
        dead_after: seconds after which who does not answer is forgotten.
    """

    def __init__(
        self,
        current: Roster,
        port: Port,
        replicate: Replicate,
        changed: Callable[[Now, Roster], None],
        replicas: int,
        dead_after: float,
    ) -> None:
        self.current = current
        self._patience = min(dead_after, dead_after / 2 + NOTICED)
        self.struck_off = StruckOff(self._patience)
        self._port = port
        self._replicate = replicate
        self._replicas = replicas
        self._changed = changed
        self._stepping: Done | None = None
        self._answers: Callable[[NodeId], bool] = lambda node: False
        self.hearing = Hearing(current.nodes, dead_after / 2)
        self._placed: dict[PartitionId, tuple[NodeId, ...]] = {}
        """What placement made of the current roster; it is asked about every partition, again and again."""
        self._placed_by = current

    def homes(self, partition: PartitionId) -> tuple[NodeId, ...]:
        """Return where a partition should be."""
        if self._placed_by is not self.current or len(self._placed) >= MOST_PLACED:
            self._placed, self._placed_by = {}, self.current
        found = self._placed.get(partition)
        if found is None:
            replicas = min(self._replicas, len(self.current.members))
            found = self._placed[partition] = self.current.homes(partition, replicas)
        return found

    @property
    def first(self) -> HomeSet:
        """The home set with which the roster's partition begins."""
        return HomeSet.first(self.current.first_homes[:MAX_HOMES])

    # --- learning ------------------------------------------------------------------------------------

    def learn(self, now: Now, roster: Roster) -> None:
        """Take over a newer roster, and keep it."""
        if roster.version <= self.current.version:
            return
        before = self.current
        self.current = roster
        self.hearing.learn(roster.nodes)
        self.struck_off.note(now, roster.destroyed)
        ops = WriteBatch()
        ops.put(ROSTER_KEY, encode(roster))
        self._port.write(ops, lambda now: None)
        for node in dict.fromkeys((*before.nodes, *roster.nodes)):
            self._port.send(node, RosterIs(encode(roster)))
        self._changed(now, roster)

    def loaded(self, now: Now, record: bytes | None) -> None:
        """The partition of the roster was opened here, to be led: what it holds is committed."""
        if record is not None:
            self.learn(now, decode(record))

    def lost(self, now: Now) -> None:
        """The partition of the roster is led here no more: a change that was under way is made, or not."""
        done, self._stepping = self._stepping, None
        if done is not None:
            done(now, Unavailable("others may know of this change; look with: dmq cluster members"))

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these.  Errors: ProtocolError."""
        match message:
            case RosterIs():
                roster = decode(message.record)
                if roster.version < self.current.version:
                    self._port.send(sender, RosterIs(encode(self.current)))
                self.learn(now, roster)
            case WantRoster():
                self._port.send(sender, RosterIs(encode(self.current)))
            case _:
                return False
        return True

    def met(self, node: NodeId) -> None:
        """A connection to a node has come up."""
        self._port.send(node, RosterIs(encode(self.current)))

    # --- steps ---------------------------------------------------------------------------------------

    def step(self, now: Now, *steps: Step, done: Done) -> None:
        """Make one change, or several as one, as the leader of the roster; `done` gets None, or why not."""
        roster = self.current
        try:
            for step in steps:
                self._check_absence(now, step)
                roster = self._next(step, roster)
        except Refused as error:
            done(now, error)
            return
        if roster is self.current:
            done(now, None)
            return
        if self._stepping is not None:
            done(now, Unavailable("another change of the members is under way; try again"))
            return
        keys = PartitionKeys.of(ROSTER)
        ops = WriteBatch()
        ops.put(keys.prefix + RECORD, encode(roster))
        self._stepping = done

        def committed(now: Now) -> None:
            self._stepping = None
            self.learn(now, roster)
            done(now, None)

        if not self._replicate(now, ROSTER, ops, committed):
            self._stepping = None
            done(now, Unavailable("this node does not lead the list of members; try again"))

    def _next(self, step: Step, roster: Roster) -> Roster:
        """Return the roster after a step, the same if it changes nothing.  Errors: Refused."""
        members, version = roster.members, self.current.version + 1
        if step.kind == "join":
            member, listed = joining(step), roster.find(joining(step).node)
            if listed is not None and not listed.weight:
                member = member._replace(weight=0.0)  # about to leave, wherever it is and whatever it weighed
            if member in members:
                return roster
            if len(members) >= MAX_MEMBERS:
                raise Refused(f"a cluster has at most {MAX_MEMBERS} members")
            # The same place with a new identity: its disk was lost, and the old one will not come back (I2).
            others = tuple(
                m
                for m in members
                if m.node != member.node
                and not (
                    m.name == member.name and m.address == member.address and m.node in self.hearing.absent
                )
            )
            replaced = [m.node for m in members if m.node != member.node and m not in others]
            destroyed = [n for n in (*roster.destroyed, *replaced) if n != member.node]
            return Roster(version, (*others, member), roster.first_homes, tuple(destroyed[-MAX_DESTROYED:]))
        gone = NodeId(step.member)
        if roster.find(gone) is None:
            return roster
        if len(members) == 1:
            raise Refused("the last member cannot leave; stop it instead")
        if step.kind not in ("leave", "forget"):
            raise Refused(f"this version knows no step {step.kind!r}; upgrade all nodes first")
        return self._without(version, gone, destroyed=step.kind == "forget")

    def _check_absence(self, now: Now, step: Step) -> None:
        """Refuse to forget who is there, or may serve where this node does not hear of it.  Errors: Refused.

        Its homes are formed anew then (M4): it must have stopped granting (M3), unless it is destroyed, or
        one of so few who may be cut off that they serve nothing.
        """
        gone = NodeId(step.member)
        if step.kind != "forget" or self.current.find(gone) is None:
            return
        if self._answers(gone):
            raise Refused("this member answers; let it leave with: dmq node leave, or stop it first")
        left = self.hearing.absent.get(gone, now.run) + self._patience - now.run
        silent = {gone, *self.hearing.absent, *(n for n in self.current.nodes if not self._answers(n))}
        homes = min(self._replicas, sum(member.weight > 0 for member in self.current.members))
        if left > 0 and not step.destroyed and not self.struck_off.too_few(now, silent, homes):
            why = "this member has not been away for long, and may still serve behind a cut; try again in"
            raise Refused(f"{why} {math.ceil(left)} seconds, or say --destroyed if its disk is lost")

    def _without(self, version: int, gone: NodeId, *, destroyed: bool) -> Roster:
        left = tuple(m for m in self.current.members if m.node != gone)
        lost = (*self.current.destroyed, gone) if destroyed else self.current.destroyed
        return Roster(version, left, self.current.first_homes, lost[-MAX_DESTROYED:])

    def cut_off(self, gone: NodeId, reachable: Callable[[NodeId], bool]) -> bool:
        """Tell whether no majority of the members answers, `gone` being one of those who do not."""
        nodes = self.current.nodes
        answering = [n for n in nodes if reachable(n)]
        return gone in nodes and gone not in answering and 2 * len(answering) <= len(nodes)

    def force(self, now: Now, gone: NodeId) -> None:
        """Forget a member without a majority, because somebody says that it is destroyed (M5).

        To be called only where no majority of the members answers.
        """
        self.learn(now, self._without(self.current.version + FORCED, gone, destroyed=True))

    def replaces(self, step: Step) -> NodeId | None:
        """Return which of two members, that does not answer, one that joins takes the place of (M5)."""
        if step.kind != "join" or len(self.current.members) != 2:
            return None
        new = joining(step)
        for old in self.current.members:
            if old.node in self.hearing.absent and old.node != new.node and old[1:3] == new[1:3]:
                return old.node
        return None

    def force_join(self, now: Now, step: Step) -> None:
        """Let a member take the place of the other of two; as for `force`."""
        roster = self._next(step, self.current)
        if roster is not self.current:
            self.learn(now, roster._replace(version=self.current.version + FORCED))

    # --- the absent ----------------------------------------------------------------------------------

    def seen(self, now: Now, answering: Callable[[NodeId], bool]) -> None:
        """Take note of who answers."""
        self._answers = answering
        self.struck_off.note(now, self.current.destroyed)
        self.hearing.look(now, answering)

    @property
    def scarce(self) -> bool:
        """Whether so few members are left that nobody is forgotten for being absent alone (M2)."""
        return len(self.current.members) - 1 < self._replicas

    def overdue(
        self, now: Now, dead_after: float, missed: Callable[[list[NodeId]], NodeId | None]
    ) -> NodeId | None:
        """Return a member that is to be forgotten: one that was absent for so long (M2), or was replaced.

        Arguments:
            missed: returns one of those absent for so long without whom a home set has no majority, if any.
        """
        replaced = self._replaced()
        if replaced is not None:
            return replaced
        absent = [node for node, since in self.hearing.absent.items() if now.run - since >= dead_after]
        if not absent:
            return None
        return missed(absent) if self.scarce else absent[0]

    def _replaced(self) -> NodeId | None:
        """Return an absent member whose name and address another one has now, that answers (I2)."""
        for node in self.hearing.absent:
            gone = self.current.find(node)
            for other in self.current.members:
                if gone is None or other.node == node or other.node in self.hearing.absent:
                    continue
                if (other.name, other.address) == (gone.name, gone.address):
                    return node
        return None


def quorum(roster: Roster, replicas: int, write_quorum: int) -> int:
    """Return W': as many copies as there must be on disk before a write is answered.

    A member that is about to leave, whose weight is 0, is no home of anything.
    """
    staying = len([m for m in roster.members if m.weight > 0])
    return max(1, min(write_quorum, replicas, staying))
