"""One other member, as a node that wants to talk to it has it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from dmqnode.peerlink import Incoming, Outgoing
from dmqnode.roster import Member


class Peer:
    """One other member, and the two connections to it."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.address = member.address
        """Where to dial: what it said itself, or what the roster says."""
        self.outgoing: Outgoing | None = None
        self.incoming: Incoming | None = None
        self.write_now: Callable[[bytes], int] | None = None
        """Of the outgoing connection."""
        self.out_scope: trio.CancelScope | None = None
        self.in_scope: trio.CancelScope | None = None
        self.tasks = trio.CancelScope()
        self.up = False
        self.parted = False
        """Whether it is a member no more."""
        self.changed = trio.Event()
        """Set when `up` may have become true."""
        self.kicked = trio.Event()
        """Set when it is worth dialling at once."""
        self.wake = trio.Event()
        """Set when there may be something to write."""
        self.rest: bytes | memoryview = b""
        self.leaving = 0
        self.release = ""
        self.complaint = ("", 0.0)
        """Why it was said not to be reachable, and until when that holds."""

    def kick(self) -> None:
        """Dial without waiting any longer."""
        self.kicked.set()
