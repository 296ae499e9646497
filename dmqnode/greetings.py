"""Messages with which members greet one another, and tell who they are and how: tags 112 to 127."""

from __future__ import annotations

from typing import Any

from dmqnode.ids import PartitionId
from dmqnode.messages import Blob, Message

# --- the roster (rules M1 to M5) -------------------------------------------------------------------------


class RosterIs(Message, tag=112):
    """The roster, once it is committed; `record` as `roster.encode` has it."""

    record: bytes


class WantRoster(Message, tag=113):
    """Asks for the roster: the sender has heard of a later version than its own."""


# --- how the cluster is ----------------------------------------------------------------------------------


class WantState(Message, tag=114):
    """Asks a node what it leads and how that is."""

    nonce: int


class StateIs(Message, tag=115):
    """Answers WantState: partitions led (their ids in a row), of those the ones with too few copies, debts
    kept, records set aside, and whether the node finds itself healthy."""

    nonce: int
    led: bytes
    under_replicated: bytes
    hints: int
    set_aside: int
    healthy: bool
    moving: int = 0
    """Partitions led that are on their way to other homes."""
    moves: list[tuple[PartitionId, list[bytes], list[bytes], int, int]] | None = None
    """Of those the first: who gives it up, who gets it, messages that are there, messages that are to be."""
    owed: list[tuple[PartitionId, int]] | None = None
    """The debts kept, by partition."""
    handed_over: int = 0
    """Debts handed over since there was none last."""
    figures: dict[str, Any] | None = None
    """What the node counts, and what it uses."""


# --- who is there, as gossip has it ----------------------------------------------------------------------


class GossipAsk(Message, tag=116):
    """Hands over all that a node knows by gossip, and asks for the same."""

    nonce: int
    state: Blob


class GossipAnswer(Message, tag=117):
    """Answers GossipAsk: what the other knows, or a refusal."""

    nonce: int
    state: Blob


# --- which deletions may be forgotten (rule T3) ----------------------------------------------------------


class MayForget(Message, tag=124):
    """Asks whether the deletions of these queues are on the receiver's disk, and nothing is left of them."""

    nonce: int
    ids: list[bytes]


class Forgettable(Message, tag=125):
    """Answers MayForget: it is so."""

    nonce: int


class Forgotten(Message, tag=126):
    """Every member has done these deletions: nobody needs to remember them."""

    ids: list[bytes]


# --- what time it is (rule T1) ---------------------------------------------------------------------------


class WhatTime(Message, tag=118):
    """Asks what the receiver's wall clock shows."""

    nonce: int


class TimeIs(Message, tag=119):
    """Answers WhatTime at once: milliseconds since 1970."""

    nonce: int
    wall: int


# --- the greeting of two members (rules I2, I3) ----------------------------------------------------------


class PeerChallenge(Message, tag=120):
    """The first frame of the side that was dialled: the versions it speaks, and a nonce."""

    lowest: int
    highest: int
    nonce: bytes


class PeerHello(Message, tag=121):
    """Answers PeerChallenge: who dials, whom it means to reach, and a proof that it knows the key."""

    version: int
    node: bytes
    boot: int
    nonce: int
    cluster: bytes
    cluster_name: str
    name: str
    address: str
    release: str
    wanted: bytes
    challenge: bytes
    proof: bytes


class PeerWelcome(Message, tag=122):
    """Answers PeerHello: who was reached, and its proof."""

    node: bytes
    boot: int
    nonce: int
    release: str
    proof: bytes


class PeerRefusal(Message, tag=123):
    """Answers PeerHello: who was dialled sends a node away that knows the key, and proves who it is."""

    code: str
    message: str
    node: bytes
    proof: bytes
    version: int = 0
    """Of its list of members, if that is why."""
    record: bytes = b""
    """Its list of members, if another node was to be reached."""


class RunIs(Message, tag=127):
    """The sender's run has another number from now on, which is on its disk (rule I2)."""

    boot: int
