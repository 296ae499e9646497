"""The membership of one node: SWIM with Lifeguard, as a value without clock, network or chance of its own.

Call a verb (`receive`, `merge`, `answer`, `tick`, …) with the time, perform `take_effects()`, and call `tick`
at `next_deadline()`. Times are seconds of a clock that never goes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import assert_never

from gossip import codec
from gossip.agenda import Agenda
from gossip.awareness import Awareness
from gossip.beliefs import Beliefs
from gossip.codec import KEY_LIMIT, RUN_SIZE, Envelope, Kind
from gossip.config import SwimConfig
from gossip.effects import Effect, Joined, Remember
from gossip.errors import InvalidSetting, Malformed, Unauthentic
from gossip.exchange import Exchange
from gossip.meeting import Meeting
from gossip.members import Entry, Members
from gossip.messages import (
    CLUSTER_ID_SIZE,
    NO_CLUSTER,
    Ack,
    Alive,
    Claim,
    ClusterId,
    Dead,
    Left,
    Member,
    Message,
    Nack,
    NodeId,
    Ping,
    PingRequest,
    Status,
    Suspect,
)
from gossip.outbox import Counters, Outbox
from gossip.probing import Prober
from gossip.rumours import Rumours

ADDRESSES_AT_ONCE = 3
"""How many addresses a node that is alone tries at one time."""
FAREWELLS = 32
"""How many members are told directly that this one stops or leaves; they tell the others."""


class Swim:
    """One node's view of who is there.

    Arguments:
        config: tuning.
        me: this node, its incarnation higher than in any earlier run (`first_incarnation`).
        rng: all chance comes from here.
        now: seconds.
        cluster: id of the cluster that this node belongs to; `NO_CLUSTER` for one that has yet to join
            (through `seeds`) or to found one.
        cluster_name: nodes of different names refuse each other.
        key: shared by all nodes of the cluster, at most 64 bytes; empty for none.
        seeds: addresses the operator gave.
        known: addresses of an earlier run, as `Remember` told.
    """

    def __init__(
        self,
        config: SwimConfig,
        me: Member,
        rng: Random,
        now: float,
        *,
        cluster: ClusterId = NO_CLUSTER,
        cluster_name: str = "",
        key: bytes = b"",
        seeds: Sequence[str] = (),
        known: Iterable[str] = (),
    ) -> None:
        if len(cluster) not in (0, CLUSTER_ID_SIZE):
            raise InvalidSetting(f"a cluster id has {CLUSTER_ID_SIZE} bytes")
        if len(key) > KEY_LIMIT:
            raise InvalidSetting(f"a cluster key has at most {KEY_LIMIT} bytes")
        self._config = config
        self._key = key
        self._rng = rng
        self._agenda = Agenda()
        self._awareness = Awareness(config.awareness_limit)
        self._members = Members(config.members_limit, rng)
        self._rumours = Rumours()
        self._meeting = Meeting(seeds, known, me.address, config.addresses_limit, rng)
        run = rng.randbytes(RUN_SIZE)
        self._outbox = Outbox(
            config,
            self._members,
            self._rumours,
            node=me.id,
            run=run,
            key=key,
            cluster=cluster,
        )
        self._beliefs = Beliefs(
            *(me, config, self._members, self._rumours, self._agenda, self._awareness, self._meeting),
            *(self._outbox, self._heard_suspicion),
        )
        self._prober = Prober(
            *(me.id, config, self._members, self._agenda, self._awareness, self._outbox, rng),
            self._did_not_answer,
        )
        self._exchange = Exchange(
            *(config, cluster_name, key, run, self._members, self._beliefs, self._meeting, self._outbox),
            self._prober.answered,
        )
        self._gossiping = False
        self._ended = False
        self._turn = 0
        self._ask_strangers_at = now
        self._agenda.at(now, self._meet)
        self._agenda.at(now + rng.uniform(0, config.probe_interval), self._prober.period)
        self._agenda.at(now + rng.uniform(0.5, 1) * config.push_pull_interval, self._push_pull)
        self._agenda.at(now + config.forget_dead_after / 10, self._forget_dead)

    # --- what is known -----------------------------------------------------------------------------------

    @property
    def me(self) -> Member:
        """This node as it describes itself now."""
        return self._beliefs.me

    @property
    def cluster(self) -> ClusterId:
        """The id of the cluster; `NO_CLUSTER` before joining."""
        return self._outbox.cluster

    @property
    def counters(self) -> Counters:
        """What happened since the start; not to be changed."""
        return self._outbox.counters

    @property
    def awareness(self) -> int:
        """This node's doubt of its own health: 0 (well) to `awareness_limit`."""
        return self._awareness.score

    def members(self) -> list[tuple[Member, Status]]:
        """Return all members, this node first."""
        others = [(entry.member, entry.status) for entry in self._members.all()]
        return [(self.me, Status.ALIVE), *others]

    def member(self, node: NodeId) -> tuple[Member, Status] | None:
        """Return one member, None if it is not known."""
        if node == self.me.id:
            return self.me, Status.ALIVE
        entry = self._members.get(node)
        return None if entry is None else (entry.member, entry.status)

    def known_addresses(self) -> tuple[str, ...]:
        """Return the addresses to try again after a restart."""
        return self._meeting.known()

    # --- verbs -------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `tick` must be called; math.inf: never."""
        return math.inf if self._ended else self._agenda.next()

    def take_effects(self) -> list[Effect]:
        """Return what must be done now, in this order."""
        if self._beliefs.remember:
            self._beliefs.remember = False
            self._outbox.tell(Remember(self._meeting.known()))
        return self._outbox.take()

    def tick(self, now: float) -> None:
        """Do everything that is due."""
        if self._ended:
            return
        late = now - self._agenda.next()
        if late > self._config.probe_interval:
            self.counters.overslept += 1
            self._prober.overslept()
            self._beliefs.overslept(late)
        for act, arguments in self._agenda.pop_due(now):
            act(now, *arguments)
        self._spread(now)

    def receive(self, now: float, sender: str, data: bytes) -> None:
        """Take one datagram; whatever is wrong with it is counted and it is dropped."""
        if self._ended:
            return
        self.counters.received_packets += 1
        try:
            envelope = codec.unseal(data, self._key)
            if envelope.kind is not Kind.PACKET:
                raise Malformed("a state came as a packet")
            if self._is_foreign(envelope):
                self.counters.foreign += 1
                return
            messages = codec.decode(envelope.body)
        except Unauthentic:
            self.counters.unauthentic += 1
            return
        except Malformed:
            self.counters.malformed += 1
            return
        if self._exchange.is_me(envelope, sender):
            return
        for message in messages:
            self._take(now, sender, envelope.sender, message)
        self._spread(now)

    def state_for_push_pull(self, now: float) -> bytes:
        """Return all that this node knows, for the other side's `answer`."""
        return self._exchange.state(now)

    def answer(self, now: float, data: bytes) -> bytes:
        """Take another node's state; return this node's, or a refusal, for its `merge`."""
        if self._ended:
            return self._exchange.state(now)
        reply = self._exchange.answer(now, data)
        self._spread(now)
        return reply

    def merge(self, now: float, address: str, data: bytes) -> None:
        """Take what the node at `address` answered to this node's state."""
        if not self._ended:
            self._exchange.merge(now, address, data)
            self._spread(now)

    def probe_now(self, now: float, node: NodeId) -> None:
        """Probe a member out of turn: a connection to it broke, say."""
        if not self._ended:
            self._prober.probe_now(now, node)

    def describe(
        self, now: float, *, zone: str | None = None, weight: float | None = None, meta: bytes | None = None
    ) -> None:
        """Change what this node says of itself, and tell the others.

        Errors: InvalidSetting.
        """
        me = self.me
        zone, weight = me.zone if zone is None else zone, me.weight if weight is None else weight
        meta = me.meta if meta is None else meta
        incarnation = me.incarnation + 1
        self._beliefs.renew(replace(me, incarnation=incarnation, zone=zone, weight=weight, meta=meta))
        self._spread(now)

    def stop(self, now: float) -> None:
        """Tell the others that this node stops, so that they need not find out.

        To them it is dead: it may come back. Nothing else is said afterwards.
        """
        self._farewell(Dead(self.me.id, self.me.incarnation, self.me.id))

    def leave(self, now: float) -> None:
        """Tell the others that this node leaves for good. Nothing else is said afterwards."""
        self._farewell(Left(self.me.id, self.me.incarnation, self.me.id))

    def forget(self, now: float, node: NodeId) -> None:
        """Tell everybody that a member has left, as was decided elsewhere.

        One that is there after all says so, and is listed again: what it may do is not decided here.
        """
        entry = self._members.get(node)
        if entry is not None and not self._ended:
            self._beliefs.claim(now, Left(node, entry.member.incarnation, self.me.id))
            self._spread(now)

    def _is_foreign(self, envelope: Envelope) -> bool:
        return not self.cluster or envelope.cluster != self.cluster

    # --- packets -----------------------------------------------------------------------------------------

    def _take(self, now: float, sender: str, source: NodeId, message: Message) -> None:
        match message:
            case Ping():
                self._ping(now, sender, source, message)
            case PingRequest():
                self._prober.request(now, sender, message)
            case Ack():
                self._prober.ack(message)
            case Nack():
                self._prober.nack(message, source)
            case Alive():
                self._beliefs.alive(now, message.member)
            case Suspect() | Dead() | Left():
                self._beliefs.claim(now, message)
            case _:
                assert_never(message)

    def _ping(self, now: float, sender: str, source: NodeId, message: Ping) -> None:
        if message.target != self.me.id:
            self.counters.misdirected += 1
            return
        ack = Ack(message.number, self.me.id)
        entry = self._members.get(source)
        if entry is None and now >= self._ask_strangers_at:
            # News of it got lost; it is asked who it is, but not by every ping where the list is full.
            self._ask_strangers_at = now + self._config.join_interval
            self._outbox.push_pull(sender)
        if entry is None or entry.present:
            self._outbox.send(sender, ack)
            return
        # Whoever is thought dead and pings does not know it: told, it can refute.
        end = Dead if entry.status is Status.DEAD else Left
        claim: Claim = end(source, entry.member.incarnation, self.me.id)
        self._outbox.send(sender, ack, claim)

    # --- what is done from time to time ------------------------------------------------------------------

    def _spread(self, now: float) -> None:
        """See to it that news leaves soon, also when no probe takes it along."""
        if self._rumours and not self._gossiping:
            self._gossiping = True
            self._agenda.at(now + self._rng.uniform(0, self._config.gossip_interval), self._gossip)

    def _gossip(self, now: float) -> None:
        self._gossiping = False

        def wanted(entry: Entry) -> bool:
            recent = now - entry.since < self._config.gossip_to_dead
            return entry.present or (entry.status is Status.DEAD and recent)

        chosen = self._members.choose(self._config.gossip_fanout, wanted)
        if not chosen and not self._members.size > 1:
            self._rumours.clear()
        for entry in chosen:
            if self._rumours:
                self._outbox.send(entry.member.address)
        if self._rumours:
            self._gossiping = True
            self._agenda.at(now + self._config.gossip_interval, self._gossip)

    def _push_pull(self, now: float) -> None:
        for entry in self._members.choose(1, lambda entry: entry.status is Status.ALIVE):
            self._outbox.push_pull(entry.member.address)
        wait = self._config.push_pull_every(self._members.size)
        self._agenda.at(now + self._rng.uniform(0.8, 1.2) * wait, self._push_pull)

    def _forget_dead(self, now: float) -> None:
        self._beliefs.forget_before(now - self._config.forget_dead_after)
        self._agenda.at(now + self._config.forget_dead_after / 10, self._forget_dead)

    def _meet(self, now: float) -> None:
        """Try addresses where nobody is known to be, for ever."""
        if not self.cluster and self._meeting.may_found(now):
            self._outbox.cluster = ClusterId(self._rng.randbytes(CLUSTER_ID_SIZE))
            self._outbox.tell(Joined(self.cluster, founded=True))
        alone = self._members.size == 1
        for address in self._addresses_to_try(ADDRESSES_AT_ONCE if alone else 1):
            self._outbox.push_pull(address)
        wait = self._config.join_interval if alone else self._config.remeet_interval
        self._agenda.at(now + self._rng.uniform(0.8, 1.2) * wait, self._meet)

    def _addresses_to_try(self, count: int) -> list[str]:
        present = {entry.member.address: entry.member.id for entry in self._members.all() if entry.present}
        nodes = dict.fromkeys(present.values())

        def skip(address: str) -> bool:
            return address in present or self._meeting.node_at(address) in nodes

        found: dict[str, None] = {}
        self._turn += 1
        if self._turn % 2:
            # Every other time one that is listed as dead, however many older addresses there are.
            for entry in self._members.choose(1, lambda entry: entry.status is Status.DEAD):
                if not skip(entry.member.address):
                    found[entry.member.address] = None
        while len(found) < count:
            address = self._meeting.next_to_try(skip)
            if address is None or address in found:
                break
            found[address] = None
        return list(found)

    def _heard_suspicion(self, now: float, entry: Entry) -> None:
        """Witness a suspicion oneself, at once, if one is among the few chosen by chance.

        So the confirmations that shorten it come while they are of use, from as many witnesses as are wanted,
        whatever the size of the cluster.
        """
        wanted = 2 * (self._config.wanted_confirmations(self._members.size) + 1)
        if self._rng.random() * self._members.size < wanted:
            self._prober.probe_now(now, entry.member.id)

    def _did_not_answer(self, now: float, node: NodeId) -> None:
        entry = self._members.get(node)
        if entry is not None and entry.present:
            self._beliefs.claim(now, Suspect(node, entry.member.incarnation, self.me.id))

    def _farewell(self, claim: Claim) -> None:
        if self._ended:
            return
        self._ended = True
        for entry in self._members.choose(FAREWELLS, lambda entry: entry.present):
            self._outbox.send(entry.member.address, claim)
