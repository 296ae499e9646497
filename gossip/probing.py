"""Asking members whether they are there: directly, through others, and at last by an exchange (SWIM §3.1).

Of each period one member is asked, in rounds of random order (SWIM §4.3). In silence, k others are asked to
ask it; those that hear nothing either say so by a nack, so that a node that gets neither learns that it is
itself ailing (Lifeguard §IV-A). An exchange of states over TCP is the last attempt: where a firewall swallows
datagrams, members are still told from dead ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from gossip.agenda import Agenda
from gossip.awareness import Awareness
from gossip.config import SwimConfig
from gossip.members import Entry, Members
from gossip.messages import Ack, Nack, NodeId, Ping, PingRequest, Status, Suspect
from gossip.outbox import Outbox

NACK_SHARE = 0.8
"""When a relay says that it hears nothing, as a share of probe_timeout: in time for who asked."""


@dataclass(slots=True)
class _Probe:
    target: NodeId
    nacks_wanted: int = 0
    nacks: dict[NodeId, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Relay:
    target: NodeId
    requester: str
    number: int
    """Of the request."""


class Prober:
    """The probes and relays under way.

    Arguments:
        failed: called with (now, node) when a member did not answer at all.
    """

    def __init__(
        self,
        me: NodeId,
        config: SwimConfig,
        members: Members,
        agenda: Agenda,
        awareness: Awareness,
        outbox: Outbox,
        rng: Random,
        failed: Callable[[float, NodeId], None],
    ) -> None:
        self._me = me
        self._config = config
        self._members = members
        self._agenda = agenda
        self._awareness = awareness
        self._outbox = outbox
        self._failed = failed
        self._number = rng.getrandbits(32)
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}

    # --- own probes --------------------------------------------------------------------------------------

    def period(self, now: float) -> None:
        """Probe the next member of the round; comes back by itself after a period."""
        entry = self._members.next_to_probe()
        if entry is not None:
            self._begin(now, entry)
        self._agenda.at(now + self._awareness.scale(self._config.probe_interval), self.period)

    def probe_now(self, now: float, node: NodeId) -> None:
        """Probe a member out of turn, unless it is being probed or too many are."""
        entry = self._members.get(node)
        if entry is None or not entry.present or len(self._probes) > self._config.probes_limit:
            return
        if all(probe.target != node for probe in self._probes.values()):
            self._begin(now, entry)

    def _begin(self, now: float, entry: Entry) -> None:
        number = self._next_number()
        self._probes[number] = _Probe(entry.member.id)
        self._outbox.counters.probes += 1
        self._ping(entry, number)
        timeout = self._awareness.scale(self._config.probe_timeout)
        end = self._awareness.scale(self._config.probe_interval)
        self._agenda.at(now + timeout, self._ask_others, number)
        self._agenda.at(now + (timeout + end) / 2, self._exchange, number)
        self._agenda.at(now + end, self._end, number)

    def _ping(self, entry: Entry, number: int) -> None:
        member = entry.member
        ping = Ping(number, member.id)
        if entry.status is Status.SUSPECT:
            # The buddy system (Lifeguard §IV-C): a suspect is told first of all, so that it can refute.
            self._outbox.send(member.address, ping, Suspect(member.id, member.incarnation, self._me))
        else:
            self._outbox.send(member.address, ping)

    def _ask_others(self, now: float, number: int) -> None:
        probe = self._probes.get(number)
        entry = self._members.get(probe.target) if probe is not None else None
        if probe is None or entry is None or not entry.present:
            return
        relays = self._members.choose(
            self._config.indirect_probes, lambda e: e.status is Status.ALIVE and e is not entry
        )
        probe.nacks_wanted = len(relays)
        for relay in relays:
            request = PingRequest(number, probe.target, entry.member.address)
            self._outbox.send(relay.member.address, request)

    def _exchange(self, now: float, number: int) -> None:
        probe = self._probes.get(number)
        entry = self._members.get(probe.target) if probe is not None else None
        if entry is not None and entry.present:
            self._outbox.push_pull(entry.member.address)

    def _end(self, now: float, number: int) -> None:
        probe = self._probes.pop(number, None)
        if probe is None:
            return
        self._outbox.counters.probes_failed += 1
        # Relays are thought to be well, so it is their silence, not the target's, that is a sign; without
        # relays the target's must do.
        self._awareness.note(probe.nacks_wanted - len(probe.nacks) if probe.nacks_wanted else 1)
        self._failed(now, probe.target)

    def answered(self, node: NodeId) -> None:
        """A member has shown by other means than an ack that it is there."""
        for number in [n for n, probe in self._probes.items() if probe.target == node]:
            del self._probes[number]
            self._awareness.note(-1)

    def overslept(self) -> None:
        """This node did not run: what it did not hear meanwhile says nothing."""
        self._probes.clear()
        self._awareness.note(1)

    # --- what comes --------------------------------------------------------------------------------------

    def ack(self, message: Ack) -> None:
        """A probe or a relayed ping was answered."""
        probe = self._probes.get(message.number)
        if probe is not None and probe.target == message.source:
            del self._probes[message.number]
            self._awareness.note(-1)
        relay = self._relays.get(message.number)
        if relay is not None and relay.target == message.source:
            del self._relays[message.number]
            self._outbox.send(relay.requester, Ack(relay.number, message.source))

    def nack(self, message: Nack, sender: NodeId) -> None:
        """A relay is well, and heard nothing."""
        probe = self._probes.get(message.number)
        if probe is not None and len(probe.nacks) < probe.nacks_wanted:
            probe.nacks[sender] = None

    def request(self, now: float, requester: str, message: PingRequest) -> None:
        """Another node asks for a ping."""
        if message.target == self._me:
            self._outbox.send(requester, Ack(message.number, self._me))
            return
        if len(self._relays) >= self._config.relays_limit:
            self._outbox.counters.relays_dropped += 1
            return
        number = self._next_number()
        self._relays[number] = _Relay(message.target, requester, message.number)
        self._outbox.send(message.address, Ping(number, message.target))
        self._agenda.at(now + NACK_SHARE * self._config.probe_timeout, self._say_nothing_heard, number)
        self._agenda.at(now + 2 * self._config.probe_interval, self._drop_relay, number)

    def _say_nothing_heard(self, now: float, number: int) -> None:
        relay = self._relays.get(number)
        if relay is not None:
            self._outbox.send(relay.requester, Nack(relay.number, self._me))

    def _drop_relay(self, now: float, number: int) -> None:
        self._relays.pop(number, None)

    def _next_number(self) -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        return self._number
