"""Exchanging whole states over TCP: how views converge, nodes join, and strangers are refused.

A node without a cluster adopts that of a node which it asked itself, never of one that happens to ask it:
the address may have belonged to a member of another cluster.
"""

from __future__ import annotations

from collections.abc import Callable

from gossip import codec
from gossip.beliefs import Beliefs
from gossip.codec import Envelope, Kind
from gossip.config import SwimConfig
from gossip.effects import Joined, Refused
from gossip.errors import Malformed, Unauthentic
from gossip.meeting import Meeting
from gossip.members import Members
from gossip.messages import Known, NodeId, Refusal, State, Status
from gossip.outbox import Outbox

REFUSALS_LIMIT = 100
"""Addresses of which it is remembered what was told of them last."""

DAMAGED = "the state came damaged, or the cluster keys differ; give both nodes the same key"


class Exchange:
    """Makes, answers and merges states.

    Arguments:
        answered: called with a member's id when it has shown that it is there.
    """

    def __init__(
        self,
        config: SwimConfig,
        cluster_name: str,
        key: bytes,
        run: bytes,
        members: Members,
        beliefs: Beliefs,
        meeting: Meeting,
        outbox: Outbox,
        answered: Callable[[NodeId], None],
    ) -> None:
        self._config = config
        self._name = cluster_name
        self._key = key
        self._run = run
        self._members = members
        self._beliefs = beliefs
        self._meeting = meeting
        self._outbox = outbox
        self._answered = answered
        self._told: dict[str, str] = {}

    def state(self, now: float) -> bytes:
        """Return all that this node knows; of one without a cluster only who it is."""
        me = Known(self._beliefs.me, Status.ALIVE, 0)
        entries = self._members.all() if self._outbox.cluster else []
        others = (Known(entry.member, entry.status, max(0, int(now - entry.since))) for entry in entries)
        return self._outbox.seal(Kind.STATE, codec.encode_state(State(self._name, (me, *others))))

    def answer(self, now: float, data: bytes) -> bytes:
        """Take another node's state; return this node's, or a refusal."""
        try:
            envelope = self._open(data)
            state = self._state_of(envelope)
        except Malformed as error:
            return self._refusal(self._count(error))
        if self.is_me(envelope, state.known[0].member.address):
            return self.state(now)
        sentence = self._objection(envelope, state)
        if sentence:
            return self._refusal(sentence)
        if self._outbox.cluster:
            # One that is about to join is taken at its word; of others it knows nothing yet.
            self._merge(now, state, envelope.sender)
        return self.state(now)

    def merge(self, now: float, address: str, data: bytes) -> None:
        """Take what the node at `address` answered."""
        try:
            envelope = self._open(data)
            if envelope.kind is Kind.REFUSAL:
                self._refused(address, codec.decode_refusal(envelope.body).sentence)
                return
            state = self._state_of(envelope)
        except Malformed as error:
            self._refused(address, self._count(error))
            return
        if envelope.sender == self._beliefs.me.id and envelope.run == self._run:
            self._meeting.is_own(address)
            return
        if self.is_me(envelope, address):
            return
        sentence = self._objection(envelope, state)
        if sentence:
            self._refused(address, sentence)
            return
        self._told.pop(address, None)
        self._meeting.answers_at(address, envelope.sender)
        if not envelope.cluster:
            self._meeting.without_cluster(now, address)
            return
        if not self._outbox.cluster:
            self._outbox.cluster = envelope.cluster
            self._outbox.tell(Joined(envelope.cluster, founded=False))
            self._merge(now, state, envelope.sender, spread=False)
        else:
            self._merge(now, state, envelope.sender)
        self._answered(envelope.sender)

    def is_me(self, envelope: Envelope, address: str) -> bool:
        """Tell whether this comes from this node, or one with its id, which is told to the layer above."""
        if envelope.sender != self._beliefs.me.id:
            return False
        if envelope.run != self._run:
            self._beliefs.twin(address)
        return True

    # --- inside ------------------------------------------------------------------------------------------

    def _open(self, data: bytes) -> Envelope:
        return codec.unseal(data, self._key)

    def _state_of(self, envelope: Envelope) -> State:
        if envelope.kind is not Kind.STATE:
            raise Malformed("this is no state")
        state = codec.decode_state(envelope.body, self._config.members_limit + 1)
        first = state.known[0]
        if first.member.id != envelope.sender or first.status is not Status.ALIVE:
            raise Malformed("a state does not begin with its sender")
        return state

    def _merge(self, now: float, state: State, sender: NodeId, *, spread: bool = True) -> None:
        self._outbox.counters.exchanges += 1
        self._beliefs.alive(now, state.known[0].member)
        for known in state.known[1:]:
            self._beliefs.merge(now, known, sender, spread=spread)

    def _objection(self, envelope: Envelope, state: State) -> str:
        """Return why the two cannot be in one cluster, a sentence for either's operator; or nothing."""
        me, other = self._beliefs.me, state.known[0].member
        theirs, ours = f"{other.name} ({other.address})", f"{me.name} ({me.address})"
        if state.cluster_name != self._name:
            self._outbox.counters.foreign += 1
            return (
                f"{theirs} is of cluster {state.cluster_name!r}, {ours} of {self._name!r}; "
                "give both the same cluster name, or other addresses to join"
            )
        if envelope.cluster and self._outbox.cluster and envelope.cluster != self._outbox.cluster:
            self._outbox.counters.foreign += 1
            return (
                f"{theirs} and {ours} have the data of two clusters, both named {self._name!r}; "
                "a node joins another cluster only without data"
            )
        if other.lowest > me.highest or me.lowest > other.highest:
            return (
                f"{theirs} speaks the protocol versions {other.lowest} to {other.highest}, "
                f"{ours} {me.lowest} to {me.highest}; upgrade the older one"
            )
        return ""

    def _refusal(self, sentence: str) -> bytes:
        return self._outbox.seal(Kind.REFUSAL, codec.encode_refusal(Refusal(sentence)))

    def _count(self, error: Malformed) -> str:
        if isinstance(error, Unauthentic):
            self._outbox.counters.unauthentic += 1
            return DAMAGED
        self._outbox.counters.malformed += 1
        return f"the state cannot be read: {error}"

    def _refused(self, address: str, sentence: str) -> None:
        """Tell the layer above, once for the same reason: the address will be tried again and again."""
        if self._told.get(address) == sentence:
            return
        if len(self._told) >= REFUSALS_LIMIT:
            self._told.clear()
        self._told[address] = sentence
        self._outbox.tell(Refused(address, sentence))
