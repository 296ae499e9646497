"""What a core wants done, gathered; every packet leaves through here and takes news along."""

from __future__ import annotations

from dataclasses import dataclass

from gossip import codec
from gossip.codec import Envelope, Kind
from gossip.config import SwimConfig
from gossip.effects import Effect, Event, PushPull, SendPacket
from gossip.members import Members
from gossip.messages import ClusterId, Message, NodeId
from gossip.rumours import Rumours


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    sent_packets: int = 0
    sent_bytes: int = 0
    received_packets: int = 0
    exchanges: int = 0
    """States merged."""
    malformed: int = 0
    unauthentic: int = 0
    """Packets and states that were damaged, or made with another key."""
    foreign: int = 0
    """Packets and states of another cluster, or of none."""
    misdirected: int = 0
    """Pings for another member at this address."""
    overflow: int = 0
    """News of members that found no room."""
    relays_dropped: int = 0
    probes: int = 0
    probes_failed: int = 0
    suspicions: int = 0
    deaths: int = 0
    """Members that this node declared dead."""
    refutations: int = 0
    """Times this node had to say that it is well."""
    overslept: int = 0
    """Times this node itself was not running when it should have."""


class Outbox:
    """Seals packets, fills them with news, and keeps effects in order until they are taken.

    Arguments:
        node, run, key: see `codec`.
        cluster: `NO_CLUSTER` until joined; nothing is sent while it is.
    """

    def __init__(
        self,
        config: SwimConfig,
        members: Members,
        rumours: Rumours,
        *,
        node: NodeId,
        run: bytes,
        key: bytes,
        cluster: ClusterId,
    ) -> None:
        self._config = config
        self._members = members
        self._rumours = rumours
        self._node, self._run, self._key = node, run, key
        self.cluster = cluster
        self.counters = Counters()
        self._effects: list[Effect] = []

    def send(self, address: str, *messages: Message) -> None:
        """Send messages in one packet, and with them what news there is room for."""
        if not self.cluster:
            return
        pieces = [codec.encode(message) for message in messages]
        room = self._config.packet_limit - codec.OVERHEAD - sum(map(len, pieces))
        pieces += self._rumours.take(room, self._config.transmit_limit(self._members.size))
        data = self.seal(Kind.PACKET, b"".join(pieces))
        self.counters.sent_packets += 1
        self.counters.sent_bytes += len(data)
        self._effects.append(SendPacket(address, data))

    def seal(self, kind: Kind, body: bytes) -> bytes:
        """Return the bytes of an envelope from this node."""
        return codec.seal(Envelope(kind, self.cluster, self._node, self._run, body), self._key)

    def push_pull(self, address: str) -> None:
        """Ask for an exchange of states."""
        self._effects.append(PushPull(address))

    def tell(self, event: Event) -> None:
        """Tell the layer above."""
        self._effects.append(event)

    def take(self) -> list[Effect]:
        """Return what has gathered."""
        taken, self._effects = self._effects, []
        return taken
