"""Which peers are who they say: members, of this cluster, in a run that nobody else is in (rule I2).

A node remembers the boot number and the nonce of the last run that it met of each member.  Another nonce
with a boot number that is not higher is a restored backup or a copied data directory: what it would write
under its id was written before, by the run that it does not know of.

A run takes a higher number every minute, and tells the others once that is on its disk.  So what was copied
from its disk while it ran is known, too, if it has gone on for a minute: a start takes the number behind that
on its disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from dmqnode.greetings import PeerHello
from dmqnode.ids import NODE_ID_SIZE, NodeId
from dmqnode.messages import Failed
from dmqnode.roster import Roster

AMNESIA = "amnesia"
"""The code for a peer whose data directory is older than what it has told before."""
TWICE = "twice"
"""The code for a peer whose id another live process has."""
UNKNOWN = "not-a-member"
"""The code for a peer that the roster does not list."""

PATIENCE = {AMNESIA: 0.0, TWICE: 5.0, UNKNOWN: 10.0}
"""Seconds for which peers must say one of these before this node believes them.  What a stranger says that
sits where a member was does not count.  Who has a later list of members than this node, without it, is
believed at once: an id that a list has and a later one has not never comes back, so it is no peer that is
only behind.  Whose process is alive is no matter of lists: after a crash it is the one that died."""


class Rebuffs:
    """How peers have sent this node away, until they welcomed it."""

    def __init__(self) -> None:
        self._said: dict[str, dict[NodeId, float]] = {}

    def welcomed(self, peer: NodeId) -> None:
        """A peer takes this node for what it is."""
        self._said.pop(TWICE, None)
        self._said.get(UNKNOWN, {}).pop(peer, None)

    def sent_away(self, now: float, peer: NodeId, code: str, members: int, *, later: bool = False) -> bool:
        """A peer has sent this node away; tell whether it must go on no longer.

        Arguments:
            members: how many there are; half of them must have forgotten this node, for one may be behind.
            later: whether the peer's list of members is a later one than this node's.
        """
        if code not in PATIENCE:
            return False
        said = self._said.setdefault(code, {})
        said.setdefault(peer, now)
        if later and code == UNKNOWN:
            said[peer] = -math.inf
        convinced = sum(now - since >= PATIENCE[code] for since in said.values())
        return 2 * convinced >= members if code == UNKNOWN else convinced > 0


class Acquaintances:
    """The other members, as this node has met them.

    Arguments:
        me: this node.
        roster: returns the roster as this node has it.
        met: (boot, nonce) by node, from the disk.
    """

    def __init__(self, me: NodeId, roster: Callable[[], Roster], met: dict[NodeId, tuple[int, int]]) -> None:
        self._me = me
        self._roster = roster
        self.met = dict(met)

    @property
    def roster(self) -> Roster:
        """The list of members that is judged by."""
        return self._roster()

    def judge(self, hello: PeerHello, live: tuple[int, int] | None) -> Failed | None:
        """Return why a peer is sent away, None if it is welcome.

        Arguments:
            live: (boot, nonce) of the process of this id that is connected now.
        """
        node = NodeId(hello.node)
        if len(node) != NODE_ID_SIZE or node == self._me:
            return Failed(TWICE, "another process with the same data runs already; stop one of them", True)
        if self._roster().find(node) is None:
            return Failed(
                UNKNOWN,
                f"node {hello.name} ({node.hex()}) is no member here; if it was forgotten, it is let in as a "
                "new node only",
                True,
            )
        if live is not None and live[1] != hello.nonce:
            return Failed(
                TWICE,
                f"another process of node {hello.name} ({node.hex()}) is alive; stop one of them",
                True,
            )
        known = self.met.get(node)
        if known is not None and known[1] != hello.nonce and hello.boot <= known[0]:
            return Failed(
                AMNESIA,
                f"node {hello.name} ({node.hex()}) was met in run {known[0]}, and now says that this is run "
                f"{hello.boot}: its data directory is an old backup or a copy; only a new node is let in",
                False,
            )
        return None

    def meet(self, hello: PeerHello) -> bool:
        """Remember the run of a peer that is welcome; tell whether that is news, to be kept on disk."""
        node = NodeId(hello.node)
        boot, nonce = self.met.get(node, (0, 0))
        if nonce == hello.nonce and boot >= hello.boot:
            return False
        self.met[node] = (hello.boot, hello.nonce)
        for gone in [n for n in self.met if self._roster().find(n) is None]:
            del self.met[gone]
        return True

    def counted(self, node: NodeId, boot: int) -> bool:
        """The run of a linked peer has a higher number now; tell whether that is news, to be kept on disk."""
        known = self.met.get(node)
        if known is None or boot <= known[0]:
            return False
        self.met[node] = (boot, known[1])
        return True
