"""What members tell each other: frozen, tagged, append-only.

Never reuse or renumber a tag or a status; add fields only at the end. How they become bytes is in
`codec`; which of two claims about a member counts is in `supersedes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NewType

from gossip.errors import InvalidSetting

NodeId = NewType("NodeId", bytes)
ClusterId = NewType("ClusterId", bytes)

NODE_ID_SIZE = 8
CLUSTER_ID_SIZE = 16
NO_CLUSTER = ClusterId(b"")
"""What a node that has not joined yet has for a cluster id."""
NAME_LIMIT = 64
ADDRESS_LIMIT = 255
ZONE_LIMIT = 64
META_LIMIT = 512
"""Bytes (of UTF-8, for text) that the fields of a member may have, so that each fits into a packet."""
WEIGHT_LIMIT = 1e6
INCARNATION_LIMIT = 1 << 62
"""No claim by others reaches it, so a member can always go one higher than the claim."""
BOOT_SHIFT = 20


def first_incarnation(boot: int) -> int:
    """Return the incarnation with which a member's `boot`-th run begins.

    It is above whatever an earlier run reached (a million refutations), so a restarted member need not
    hear first what became of it.
    """
    return boot << BOOT_SHIFT


class Status(IntEnum):
    """What is thought of a member. The order is that of precedence within one incarnation."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    """Not answering: crashed, stopped or cut off. It may come back."""
    LEFT = 3
    """Gone for good, by command."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who and where a member is, as it says itself."""

    id: NodeId
    name: str
    address: str
    """HOST:PORT, of UDP and TCP alike; nothing here looks into it but the transport."""
    incarnation: int = 0
    """Raised by the member alone: its newest word about itself has the highest."""
    zone: str = ""
    weight: float = 1.0
    lowest: int = 1
    highest: int = 1
    """The range of protocol versions it speaks."""
    meta: bytes = b""
    """Whatever the layer above wants each member to know of each."""

    def __post_init__(self) -> None:
        _check(len(self.id) == NODE_ID_SIZE, "a member's id has 8 bytes")
        _check(_fits(self.name, NAME_LIMIT), f"a member's name is longer than {NAME_LIMIT} bytes")
        _check(bool(self.address), "a member has no address")
        _check(_fits(self.address, ADDRESS_LIMIT), f"an address is longer than {ADDRESS_LIMIT} bytes")
        _check(_fits(self.zone, ZONE_LIMIT), f"a zone is longer than {ZONE_LIMIT} bytes")
        _check(len(self.meta) <= META_LIMIT, f"a member's meta is longer than {META_LIMIT} bytes")
        _check(math.isfinite(self.weight) and 0 <= self.weight <= WEIGHT_LIMIT, "a weight is out of range")
        _check(0 <= self.lowest <= self.highest < 1 << 16, "a range of protocol versions is not one")
        _check(0 <= self.incarnation <= INCARNATION_LIMIT, "an incarnation is out of range")


def _fits(text: str, limit: int) -> bool:
    return len(text.encode("utf-8", "replace")) <= limit


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise InvalidSetting(sentence)


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, `target`? Answered with Ack; another member at this address does not answer."""

    TAG: ClassVar[int] = 1
    number: int
    target: NodeId


@dataclass(frozen=True, slots=True)
class PingRequest:
    """Please ping `target` at `address` for me; answered with Ack once it answered, Nack if it did not."""

    TAG: ClassVar[int] = 2
    number: int
    target: NodeId
    address: str


@dataclass(frozen=True, slots=True)
class Ack:
    """Ping or PingRequest `number` reached `source`."""

    TAG: ClassVar[int] = 3
    number: int
    source: NodeId


@dataclass(frozen=True, slots=True)
class Nack:
    """I, `source`, am well, but did not hear from the target of PingRequest `number` (Lifeguard §IV-A)."""

    TAG: ClassVar[int] = 4
    number: int
    source: NodeId


@dataclass(frozen=True, slots=True)
class Alive:
    """The member is there, and is this."""

    TAG: ClassVar[int] = 5
    member: Member


@dataclass(frozen=True, slots=True)
class Suspect:
    """`source` could not reach `node`."""

    TAG: ClassVar[int] = 6
    node: NodeId
    incarnation: int
    source: NodeId


@dataclass(frozen=True, slots=True)
class Dead:
    """`node` did not answer its suspicion in time, or (source = node) says that it stops."""

    TAG: ClassVar[int] = 7
    node: NodeId
    incarnation: int
    source: NodeId


@dataclass(frozen=True, slots=True)
class Left:
    """`node` left for good, by command, or was forgotten by command."""

    TAG: ClassVar[int] = 8
    node: NodeId
    incarnation: int
    source: NodeId


Claim = Suspect | Dead | Left
Message = Ping | PingRequest | Ack | Nack | Alive | Suspect | Dead | Left

CLAIMED = {Suspect: Status.SUSPECT, Dead: Status.DEAD, Left: Status.LEFT}
"""The status that each kind of claim gives its member."""


@dataclass(frozen=True, slots=True)
class Known:
    """One member as a state tells of it; `age`: for how many seconds it has had this status."""

    member: Member
    status: Status
    age: int


@dataclass(frozen=True, slots=True)
class State:
    """All that a node knows, exchanged as a whole over TCP; its own record comes first."""

    cluster_name: str
    known: tuple[Known, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a State that cannot be merged, for the other's operator to read."""

    sentence: str


def supersedes(status: Status, incarnation: int, old_status: Status, old_incarnation: int) -> bool:
    """Tell whether a claim about a member counts against what is known of it (SWIM §4.2).

    The higher incarnation wins, and within one the later status. Only the member's own word, Alive, brings
    it back from dead or left; so a late suspicion does not.
    """
    if status is Status.SUSPECT and old_status >= Status.DEAD:
        return False
    return (incarnation, status) > (old_incarnation, old_status)
