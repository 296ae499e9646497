"""Links between simulated nodes: ordered and reliable until they break, as TCP connections are.

    up ──blocked──> what is sent stalls ──unblocked in time──> delivered late, in order
                                        └─each end loses patience by itself─> gone at that end, all lost
    gone at both ends, both up, nothing blocked ──dialled again──> met at both ends

A block has a direction, so that a partition may be one-way; a slow pair delivers late and in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dmqnode.greetings import TimeIs, WhatTime
from dmqnode.ids import NodeId

if TYPE_CHECKING:
    from tests.simulation.world import World

PATIENCE = (0.8, 3.5)
"""Seconds after which an end of a connection that has stalled gives it up, from … to."""
REDIAL = (0.05, 0.4)


class Connection:
    """One TCP connection between two nodes, and what each end knows of it."""

    def __init__(self, a: NodeId, b: NodeId, lives: dict[NodeId, int]) -> None:
        self.ends = (a, b)
        self.lives = lives
        self.over: dict[NodeId, bool] = {a: False, b: False}
        self.last: dict[NodeId, float] = {a: 0.0, b: 0.0}
        """When what was last sent by an end arrives."""
        self.stalled: dict[NodeId, list[Any]] = {a: [], b: []}
        self.watched = False

    def other(self, end: NodeId) -> NodeId:
        """Return the other end."""
        return self.ends[1] if end == self.ends[0] else self.ends[0]


class Network:
    """All links of a world."""

    def __init__(self, world: World, nodes: Iterable[NodeId]) -> None:
        self._world = world
        self._nodes = list(nodes)
        self._blocked: dict[tuple[NodeId, NodeId], int] = {}
        self._connections: dict[tuple[NodeId, NodeId], Connection] = {}
        self.slow: dict[tuple[NodeId, NodeId], float] = {}
        """Pair -> longest delay in seconds."""
        self.carried = 0

    def pairs(self) -> list[tuple[NodeId, NodeId]]:
        """Return every pair of nodes once."""
        return [(a, b) for i, a in enumerate(self._nodes) for b in self._nodes[i + 1 :]]

    # --- blocking ------------------------------------------------------------------------------------

    def block(self, links: Iterable[tuple[NodeId, NodeId]], seconds: float) -> None:
        """Let nothing through in these directions for some time."""
        links = list(links)
        for link in links:
            self._blocked[link] = self._blocked.get(link, 0) + 1
        for pair in self.pairs():
            if pair in links or pair[::-1] in links:
                self._watch(self._connections.get(pair))
        self._world.after(seconds, lambda: self._unblock(links))

    def _unblock(self, links: list[tuple[NodeId, NodeId]]) -> None:
        for link in links:
            if link in self._blocked:
                self._blocked[link] -= 1
                if not self._blocked[link]:
                    del self._blocked[link]
        self._flow()

    def heal(self) -> None:
        """Let everything through again."""
        self._blocked.clear()
        self.slow.clear()
        self._flow()

    def _flow(self) -> None:
        for connection in list(self._connections.values()):
            for end in connection.ends:
                if (end, connection.other(end)) not in self._blocked:
                    waiting, connection.stalled[end] = connection.stalled[end], []
                    for message in waiting:
                        self._carry(connection, end, message)
            connection.watched = False

    def _watch(self, connection: Connection | None) -> None:
        """A connection stalls: each end will lose patience, unless it flows again before."""
        if connection is None or connection.watched:
            return
        connection.watched = True

        def give_up(end: NodeId) -> None:
            if connection.watched:
                self.lose(connection, end)

        for end in connection.ends:
            self._world.after(self._world.rng.uniform(*PATIENCE), lambda end=end: give_up(end))

    # --- carrying ------------------------------------------------------------------------------------

    def send(self, sender: NodeId, receiver: NodeId, message: Any) -> None:
        """Carry a message, unless the sender's end is gone."""
        connection = self._connections.get(_pair(sender, receiver))
        if connection is None or connection.over[sender]:
            return
        if isinstance(message, WhatTime | TimeIs):
            self._carry_time(connection, sender, message)
            return
        if (sender, receiver) in self._blocked or connection.stalled[sender]:
            connection.stalled[sender].append(message)
            self._watch(connection)
        else:
            self._carry(connection, sender, message)

    def _carry_time(self, connection: Connection, sender: NodeId, message: Any) -> None:
        """Carry what is said of clocks: without a draw, so that it does not change what seeds mean."""
        receiver = connection.other(sender)
        if (sender, receiver) not in self._blocked and not connection.stalled[sender]:
            at = max(connection.last[sender], self._world.now + 0.0002)
            self._world.at(at, lambda: self._arrive(connection, sender, receiver, message))

    def _carry(self, connection: Connection, sender: NodeId, message: Any) -> None:
        world, receiver = self._world, connection.other(sender)
        slowest = self.slow.get(_pair(sender, receiver))
        delay = world.rng.uniform(0.0002, 0.002) if slowest is None else world.rng.uniform(0.01, slowest)
        at = max(connection.last[sender], world.now + delay)
        connection.last[sender] = at
        world.at(at, lambda: self._arrive(connection, sender, receiver, message))

    def _arrive(self, connection: Connection, sender: NodeId, receiver: NodeId, message: Any) -> None:
        if connection.over[receiver]:
            return
        if (sender, receiver) in self._blocked:
            connection.stalled[sender].append(message)
            self._watch(connection)
            return
        self.carried += 1
        host = self._world.hosts[receiver]

        def hear() -> None:
            if not connection.over[receiver]:
                host.hear(sender, message)

        host.happen(hear, connection.lives[receiver])

    # --- breaking and meeting ------------------------------------------------------------------------

    def lose(self, connection: Connection, end: NodeId) -> None:
        """One end learns that a connection is broken."""
        if connection.over[end]:
            return
        connection.over[end] = True
        connection.stalled[end] = []
        other = connection.other(end)
        self._world.note("gone", end, other)
        host = self._world.hosts[end]
        host.happen(lambda: host.gone(other), connection.lives[end])
        if not connection.over[other] and (end, other) not in self._blocked:
            self._world.after(self._world.rng.uniform(0.0005, 0.01), lambda: self.lose(connection, other))
        self._redial(connection.ends)

    def reset(self, pair: tuple[NodeId, NodeId]) -> None:
        """Break a connection; both ends learn it soon."""
        connection = self._connections.get(pair)
        if connection is not None:
            for end in connection.ends:
                self._world.after(
                    self._world.rng.uniform(0.0, 0.02), lambda end=end: self.lose(connection, end)
                )

    def died(self, node: NodeId, *, silently: bool) -> None:
        """A node is dead: its peers learn it at once, or, if its machine is gone, in a while."""
        for pair, connection in list(self._connections.items()):
            if node not in pair or connection.over[node]:
                continue
            connection.over[node] = True
            other = connection.other(node)
            patience = PATIENCE if silently or (node, other) in self._blocked else (0.0005, 0.01)
            self._world.after(
                self._world.rng.uniform(*patience),
                lambda c=connection, o=other: self.lose(c, o),
            )

    def born(self, node: NodeId) -> None:
        """A node has started: it meets the others."""
        for pair in self.pairs():
            if node in pair:
                self._redial(pair)

    def _redial(self, pair: tuple[NodeId, NodeId]) -> None:
        self._world.after(self._world.rng.uniform(*REDIAL), lambda: self._dial(pair))

    def _dial(self, pair: tuple[NodeId, NodeId]) -> None:
        old = self._connections.get(pair)
        if old is not None and not (old.over[pair[0]] or old.over[pair[1]]):
            return
        a, b = (self._world.hosts[n] for n in pair)
        if not (a.up and b.up):
            return  # who starts dials
        passes = pair not in self._blocked and pair[::-1] not in self._blocked
        if not passes or a.paused or b.paused:
            self._redial(pair)
            return
        if old is not None:
            for end in pair:
                if not old.over[end]:
                    old.over[end] = True
                    # An end that does not know yet that it is broken learns it from the new connection.
                    host, other = self._world.hosts[end], old.other(end)
                    host.happen(lambda h=host, o=other: h.gone(o), old.lives[end])
        connection = Connection(*pair, {pair[0]: a.life, pair[1]: b.life})
        self._connections[pair] = connection
        self._world.note("met", *pair)
        later = self._world.now + self._world.rng.uniform(0.0005, 0.01)
        dialler, dialled = pair if self._world.rng.random() < 0.5 else pair[::-1]
        connection.last[dialled] = later
        self._meet(connection, dialled)
        self._world.at(later, lambda: self._meet(connection, dialler))

    def _meet(self, connection: Connection, end: NodeId) -> None:
        host, other = self._world.hosts[end], connection.other(end)

        def meet() -> None:
            if not connection.over[end]:
                host.met(other)

        host.happen(meet, connection.lives[end])


def _pair(a: NodeId, b: NodeId) -> tuple[NodeId, NodeId]:
    return (a, b) if a < b else (b, a)
