"""Where a node dies between two effects: at a write, or as a message to another node leaves or comes.

    collect ─ Ship leaves ─ │ ─ write, sync ─ │ ─ answer      Ship comes ─ │ ─ write ─ │ ─ Shipped leaves

    write   a group commit: before it is made, or when it is synced and nobody was told
    settle  the same for what a node writes before it serves: who it is, and to which cluster it belongs
    local   the write is made, and what left at the same time has not got out of the process: it dies before
            it answers, or when it would have, had it waited for nobody

All time is virtual (MockClock).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import trio

from dmqnode.greetings import RosterIs
from dmqnode.messages import Message
from dmqnode.peer_messages import (
    Agreed,
    Align,
    Aligned,
    Answer,
    Claim,
    Committed,
    Dropped,
    Fetch,
    Fill,
    Filled,
    Forward,
    Granted,
    Inspect,
    Keep,
    Kept,
    Offer,
    Propose,
    Release,
    Renewed,
    Ship,
    Shipped,
    Summary,
    Taken,
)

if TYPE_CHECKING:
    from dmqnode.node import Node
    from storage.ops import WriteBatch
    from storage.store import Store
    from tests.simulation.nodes.box import Box

MESSAGES: dict[str, tuple[type[Message], ...]] = {
    "ship": (Ship, Shipped),
    "forward": (Forward, Answer),
    "hint": (Keep, Kept, Offer, Taken),
    "move": (Inspect, Summary, Align, Aligned, Fetch, Fill, Filled),
    "homes": (Propose, Agreed, Committed, Dropped, Release),
    "lease": (Claim, Granted, Renewed),
    "roster": (RosterIs,),
}
"""What travels, by what it is part of; a node dies before or after one of them leaves it or comes to it."""
RARE = ("move", "homes", "roster", "settle")
"""What only a change of the members brings about, as a rule."""
OFTEN = ("write", "write", "local", "ship", "forward", "lease")
SOON = 0.03
"""Seconds in which who waits for nobody has answered."""
WRITES = ("before it", "after it")
MOMENTS = ("before it leaves", "after it left", "before it comes", "after it came")
EDGES = (*(f"{point}, {moment}" for point in ("write", "local", "settle") for moment in WRITES), *MESSAGES)
"""Every kind of edge, as it is counted."""


class Edge:
    """The effect at which a node is to die.

    Arguments:
        point: one of OFTEN or RARE, or "hint".
        box: whose node; None: whoever gets there first.
        how: it ends, as `Box.die` has it; with "wipe" its disk is lost, too.
    """

    def __init__(self, rng: random.Random, point: str, box: Box | None, how: str) -> None:
        self.point, self.box, self.how = point, box, how
        self.left = rng.randint(1, 1 if point == "settle" else 4 if point not in OFTEN else 30)
        """How many more of these effects it takes."""
        self.kind = rng.choice(MESSAGES[point]) if point in MESSAGES else None
        self.moment = rng.choice(MOMENTS if point in MESSAGES else WRITES)
        self.victim: Box | None = None
        self.reached = trio.Event()
        self.silenced = False
        """Whether what leaves stays in the process, for it dies in a moment."""

    def __str__(self) -> str:
        what = f"{self.kind.__name__ if self.kind is not None else self.point} {self.moment}"
        return f"{what}, {self.how}, in {self.left} at {self.box.name if self.box else 'any'}"

    @property
    def name(self) -> str:
        """One of EDGES."""
        return self.point if self.kind is not None else f"{self.point}, {self.moment}"

    def _passes(self, box: Box) -> bool:
        """Tell whether the node dies now, at an effect of the kind."""
        if self.victim is not None or self.box not in (None, box) or not box.wanted:
            return False
        self.left -= 1
        return self.left <= 0

    def _die(self, box: Box) -> None:
        self._end(box)
        raise box.killed

    def _end(self, box: Box) -> None:
        self.victim = box
        self.reached.set()
        box.crash("power" if self.how == "wipe" else self.how)
        if self.how == "wipe":
            box.wipe()

    async def _soon(self, box: Box) -> None:
        life = box.life
        await trio.sleep(SOON)
        if box.life is life:
            self._end(box)
        else:
            self.silenced = False

    def writing(self, box: Box) -> None:
        """A write group is about to go to the disk.  Errors: Killed."""
        point = "write" if box.up else "settle"
        if self.point == point and self.moment == "before it" and self._passes(box):
            self._die(box)

    def written(self, box: Box, *, sync: bool) -> None:
        """It is there, and nobody was told.  Errors: Killed."""
        if not sync:
            return
        point = "write" if box.up else "settle"
        met = self.point == point and self.moment == "after it" and self._passes(box)
        held = self.silenced and self.box is box
        if met or (held and self.moment == "before it"):
            self._die(box)
        elif held:
            box.world.nursery.start_soon(self._soon, box)

    def sends(self, box: Box, message: Message) -> bool:
        """A message is about to leave; tell whether it does.  Errors: Killed."""
        if self.point == "local" and type(message) is Ship and message.sync and not self.silenced:
            self.silenced = self._passes(box)
            self.box = box if self.silenced else self.box
        if type(message) is self.kind and self.moment == MOMENTS[0] and self._passes(box):
            self._die(box)
        return not (self.silenced and self.box is box)

    def sent(self, box: Box, messages: list[Message]) -> None:
        """Messages are with the wires.  Errors: Killed."""
        self._meet(box, messages, MOMENTS[1])

    def hears(self, box: Box, messages: list[Message]) -> None:
        """Messages have come, and nothing was done about them.  Errors: Killed."""
        self._meet(box, messages, MOMENTS[2])

    def heard(self, box: Box, messages: list[Message]) -> None:
        """What they asked for was decided, and not written yet.  Errors: Killed."""
        self._meet(box, messages, MOMENTS[3])

    def _meet(self, box: Box, messages: list[Message], moment: str) -> None:
        if self.moment == moment:
            for message in messages:
                if type(message) is self.kind and self._passes(box):
                    self._die(box)


class Disk:
    """The store that a node gets, at whose writes it may die."""

    def __init__(self, box: Box, store: Store) -> None:
        self._box, self._store = box, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
        edge = self._edge()
        if edge is not None:
            edge.writing(self._box)
        self._box.world.wrote(self._box, batch)
        self._store.write(batch, sync=sync, reserve=reserve)
        if edge is not None:
            edge.written(self._box, sync=sync)

    def _edge(self) -> Edge | None:
        # Of an earlier life some code may still be on its way out.
        return self._box.world.edge if self._box.store is self._store else None


def watch(box: Box, node: Node) -> None:
    """Let the node of a new life die as its messages leave or come."""
    belonging: Any = node.belonging
    peers: Any = belonging.peers
    send, flush, hear, life = peers.send, peers.flush, belonging.heard, box.life
    under_way: list[Message] = []

    def edge() -> Edge | None:
        return box.world.edge if box.life is life else None

    def sending(to: Any, message: Message, frame: bytes = b"") -> None:
        peer, here = peers._known.get(to), edge()
        if here is not None and peer is not None and peer.up:
            if not here.sends(box, message):
                return
            under_way.append(message)
        send(to, message, frame)

    def flushing() -> None:
        flush()
        messages = under_way.copy()
        under_way.clear()
        if (here := edge()) is not None:
            here.sent(box, messages)

    def hearing(sender: Any, messages: list[Message]) -> None:
        if (here := edge()) is not None:
            here.hears(box, messages)
        hear(sender, messages)
        if (here := edge()) is not None:
            here.heard(box, messages)

    peers.send, peers.flush, belonging.heard = sending, flushing, hearing
