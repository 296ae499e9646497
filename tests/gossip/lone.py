"""One node among members that answer pings but for the silent, and say else what the test lets them say."""

from __future__ import annotations

import random
from typing import Any

from gossip import codec
from gossip.codec import Envelope, Kind
from gossip.config import SwimConfig
from gossip.effects import Changed, Effect, Event, PushPull, SendPacket
from gossip.messages import Ack, Alive, ClusterId, Known, Member, Message, NodeId, Ping, State, Status
from gossip.swim import Swim
from tests.gossip.world import CLUSTER, address_of, node_id

ALIVE, SUSPECT, DEAD, LEFT = Status


def member(name: str, incarnation: int = 1, **fields: Any) -> Member:
    """Return a member with what tests do not care about filled in."""
    return Member(node_id(name), name, fields.pop("address", address_of(name)), incarnation, **fields)


class Lone:
    """The node "me", at time 100, and what came out of it.

    Arguments:
        others: names of members that are alive, at incarnation 1.
        fields: of the configuration.
    """

    def __init__(self, *others: str, seed: int = 1, config: SwimConfig | None = None, **given: Any) -> None:
        self.time = 100.0
        self.config = config or SwimConfig.lan()
        settings: dict[str, Any] = {"cluster": CLUSTER, "cluster_name": "test", **given}
        self.swim = Swim(self.config, member("me"), random.Random(seed), self.time, **settings)
        self.silent: dict[str, None] = {}
        self._answering: list[tuple[str, Ping]] = []
        self.packets: list[tuple[str, list[Message]]] = []
        self.exchanges: list[str] = []
        self.events: list[Event] = []
        for name in others:
            self.hears(Alive(member(name)))
        self.swim._rumours.clear()
        self.forget()

    def forget(self) -> None:
        """Begin anew to note what comes out."""
        self.packets, self.exchanges, self.events = [], [], []

    def hears(
        self, *messages: Message, sender: str = "n1", cluster: ClusterId = CLUSTER, run: bytes = b"runs"
    ) -> None:
        """Let a packet come in."""
        body = b"".join(map(codec.encode, messages))
        data = codec.seal(Envelope(Kind.PACKET, cluster, node_id(sender), run, body), b"")
        self.swim.receive(self.time, address_of(sender), data)
        self._take()

    def does(self, verb: str, *arguments: Any, **named: Any) -> None:
        """Call a verb of the core."""
        getattr(self.swim, verb)(self.time, *arguments, **named)
        self._take()

    def hears_state(
        self, *known: Known, sender: str = "n1", address: str | None = None, **given: Any
    ) -> None:
        """Let another node's answer to an exchange come in; `known` without the sender."""
        data = state_of(member(sender, given.pop("incarnation", 1)), *known, **given)
        self.swim.merge(self.time, address or address_of(sender), data)
        self._take()

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        end = self.time + seconds
        while self.swim.next_deadline() <= end:
            self.time = max(self.time, self.swim.next_deadline())
            self.swim.tick(self.time)
            self._take()
        self.time = end

    def status(self, name: str) -> Status | None:
        """Return how it sees a member."""
        found = self.swim.member(node_id(name))
        return None if found is None else found[1]

    def incarnation(self, name: str) -> int:
        """Return the newest incarnation it knows of a member."""
        found = self.swim.member(node_id(name))
        assert found is not None
        return found[0].incarnation

    def said(self, kind: type[Message], to: str | None = None) -> list[Any]:
        """Return what it sent, of one kind, each once."""
        found = {
            message: None
            for address, messages in self.packets
            for message in messages
            if type(message) is kind and (to is None or address == address_of(to))
        }
        return list(found)

    def changes(self) -> list[tuple[str, Status | None, Status | None]]:
        """Return what the layer above was told of members."""
        return [(e.member.name, e.old, e.new) for e in self.events if isinstance(e, Changed)]

    def _take(self) -> None:
        for effect in self.swim.take_effects():
            self._note(effect)
        while self._answering:
            name, ping = self._answering.pop(0)
            self.hears(Ack(ping.number, ping.target), sender=name)

    def _note(self, effect: Effect) -> None:
        match effect:
            case SendPacket():
                assert len(effect.data) <= self.config.packet_limit
                envelope = codec.unseal(effect.data, b"")
                messages = codec.decode(envelope.body)
                self.packets.append((effect.address, messages))
                name = effect.address.partition(":")[0]
                pings = [m for m in messages if isinstance(m, Ping) and m.target == node_id(name)]
                self._answering += [(name, ping) for ping in pings if name not in self.silent]
            case PushPull():
                self.exchanges.append(effect.address)
            case _:
                self.events.append(effect)


def state_of(
    sender: Member, *known: Known, cluster: ClusterId = CLUSTER, name: str = "test", run: bytes = b"runs"
) -> bytes:
    """Return a node's state."""
    body = codec.encode_state(State(name, (Known(sender, ALIVE, 0), *known)))
    return codec.seal(Envelope(Kind.STATE, cluster, NodeId(sender.id), run, body), b"")
