"""A node's part in the gossip: who is there, as the members tell one another (`gossip/`).

    packets   over UDP, at the port of the node's first door
    states    on the links between members, which exist already and have proved who they are

It says how members are to be shown.  Whom to ask and who leads is decided by links and leases alone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from random import Random
from typing import Protocol

import trio

from dmqnode.config import host_port
from dmqnode.greetings import GossipAnswer, GossipAsk
from dmqnode.ids import NodeId
from dmqnode.logs import say, say_rarely
from dmqnode.messages import Blob, Message
from dmqnode.peerlink import Self
from dmqnode.roster import Member, Roster
from gossip import messages
from gossip.config import SwimConfig
from gossip.driver import Membership
from gossip.effects import Changed, Event, Refused, Twin
from gossip.messages import ClusterId, Status, first_incarnation
from gossip.swim import Swim
from gossip.transport import Datagrams, Unreachable, open_udp

SHOWN = {Status.ALIVE: "alive", Status.SUSPECT: "suspect", Status.DEAD: "dead"}
"""How members are shown; one that has left is not: the roster decides about that."""


class Links(Protocol):
    """What states travel on."""

    def at(self, address: str) -> NodeId | None:
        """Return the linked member that is reached at an address, None if there is none."""

    def send(self, node: NodeId, message: Message) -> None:
        """Queue a message for a member; without a link it is lost."""

    def flush(self) -> None:
        """Write what was queued."""


class NoDatagrams:
    """What a node has whose UDP port is taken: states alone tell the others that it is there."""

    async def run(self) -> None:
        """Do nothing."""

    def send(self, address: str, data: bytes) -> None:
        """Drop it."""

    async def receive(self) -> tuple[str, bytes]:
        """Wait until cancelled."""
        await trio.sleep_forever()
        raise AssertionError


class _Waiting:
    def __init__(self) -> None:
        self.state: bytes | None = None
        self.ended = trio.Event()


class Gossiping:
    """What gossip knows, and what it is told.

    Arguments:
        me: as whom the node greets.
        listed: how it is listed.
        links: to the other members.
        rng: all chance of the gossip comes from here.
        seeds: further addresses at which members may be, besides those of the roster.
        open_datagrams: binds a socket at (host, port); may raise OSError.
    """

    def __init__(
        self,
        me: Self,
        listed: Member,
        links: Links,
        rng: Random,
        seeds: Sequence[str],
        open_datagrams: Callable[[str, int], Awaitable[Datagrams]] = open_udp,
    ) -> None:
        self._me = me
        self._listed = listed
        self._links = links
        self._rng = rng
        self._seeds = tuple(seeds)
        self._open = open_datagrams
        self._roster = Roster(0, ())
        self._membership: Membership | None = None
        self._waiting: dict[tuple[NodeId, int], _Waiting] = {}
        self._nonces = count(1)
        self._elsewhere: dict[NodeId, str] = {}
        """Where members are, of which it was logged that the roster has another address."""

    # --- running -------------------------------------------------------------------------------------

    async def run(self, address: str) -> None:
        """Take part until cancelled.

        Arguments:
            address: HOST:PORT for UDP, of this host.
        """
        datagrams = await self._bind(address)
        me, listed = self._me, self._roster.find(self._me.node) or self._listed
        described = messages.Member(
            messages.NodeId(me.node),
            me.name,
            me.address,
            first_incarnation(me.boot),
            self._listed.zone,
            listed.weight,
            me.lowest,
            me.highest,
        )
        swim = Swim(
            SwimConfig.lan(),
            described,
            self._rng,
            trio.current_time(),
            cluster=ClusterId(me.cluster),
            cluster_name=me.cluster_name,
            key=me.key,
            seeds=[a for a in (*(m.address for m in self._roster.members), *self._seeds) if a != me.address],
        )
        self._membership = Membership(swim, datagrams, self._exchange, self._tell)
        try:
            await self._membership.run()
        finally:
            self._membership = None

    async def _bind(self, address: str) -> Datagrams:
        try:
            return await self._open(*host_port(address))
        except OSError as error:
            say(
                "cannot gossip over UDP; the links between members have to do",
                level=logging.WARNING,
                at=address,
                why=error.strerror or error,
            )
            return NoDatagrams()

    async def farewell(self, *, left: bool) -> None:
        """Tell the others that this node stops, or has left for good; nothing is said afterwards."""
        if self._membership is not None:
            await (self._membership.leave() if left else self._membership.stop())

    # --- what is known -------------------------------------------------------------------------------

    def status(self, node: NodeId) -> str | None:
        """Return whether a member is alive, suspect or dead; None if nothing is known of it."""
        if self._membership is None:
            return None
        found = self._membership.swim.member(messages.NodeId(node))
        return None if found is None else SHOWN.get(found[1])

    # --- what becomes of members and links -----------------------------------------------------------

    def follow(self, roster: Roster) -> None:
        """Take note of a newer roster: who is not in it any more is gone for good."""
        before, self._roster = self._roster, roster
        for node in [n for n in self._elsewhere if roster.find(n) is None]:
            del self._elsewhere[node]
        if self._membership is None:
            return
        for member in before.members:
            if member.node != self._me.node and roster.find(member.node) is None:
                self._membership.forget(messages.NodeId(member.node))
        listed = roster.find(self._me.node)
        if listed is not None and listed.weight != self._membership.swim.me.weight:
            self._membership.describe(weight=listed.weight)

    def met(self, node: NodeId) -> None:
        """A link is up: if the other is not known to be there, that is told at once."""
        listed = self._roster.find(node)
        if self._membership is not None and listed is not None and self.status(node) != "alive":
            self._membership.meet(listed.address)

    def gone(self, node: NodeId) -> None:
        """A link broke: perhaps the other is dead."""
        for (peer, _), waiting in self._waiting.items():
            if peer == node:
                waiting.ended.set()
        if self._membership is not None:
            self._membership.probe_now(messages.NodeId(node))

    def hear(self, node: NodeId, message: Message) -> bool:
        """Take in a member's message; tell whether it was one of these."""
        match message:
            case GossipAsk():
                if self._membership is not None:
                    state = self._membership.answer(bytes(message.state))
                    self._links.send(node, GossipAnswer(message.nonce, Blob(state)))
                    self._links.flush()
            case GossipAnswer():
                waiting = self._waiting.get((node, message.nonce))
                if waiting is not None:
                    waiting.state = bytes(message.state)
                    waiting.ended.set()
            case _:
                return False
        return True

    # --- what the gossip wants -----------------------------------------------------------------------

    async def _exchange(self, address: str, state: bytes) -> bytes:
        """Hand a state to whoever is linked at an address, and return the answer.  Errors: Unreachable."""
        node = self._links.at(address)
        if node is None:
            raise Unreachable(f"no link to {address}")
        asked = node, next(self._nonces)
        waiting = self._waiting[asked] = _Waiting()
        try:
            self._links.send(node, GossipAsk(asked[1], Blob(state)))
            self._links.flush()
            await waiting.ended.wait()
        finally:
            del self._waiting[asked]
        if waiting.state is None:
            raise Unreachable(f"the link to {address} broke")
        return waiting.state

    def _tell(self, event: Event) -> None:
        match event:
            case Changed(new=Status.ALIVE):
                self._compare(NodeId(event.member.id), event.member.address)
            case Refused():
                say_rarely("a node and this one cannot gossip", at=event.address, why=event.sentence)
            case Twin():
                say("another process uses the id of this node", level=logging.ERROR, at=event.address)
            case _:
                pass  # Cluster and addresses are on disk: the roster has them.

    def _compare(self, node: NodeId, address: str) -> None:
        """Log, once, that a member is not where the roster says."""
        listed = self._roster.find(node)
        if listed is None or listed.address == address:
            self._elsewhere.pop(node, None)
        elif self._elsewhere.get(node) != address:
            self._elsewhere[node] = address
            say_rarely(
                "a member is not where the list of members says",
                member=listed.name,
                at=address,
                listed=listed.address,
            )
