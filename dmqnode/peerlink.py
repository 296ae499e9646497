"""One connection between two members, for either side, without any input or output.

Each member dials every other.  What A tells B travels on the connection that A dialled, in order; B only
answers pings on it.  In front of everything both prove that they know the cluster's key, and who they are:

    A dials, and writes the magic
                                 B: PeerChallenge   a nonce of B's
    A: PeerHello    who A is, a nonce of its own, a proof over both
                                 B: PeerWelcome     who B is, its proof; or it hangs up, behind
                                    PeerRefusal     why A may not go on as who it is, or that B is not whom
                                                    A looks for, and who the members are; and B's proof, or
                                    Failed          why not, from whoever sits there
    A: messages, and a Ping every half second
                                 B: Pong
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from typing import NamedTuple

from dmqnode import wire
from dmqnode.errors import ProtocolError
from dmqnode.greetings import PeerChallenge, PeerHello, PeerRefusal, PeerWelcome
from dmqnode.ids import NodeId
from dmqnode.messages import Failed, Message, Ping, Pong
from dmqnode.roster import Roster, decode, encode

PEER_MAGIC = b"DMQP"
"""What a member writes before its first frame, where a client writes another."""
PEER_LOWEST = 1
PEER_HIGHEST = 1
PING_EVERY = 0.5
"""Seconds between two pings of the side that dialled."""
SILENCE = 2.0
"""Seconds after which a silent peer is given up."""
OWN_PAUSE = 0.5
"""A clock that jumps by more seconds than this was this process's own pause: the peer is heard out first."""
GREETING = 64 << 10
"""The longest frame, in bytes, of a peer that has not proved who it is."""
MAX_RECORD = 48 << 10
"""The longest list of members, in bytes, that a refusal has with it: of some 600."""
PEER_FRAME = 256 << 20
"""The longest frame, in bytes, of a member."""


class Self(NamedTuple):
    """Who this node is, as it tells its peers."""

    node: NodeId
    boot: int
    nonce: int
    cluster: bytes
    cluster_name: str
    key: bytes
    name: str
    address: str
    release: str
    lowest: int = PEER_LOWEST
    """The versions of the peers' protocol that it speaks."""
    highest: int = PEER_HIGHEST


class _Side:
    """What both sides share: framing, silence, and the bytes that wait to be written."""

    def __init__(self, me: Self, challenge: bytes, now: float) -> None:
        self.me = me
        self.open = False
        self.closed = False
        self.why = ""
        """A sentence, once it is closed."""
        self.pending = 0
        """Bytes that wait to be written."""
        self._challenge = challenge
        self._reader = wire.FrameReader(GREETING)
        self._outbox: list[bytes] = []
        self._heard = now

    def data_to_send(self) -> bytes:
        """Return everything that waits to be written, once; b"" if there is nothing."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        self.pending = 0
        return data

    def close(self, why: str) -> None:
        """End the connection; the first reason stays."""
        if not self.closed:
            self.closed = True
            self.why = why

    def _write(self, message: Message) -> None:
        pieces = wire.encode(0, message)
        self._outbox += pieces
        self.pending += sum(map(len, pieces))

    def _frames(self, now: float, data: bytes) -> list[Message]:
        self._heard = now
        return [wire.decode(payload)[1] for payload in self._reader.feed(data)]

    def _silent(self, now: float) -> None:
        """Close if the peer was silent for too long; not on account of this process's own pause."""
        late = now - (self._heard + SILENCE)
        if late > OWN_PAUSE:
            self._heard = now - SILENCE + OWN_PAUSE
        elif late >= 0:
            self.close("the peer was silent for too long")

    def _opened(self) -> None:
        self.open = True
        self._reader.max_frame = PEER_FRAME


class Outgoing(_Side):
    """The side that dialled: it tells.

    Arguments:
        me: who this node is.
        wanted: the node that should be there.
        challenge: random bytes.
    """

    def __init__(self, me: Self, wanted: NodeId, challenge: bytes, now: float) -> None:
        super().__init__(me, challenge, now)
        self.refused: Failed | None = None
        """What the peer said instead of welcome."""
        self.refused_by_member = False
        """Whether the wanted member has said so, and proved that."""
        self.refused_by_version = 0
        """The version of its list of members, if it has told that."""
        self.elsewhere: Roster | None = None
        """Who the members are, as another node has told that sits there and has proved to know the key."""
        self.release = ""
        """What the peer runs."""
        self._wanted = wanted
        self._ping_at = math.inf
        self._challenge_of_peer = b""
        self._outbox.append(PEER_MAGIC)

    def send(self, message: Message, frame: bytes = b"") -> None:
        """Tell the peer something; the connection is open.

        Arguments:
            frame: the message as it travels, if that is known already.
        """
        if frame:
            self._outbox.append(frame)
            self.pending += len(frame)
        else:
            self._write(message)

    def receive_data(self, now: float, data: bytes) -> None:
        """Take bytes from the peer.  Errors: ProtocolError; then hang up."""
        for message in self._frames(now, data):
            match message:
                case PeerChallenge() if not self.open and self._ping_at == math.inf:
                    self._introduce(now, message)
                case PeerWelcome() if not self.open and self._ping_at < math.inf:
                    self._welcomed(message)
                case PeerRefusal() if not self.open and self._ping_at < math.inf:
                    self._sent_away(message)
                    return
                case Failed() if not self.open:
                    self.refused = message
                    self.close(message.message)
                    return
                case Pong():
                    pass
                case _:
                    raise ProtocolError(f"a peer sent {type(message).__name__}, which is out of place")

    def _introduce(self, now: float, challenge: PeerChallenge) -> None:
        me = self.me
        if challenge.lowest > me.highest or challenge.highest < me.lowest:
            raise ProtocolError(
                f"the peer speaks versions {challenge.lowest} to {challenge.highest} of the peers' protocol, "
                f"this node {me.lowest} to {me.highest}; upgrade one release at a time"
            )
        self._challenge_of_peer = challenge.nonce
        proof = prove(me.key, b"hello", challenge.nonce, self._challenge, me.node)
        self._write(
            PeerHello(
                min(me.highest, challenge.highest),
                me.node,
                me.boot,
                me.nonce,
                me.cluster,
                me.cluster_name,
                me.name,
                me.address,
                me.release,
                self._wanted,
                self._challenge,
                proof,
            )
        )
        self._ping_at = now + PING_EVERY

    def _welcomed(self, welcome: PeerWelcome) -> None:
        self._verify(b"welcome", welcome.node, welcome.proof, self._wanted)
        self.release = welcome.release
        self._opened()

    def _sent_away(self, refusal: PeerRefusal) -> None:
        role = refusing(refusal.code, refusal.version, refusal.record)
        if refusal.code == OTHER_NODE:
            # Where a member was there may be a new one, of which a node knows nothing that was away.
            self._verify(role, refusal.node, refusal.proof, NodeId(refusal.node))
            self.elsewhere = decode(refusal.record)
        else:
            self._verify(role, refusal.node, refusal.proof, self._wanted)
            self.refused_by_version = refusal.version
            self.refused_by_member = True
        self.refused = Failed(refusal.code, refusal.message, False)
        self.close(refusal.message)

    def _verify(self, role: bytes, node: bytes, proof: bytes, wanted: NodeId) -> None:
        right = prove(self.me.key, role, self._challenge, self._challenge_of_peer, NodeId(node))
        if node != wanted or not hmac.compare_digest(right, proof):
            raise ProtocolError("a node answers there that is not the member that should be there")

    def tick(self, now: float) -> None:
        """Do what is due: ask the peer whether it is there; close when it stays silent."""
        if self.open and now >= self._ping_at:
            self._write(Ping())
            self._ping_at = now + PING_EVERY
        self._silent(now)

    def next_deadline(self) -> float:
        """Return when `tick` must be called."""
        silent = self._heard + SILENCE
        return min(silent, self._ping_at) if self.open else silent


class Incoming(_Side):
    """The side that was dialled: it listens.

    Arguments:
        me: who this node is.
        judge: decides about a peer that has proved to know the key; Failed sends it away.
        challenge: random bytes.
        roster: returns the list of members by which that is decided.
    """

    def __init__(
        self,
        me: Self,
        judge: Callable[[PeerHello], Failed | None],
        challenge: bytes,
        now: float,
        roster: Callable[[], Roster] = lambda: Roster(0, ()),
    ) -> None:
        super().__init__(me, challenge, now)
        self.hello: PeerHello | None = None
        self._judge = judge
        self._roster = roster
        self._write(PeerChallenge(me.lowest, me.highest, challenge))

    def receive_data(self, now: float, data: bytes) -> list[Message]:
        """Take bytes behind the magic; return what the peer tells.  Errors: ProtocolError; then hang up."""
        out: list[Message] = []
        for message in self._frames(now, data):
            if self.closed:
                break
            if not self.open:
                self._greet(message)
            elif type(message) is Ping:
                self._write(Pong())
            else:
                out.append(message)
        return out

    def _greet(self, hello: Message) -> None:
        if not isinstance(hello, PeerHello):
            raise ProtocolError(f"the first message of a peer was {type(hello).__name__}, not PeerHello")
        failed = self._refusal(hello)
        if failed is not None:
            self._write(failed)
            self.close(failed.message)
            return
        me = self.me
        failed, roster = self._refusal_of_member(hello), self._roster()
        if failed is not None:
            record = encode(roster) if failed.code == OTHER_NODE else b""
            if len(record) > MAX_RECORD:
                self._write(failed)
            else:
                role = refusing(failed.code, roster.version, record)
                proof = prove(me.key, role, hello.challenge, self._challenge, me.node)
                self._write(PeerRefusal(failed.code, failed.message, me.node, proof, roster.version, record))
            self.close(failed.message)
            return
        self.hello = hello
        proof = prove(me.key, b"welcome", hello.challenge, self._challenge, me.node)
        self._write(PeerWelcome(me.node, me.boot, me.nonce, me.release, proof))
        self._opened()

    def _refusal(self, hello: PeerHello) -> Failed | None:
        me = self.me
        if not me.lowest <= hello.version <= me.highest:
            return Failed("version", f"version {hello.version} of the peers' protocol is not known", False)
        if hello.cluster != me.cluster:
            return Failed(
                OTHER_CLUSTER,
                f"this node is of cluster {me.cluster_name} ({me.cluster.hex()[:8]}), not of cluster "
                f"{hello.cluster_name} ({hello.cluster.hex()[:8]})",
                False,
            )
        proof = prove(me.key, b"hello", self._challenge, hello.challenge, NodeId(hello.node))
        if not hmac.compare_digest(proof, hello.proof):
            return Failed("not-authorized", "the peer does not know the cluster's key", False)
        return None

    def _refusal_of_member(self, hello: PeerHello) -> Failed | None:
        me = self.me
        if hello.wanted != me.node:
            return Failed(OTHER_NODE, f"this is {me.name} ({me.node.hex()}), another node", True)
        return self._judge(hello)

    def tick(self, now: float) -> None:
        """Do what is due: close when the peer stays silent."""
        self._silent(now)

    def next_deadline(self) -> float:
        """Return when `tick` must be called."""
        return self._heard + SILENCE


OTHER_CLUSTER = "other-cluster"
OTHER_NODE = "other-node"


def refusing(code: str, version: int, record: bytes = b"") -> bytes:
    """Return as what a node proves itself that sends another away, for one reason and by one list."""
    return (
        b"refused " + code.encode() + (b" %d" % version if version else b"") + (b" " + record) * bool(record)
    )


def prove(key: bytes, role: bytes, theirs: bytes, ours: bytes, node: NodeId) -> bytes:
    """Return what only a member can answer to the nonces of both sides."""
    parts = (role, theirs, ours, node)
    text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(key, text, "sha256")
