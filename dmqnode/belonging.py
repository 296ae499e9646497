"""A node's life in its cluster: links to the others, what travels on them, going in and out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import cbor2
import trio

from dmqnode import wire
from dmqnode.acquaintances import Acquaintances
from dmqnode.amnesia import BeginAnew
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.entering import Entrance
from dmqnode.errors import DMQError
from dmqnode.gossiping import Gossiping
from dmqnode.grants import Grants
from dmqnode.greetings import RunIs
from dmqnode.ids import NodeId
from dmqnode.keys import IDENTITY
from dmqnode.logs import say, say_rarely
from dmqnode.membership import ACQUAINTANCES, Membership, encode_acquaintances
from dmqnode.messages import Failed, Hello, Message, Report, Step
from dmqnode.peerlink import Self
from dmqnode.peers import Peers, Stream
from dmqnode.records import Identity, encode_identity
from dmqnode.roster import Member, Roster
from dmqnode.version import VERSION
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.node import Node

HAND_OVER = 2.0
"""Seconds that a stopping node gives the others to take over what it leads."""
LOOK = 0.02
COUNT_EVERY = 60.0
"""Seconds between two numbers of one run (I2), among up to ten members; with more so much longer that a node
need not write more often than every six seconds that another has one."""
STEP_AGAIN = 1.0
"""Seconds between two attempts to tell the cluster where this node is now."""


class CannotBelong(DMQError):
    """The cluster does not take this node."""

    code = "cannot-start"


class Own:
    """The session of the node's own requests."""

    def __init__(self) -> None:
        self.number = 0
        self.asked = 0
        self.answers: dict[int, Message] = {}
        self.came = trio.Event()

    def send(self, number: int, message: Message) -> None:
        """Take an answer."""
        self.answers[number] = message

    def flush(self) -> None:
        """Answers have come."""
        self.came.set()


class Belonging:
    """What makes a node one of several, or able to become one.

    Arguments:
        node: whose it is.
        membership: as read from its disk.
        me: how it is to be listed.
    """

    def __init__(self, node: Node, membership: Membership, me: Member) -> None:
        self._node = node
        self._me = me
        self._broker = node.broker
        self._ended = False
        assert membership.roster is not None
        identity, roster = membership.identity, membership.roster
        rng = node.machine.random()
        silent = Grants.silence(identity.boot)
        broker = node.broker
        around = broker.surroundings
        around.cluster, around.cluster_key = membership.cluster, membership.key
        if membership.several:
            clustering = Clustering(broker, roster, rng, node.now(), silent=silent)
            for partition, record in membership.promises:
                clustering.cluster.grants.load(partition, record)
            broker.clustering = clustering
        else:
            broker.entrance = Entrance(broker, roster, rng, silent=silent)
        self._boot = identity.boot
        self._acquaintances = Acquaintances(
            identity.node, lambda: self._clustering.rosters.current, membership.acquaintances
        )
        greeted = Self(
            identity.node,
            identity.boot,
            identity.nonce,
            membership.cluster,
            membership.name,
            membership.key,
            me.name,
            me.address,
            VERSION,
        )
        self.peers = Peers(self, greeted, self._acquaintances, node.machine)
        self._gossip = Gossiping(greeted, me, self.peers, rng, node.config.join, node.machine.open_datagrams)
        self._gossips = False
        self._own = Own()

    @property
    def _clustering(self) -> Clustering:
        clustering = self._broker.clustering
        assert clustering is not None
        return clustering

    # --- what the node calls -------------------------------------------------------------------------

    def tell(self, services: trio.Nursery) -> None:
        """Send what the cores want sent, and follow the roster."""
        clustering = self._broker.clustering
        if clustering is None or self._ended:
            return
        last: Message | None = None
        frame = b""
        for node, message in clustering.take_sent():
            if message is not last:
                last, frame = message, b"".join(wire.encode(0, message))
            self.peers.send(node, message, frame)
        self.peers.flush()
        roster = clustering.rosters.current
        if self.peers.follow(roster, services):
            around = self._broker.surroundings
            around.releases, around.gossip = self.peers.releases, self._gossip.status
            self._gossip.follow(roster)
            if not self._gossips:
                self._gossips = True
                services.start_soon(self._gossip.run, around.address)
                services.start_soon(self._count)
            if self._me.node in roster.destroyed:
                self.expel("the cluster has forgotten it", anew=True)
            elif roster.find(self._me.node) is None:
                self._left()

    def _left(self) -> None:
        say("this node is no member of the cluster any more", name=self._me.name)
        around = self._broker.surroundings
        around.left = True
        self._node.stop()

    async def settle_in(self) -> None:
        """Tell the cluster where this node is, and its weight, if that is not what the roster says."""
        clustering = self._broker.clustering
        while clustering is not None:
            listed = clustering.rosters.current.find(self._me.node)
            # Who is about to leave, as its weight of 0 says, goes on to leave.
            me = self._me if listed is None or listed.weight else self._me._replace(weight=0.0)
            if listed is None or listed == me:
                return
            answer = await self.ask(Step("join", cbor2.dumps(list(me)), False))
            if not isinstance(answer, Report):
                say_rarely("cannot tell the cluster where this node is", why=_why(answer))
                await trio.sleep(STEP_AGAIN)

    async def ask(self, message: Message) -> Message:
        """Have one of the node's own requests answered; one at a time."""
        own = self._own
        if not own.number:
            own.number = self._broker.open_session(Hello(1, 1, "node itself", "", [], 1 << 24))
            self._node.answer_to(own.number, own)
        own.asked += 1
        number = own.asked
        self._node.receive(own.number, [(number, message)])
        while number not in own.answers:
            own.came = trio.Event()
            await own.came.wait()
        return own.answers.pop(number)

    async def hand_over(self) -> None:
        """Let others lead what this node leads, as far as there is somebody, within a bounded time."""
        clustering = self._broker.clustering
        if clustering is None:
            return
        with trio.move_on_after(HAND_OVER):
            while clustering.stop(self._node.now()):
                self._node.perform()
                await trio.sleep(LOOK)
        self._node.perform()

    def let_go(self) -> None:
        """Give up what nobody could take over, so that nobody waits for the leases to end by themselves."""
        clustering = self._broker.clustering
        if clustering is not None:
            for partition in clustering.cluster.leases.all():
                clustering.cluster.abandon(self._node.now(), partition)
            clustering.settle(self._node.now())
            self._node.perform()

    async def farewell(self) -> None:
        """Tell by gossip that this node stops, or that it has left."""
        await self._gossip.farewell(left=self._broker.surroundings.left)

    def end_waits(self) -> None:
        """Give up what this node's clients wait for at other nodes."""
        if self._broker.clustering is not None:
            self._broker.clustering.front.end_waits(self._node.now())

    def end(self) -> None:
        """Say nothing more; what comes is not heard."""
        self._ended = True

    # --- what links call -----------------------------------------------------------------------------

    def met(self, node: NodeId) -> None:
        """A link is up."""
        self._do(lambda: self._clustering.met(self._node.now(), node))
        self._gossip.met(node)

    def gone(self, node: NodeId) -> None:
        """A link is down."""
        self._do(lambda: self._clustering.gone(self._node.now(), node))
        self._gossip.gone(node)

    def heard(self, node: NodeId, messages: list[Message]) -> None:
        """A peer tells something.  Errors: ProtocolError."""

        def hear() -> None:
            now = self._node.now()
            for message in messages:
                if isinstance(message, RunIs):
                    if self._acquaintances.counted(node, message.boot):
                        self.remember(self._acquaintances.met)
                elif not self._gossip.hear(node, message):
                    self._clustering.hear(now, node, message)

        self._do(hear)

    def learn(self, roster: Roster) -> None:
        """Somebody who knows the key has a later list of members, with this node in it."""
        self._do(lambda: self._clustering.rosters.learn(self._node.now(), roster))

    def _do(self, step: Callable[[], None]) -> None:
        if not self._ended:
            step()
            self._node.perform()

    def remember(self, met: dict[NodeId, tuple[int, int]]) -> None:
        """Keep which runs of the others were met (I2)."""
        ops = WriteBatch()
        ops.put(ACQUAINTANCES, encode_acquaintances(met))
        self._broker.write_meta(ops, lambda now: None)
        self._node.perform()

    async def _count(self) -> None:
        """Give this run higher numbers, by which an earlier copy of its disk is known as such (I2)."""
        while True:
            members = len(self._clustering.rosters.current.members)
            await trio.sleep(COUNT_EVERY * max(1.0, members / 10))
            self._boot += 1
            self._write_number(self._broker.identity._replace(boot=self._boot))
            self._node.perform()

    def _write_number(self, identity: Identity) -> None:
        ops = WriteBatch()
        ops.put(IDENTITY, encode_identity(identity, self._broker.surroundings.cluster))
        self._broker.write_meta(ops, partial(self._counted, identity.boot))

    def _counted(self, boot: int, now: Now) -> None:
        """The number is on disk: nobody is told of it before, for a start takes the one behind the disk's."""
        for node in self.peers.numbered(boot):
            self._clustering.send(node, RunIs(boot))

    def expel(self, why: str, *, anew: bool) -> None:
        """The others do not take this node: it must not go on.

        Arguments:
            anew: they would take it as a new one, unless it is to leave.
        """
        if anew and self._leaving:
            self._left()
        elif anew:
            seeds = tuple(m.address for m in self._clustering.rosters.current.members)
            self._node.give_up(BeginAnew(why, seeds))
        else:
            self._node.give_up(CannotBelong(f"this node cannot serve: {why}"))

    @property
    def _leaving(self) -> bool:
        """Whether an operator lets this node go, and nothing of it is wanted any more."""
        listed = self._clustering.rosters.current.find(self._me.node)
        return listed is not None and not listed.weight and not self._clustering.debts.count

    @property
    def stood_still(self) -> bool:
        """Whether this process stood still for long, until just now."""
        return self._node.doors.stood_still

    async def accept(self, stream: Stream, head: bytes) -> None:
        """Serve a connection that a peer has dialled."""
        await self.peers.accept(stream, head)


def _why(answer: Message) -> str:
    return answer.message if isinstance(answer, Failed) else type(answer).__name__
