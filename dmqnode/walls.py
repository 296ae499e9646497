"""What the wall clocks of the other nodes show beside this node's own, and whether it may lead (rule T1).

    a link is up, every 5 s ──WhatTime──> TimeIs ──> their clock beside this, within half of the round trip
    more clocks far on one side than near  ──> off: leads nothing, until its clock or theirs are set right
    some far, others not heard yet         ──> in doubt: for a moment nothing is delivered, nothing expires
    two nodes, or one, or as many as against each other ──> nobody knows who is wrong: go on, and say so

Their clocks are kept beside the running time of this node, so that a step of its own is seen at once, and
tell for half a minute also while the link is down: one of two that come back to each other may be wrong, and
the third is still away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from dmqnode.clock import Now
from dmqnode.greetings import TimeIs, WhatTime
from dmqnode.ids import NodeId
from dmqnode.messages import Message
from dmqnode.port import Port

FAR = 10_000
"""Milliseconds from the median of its peers beyond which a node does not lead."""
ASK_EVERY = 5.0
STALE = 30.0
"""Seconds after which what was heard of a clock does not count any more."""
PATIENCE = 1.5
"""Seconds for which clocks that are not known yet are waited for."""
COARSE = 3000.0
"""Milliseconds by which a clock may be known wrongly: after a longer round trip it is asked again."""
STEP = 50.0
"""Milliseconds that count as a step of this node's clock."""


class _Clock(NamedTuple):
    ahead: float
    """Its wall clock minus this node's running time, milliseconds."""
    error: float
    heard_at: float


class Walls:
    """The wall clocks of a cluster, as one node knows them.

    Arguments:
        linked: the nodes that it can talk to, since when.
    """

    def __init__(self, port: Port, linked: Callable[[], Mapping[NodeId, float]]) -> None:
        self._port = port
        self._linked = linked
        self._clocks: dict[NodeId, _Clock] = {}
        self._asked: dict[NodeId, tuple[int, float]] = {}
        self._nonce = 0
        self._ask_at = 0.0
        self._seen: tuple[float, float] = (0.0, -1.0)
        """This node's clock, as in `_Clock.ahead`, and the running time, when it was judged last."""
        self.off = False
        """Whether this node's clock is wrong, as most say: then it leads nothing."""
        self.doubt = False
        """Whether it may be: who is to tell has not answered yet."""
        self.unlike = 0.0
        """Milliseconds by which this clock is ahead of the one that differs most, if that is far."""

    # --- asking --------------------------------------------------------------------------------------

    def look(self, now: Now) -> None:
        """Ask everybody, if it is time to; sooner those that have not answered so far, or were far off."""
        everybody = now.run >= self._ask_at
        if everybody:
            self._ask_at = now.run + ASK_EVERY
        for node in self._linked():
            _, at = self._asked.get(node, (0, -STALE))
            known = node in self._clocks and not self.far(now, node)
            if everybody or (not known and now.run - at > PATIENCE / 3):
                self.met(now, node)

    def met(self, now: Now, node: NodeId) -> None:
        """A link is up: ask at once."""
        self._nonce += 1
        self._asked[node] = (self._nonce, now.run)
        self._port.send(node, WhatTime(self._nonce))
        self._seen = (0.0, -1.0)

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these."""
        match message:
            case WhatTime():
                self._port.send(sender, TimeIs(message.nonce, now.wall))
            case TimeIs():
                nonce, left = self._asked.get(sender, (0, 0.0))
                error = (now.run - left) * 500
                if message.nonce == nonce and error <= COARSE:
                    del self._asked[sender]
                    ahead = message.wall - (left + now.run) * 500
                    self._clocks[sender] = _Clock(ahead, error, now.run)
                    self._seen = (0.0, -1.0)
            case _:
                return False
        return True

    # --- judging -------------------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether nothing may be made of stored times here: nothing is due, nothing expires."""
        return self.off or self.doubt

    def judge(self, now: Now) -> bool:
        """See whether this node's clock is right, if something has changed; tell whether `silent` changed."""
        own = now.wall - now.run * 1000
        seen, at = self._seen
        if 0 <= now.run - at < 0.25 and abs(own - seen) < STEP:
            return False
        before = self.silent
        self._seen = (own, now.run)
        linked = self._linked()
        for node in [n for n, c in self._clocks.items() if now.run - c.heard_at > STALE]:
            del self._clocks[node]
        apart = sorted(self._apart(clock, own) for clock in self._clocks.values())
        far = [a for a in apart if abs(a) > FAR]
        self.unlike = -max(far, key=abs) if far else 0.0
        waiting = any(n not in self._clocks and now.run - at < PATIENCE for n, at in linked.items())
        self.doubt = waiting and (bool(far) or not apart)
        if not far:
            self.off = False
        elif not waiting:
            self.off = self._outvoted(apart)
        return self.silent != before

    @staticmethod
    def _apart(clock: _Clock, own: float) -> float:
        """Return by how much a clock is certainly ahead of this one, or behind, milliseconds."""
        apart = clock.ahead - own
        return max(0.0, apart - clock.error) if apart > 0 else min(0.0, apart + clock.error)

    def _outvoted(self, apart: list[float]) -> bool:
        """Tell whether the median of all, this one included, is far; of two in the middle, the nearer counts.

        Only who was outvoted already goes by the farther one: half of the others may be gone meanwhile.
        """
        clocks = sorted([*apart, 0.0])
        middle = clocks[(len(clocks) - 1) // 2 : len(clocks) // 2 + 1]
        choose = max if self.off else min
        return abs(choose(middle, key=abs)) > FAR

    def far(self, now: Now, node: NodeId) -> bool:
        """Tell whether the clock of a node is known to be far from this one's."""
        clock = self._clocks.get(node)
        return clock is not None and abs(self._apart(clock, now.wall - now.run * 1000)) > FAR

    def notices(self) -> list[str]:
        """Say what the operator should know."""
        seconds = f"{abs(self.unlike) / 1000:,.0f} s {'ahead of' if self.unlike > 0 else 'behind'}"
        if self.off:
            return [f"this node's clock is {seconds} the others': it leads no queue; set it right"]
        if self.unlike:
            return [f"this node's clock is {seconds} another node's; set the one right that is wrong"]
        return []
