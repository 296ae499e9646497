"""What the shell must do or pass on for the core, in this order."""

from __future__ import annotations

from dataclasses import dataclass

from gossip.messages import ClusterId, Member, Status


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send one datagram; it may get lost."""

    address: str
    data: bytes


@dataclass(frozen=True, slots=True)
class PushPull:
    """Send `Swim.state_for_push_pull()` to this address over TCP and hand what it answers to `merge`.

    A failure needs no report: whatever wanted the exchange wants it again.
    """

    address: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A member other than this node is seen differently.

    `old` is None for one not known before, `new` is None for one no longer remembered; when both are equal,
    its record changed.
    """

    member: Member
    old: Status | None
    new: Status | None


@dataclass(frozen=True, slots=True)
class Joined:
    """This node now belongs to a cluster: keep its id on disk. `founded`: nobody was there before."""

    cluster: ClusterId
    founded: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A node at this address and this one cannot be in one cluster; a sentence for the operator."""

    address: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Twin:
    """Another process uses this node's id. Told once."""

    address: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep these addresses on disk in place of those before, for the next start."""

    addresses: tuple[str, ...]


Event = Changed | Joined | Refused | Twin | Remember
"""What the layer above wants to know."""
Effect = SendPacket | PushPull | Event
