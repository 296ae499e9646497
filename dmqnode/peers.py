"""The links of a node to the other members: one connection that it dials to each, one that each dials to it.

a link is up      both connections are open: what one tells, the other hears, in order
either breaks     both are closed, so that nothing of the old link is heard on the next
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from dmqnode.acquaintances import AMNESIA, UNKNOWN, Acquaintances, Rebuffs
from dmqnode.config import host_port
from dmqnode.errors import ProtocolError, UsageError, said_by_system
from dmqnode.greetings import PeerHello
from dmqnode.ids import NodeId
from dmqnode.logs import say, say_rarely
from dmqnode.machine import Machine
from dmqnode.messages import Failed, Message
from dmqnode.peer import Peer
from dmqnode.peerlink import SILENCE, Incoming, Outgoing, Self
from dmqnode.roster import Roster
from dmqnode.sockets import receive

if TYPE_CHECKING:
    from dmqnode.belonging import Belonging

READ_SIZE = 1 << 20
DIAL_TIMEOUT = 2.0
"""Seconds that one dial may take."""
BACK_OFF = (0.05, 1.0)
"""Seconds between two dials: the first and the longest."""
OUTBOX_LIMIT = 64 << 20
"""Bytes that wait for one peer beyond which its link is broken: it is too slow to be waited for."""
PARTING = 1.0
"""Seconds that who is a member no more has to hear that it is none."""
COMPLAIN_EVERY = 60.0
CHALLENGE_SIZE = 16
Stream = trio.abc.HalfCloseableStream


class Peers:
    """All links of a node.

    Arguments:
        belonging: to whom they tell what becomes of them.
        me: as whom the node greets.
        acquaintances: decides who is welcome.
        machine: has the ways to them.
    """

    def __init__(
        self, belonging: Belonging, me: Self, acquaintances: Acquaintances, machine: Machine
    ) -> None:
        self._belonging = belonging
        self._me = me
        self._acquaintances = acquaintances
        self._machine = machine
        self._rng = machine.random()
        self._known: dict[NodeId, Peer] = {}
        self._roster: Roster | None = None
        self._written: dict[Peer, None] = {}
        self._rebuffs = Rebuffs()

    def releases(self) -> dict[NodeId, str]:
        """Return which release each linked member runs."""
        return {node: peer.release for node, peer in self._known.items() if peer.up}

    def numbered(self, boot: int) -> list[NodeId]:
        """Greet with another number of this run from now on; return who is linked, to be told."""
        self._me = self._me._replace(boot=boot)
        return [node for node, peer in self._known.items() if peer.up]

    def at(self, address: str) -> NodeId | None:
        """Return the linked member that is reached at an address, None if there is none."""
        for node, peer in self._known.items():
            if peer.up and address in (peer.address, peer.member.address):
                return node
        return None

    # --- who there is --------------------------------------------------------------------------------

    def follow(self, roster: Roster, nursery: trio.Nursery) -> bool:
        """Dial the members of a newer roster, and nobody else; tell whether it was newer."""
        if roster is self._roster:
            return False
        self._roster = roster
        for node in [n for n in self._known if roster.find(n) is None]:
            peer = self._known.pop(node)
            peer.parted = True
            self._say_gone(peer, "it is no member any more")
            nursery.start_soon(self._close_later, peer)
        for member in roster.members:
            if member.node == self._me.node:
                continue
            known = self._known.get(member.node)
            if known is None:
                peer = self._known[member.node] = Peer(member)
                nursery.start_soon(self._dial_for_ever, peer)
            elif known.member != member:
                if known.member.address != member.address:
                    known.address = member.address
                known.member = member
        return True

    async def _close_later(self, peer: Peer) -> None:
        """Close the connections to a former member, once it may have read the last that it was told."""
        await trio.sleep(PARTING)
        peer.tasks.cancel()
        if peer.in_scope is not None:
            peer.in_scope.cancel()

    # --- telling -------------------------------------------------------------------------------------

    def send(self, node: NodeId, message: Message, frame: bytes = b"") -> None:
        """Queue a message for a peer; without a link it is lost, as anything that is under way may be."""
        peer = self._known.get(node)
        if peer is None or not peer.up or peer.outgoing is None or peer.outgoing.closed:
            return
        peer.outgoing.send(message, frame)
        self._written[peer] = None

    def flush(self) -> None:
        """Write what was queued, all that goes to one peer at once."""
        written, self._written = self._written, {}
        for peer in written:
            outgoing = peer.outgoing
            if outgoing is None or outgoing.closed:
                continue
            self._write_now(peer, outgoing)
            if outgoing.pending + peer.leaving > OUTBOX_LIMIT and peer.leaving:
                outgoing.close("it takes what it is told too slowly")
                say_rarely("a link was given up: the peer is too slow", peer=peer.member.name)
                if peer.out_scope is not None:
                    peer.out_scope.cancel()

    @staticmethod
    def _write_now(peer: Peer, outgoing: Outgoing) -> None:
        if peer.leaving or peer.write_now is None:
            peer.wake.set()
            return
        data = outgoing.data_to_send()
        try:
            written = peer.write_now(data)
        except OSError:
            written = 0  # it would block, or is broken: the writer will see
        if written < len(data):
            peer.rest = memoryview(data)[written:]
            peer.leaving = len(peer.rest)
            peer.wake.set()

    def hang_up(self, why: str) -> None:
        """Break all links; those who are there are dialled again."""
        for peer in self._known.values():
            self._break(peer, why)
            if peer.in_scope is not None:
                peer.in_scope.cancel()

    # --- dialling ------------------------------------------------------------------------------------

    async def _dial_for_ever(self, peer: Peer) -> None:
        pause = BACK_OFF[0]
        with peer.tasks:
            while True:
                why = await self._dial(peer)
                if why is None:
                    pause = BACK_OFF[0]
                elif why:
                    self._complain(peer, why)
                peer.kicked = trio.Event()
                with trio.move_on_after(self._rng.uniform(pause / 2, pause)):
                    await peer.kicked.wait()
                    await trio.sleep(BACK_OFF[0] / 2)
                pause = min(BACK_OFF[1], 2 * pause)

    @staticmethod
    def _complain(peer: Peer, why: str) -> None:
        """Log that a peer cannot be reached: when it begins, when the reason changes, once a minute."""
        now = trio.current_time()
        if why != peer.complaint[0] or now >= peer.complaint[1]:
            peer.complaint = (why, now + COMPLAIN_EVERY)
            say("a peer is not reachable", peer=peer.member.name, at=peer.address, why=why)

    async def _dial(self, peer: Peer) -> str | None:
        """Tell the peer what there is until that ends; return None, or why it never began, "" if said."""
        try:
            host, port = host_port(peer.address)
            with trio.fail_after(DIAL_TIMEOUT):
                stream = await self._machine.dial(host, port)
        except trio.TooSlowError:
            return "no answer to the dial"
        except UsageError as error:
            return str(error)
        except OSError as error:
            return said_by_system(error).lower()
        outgoing = Outgoing(
            self._me, peer.member.node, self._machine.chance(CHALLENGE_SIZE), trio.current_time()
        )
        peer.rest, peer.leaving = b"", 0
        peer.outgoing, peer.write_now = outgoing, self._machine.writer(stream)
        try:
            with trio.CancelScope() as peer.out_scope:
                async with stream, trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, peer, outgoing, stream)
                    await self._listen(peer, outgoing, stream)
                    nursery.cancel_scope.cancel()
        finally:
            opened = outgoing.open
            outgoing.close("this node closed it")
            if peer.outgoing is outgoing:
                peer.outgoing = peer.write_now = peer.out_scope = None
            self._break(peer, outgoing.why)
        if outgoing.refused is not None:
            roster = self._acquaintances.roster
            later = outgoing.refused_by_version > roster.version
            self._refused(peer, outgoing.refused, outgoing.refused_by_member, later)
            if outgoing.elsewhere is not None and outgoing.elsewhere.version > roster.version:
                self._told_by_successor(peer, outgoing.elsewhere)
            return ""
        return None if opened else outgoing.why

    async def _listen(self, peer: Peer, outgoing: Outgoing, stream: Stream) -> None:
        while not outgoing.closed:
            data = None
            silent = peer.incoming.next_deadline() if peer.up and peer.incoming is not None else math.inf
            with trio.move_on_at(min(silent, outgoing.next_deadline())):
                data = await receive(stream, READ_SIZE)
            try:
                if data is None:
                    outgoing.tick(trio.current_time())
                    self._see_to(peer)
                elif not data:
                    outgoing.close("the peer closed the connection")
                else:
                    was_open = outgoing.open
                    outgoing.receive_data(trio.current_time(), data)
                    if outgoing.open and not was_open:
                        self._rebuffs.welcomed(peer.member.node)
                        peer.release = outgoing.release
                        self._check(peer)
            except ProtocolError as error:
                outgoing.close(str(error))
            if outgoing.pending:
                self._write_now(peer, outgoing)

    def _see_to(self, peer: Peer) -> None:
        """Break the link to a peer that is silent on its own connection."""
        incoming = peer.incoming
        if incoming is not None and peer.up:
            incoming.tick(trio.current_time())
            if incoming.closed:
                self._break(peer, incoming.why)

    async def _write(self, peer: Peer, outgoing: Outgoing, stream: Stream) -> None:
        while True:
            data, peer.rest = peer.rest, b""
            if not data:
                data = outgoing.data_to_send()
            if not data:
                peer.wake = trio.Event()
                await peer.wake.wait()
                continue
            peer.leaving = len(data)
            try:
                await stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                outgoing.close("the connection broke")
                assert peer.out_scope is not None
                peer.out_scope.cancel()
                return
            peer.leaving = 0

    def _refused(self, peer: Peer, refused: Failed, by_member: bool, later: bool) -> None:
        """A peer sent this node away: for some reasons of a member, not a stranger, it may not go on."""
        say_rarely("a peer sent this node away", peer=peer.member.name, why=refused.message)
        node, members, code = peer.member.node, len(self._known) + 1, refused.code if by_member else ""
        if self._rebuffs.sent_away(trio.current_time(), node, code, members, later=later):
            why = f"{peer.member.name} at {peer.address} says: {refused.message}"
            self._belonging.expel(why, anew=refused.code in (AMNESIA, UNKNOWN))

    def _told_by_successor(self, peer: Peer, roster: Roster) -> None:
        """Whoever sits where a member was has a later list: this node was away, or lost the newest (I2)."""
        if roster.find(self._me.node) is not None:
            self._belonging.learn(roster)
        else:
            gone = "this node is no member any more; it is let in as a new node only"
            self._refused(peer, Failed(UNKNOWN, gone, False), True, True)

    # --- being dialled -------------------------------------------------------------------------------

    async def accept(self, stream: Stream, head: bytes) -> None:
        """Listen to a peer that has dialled, and written the magic, until that ends."""
        challenge, now = self._machine.chance(CHALLENGE_SIZE), trio.current_time()
        incoming = Incoming(self._me, self._judge, challenge, now, lambda: self._acquaintances.roster)
        peer: Peer | None = None
        with trio.CancelScope() as scope:
            try:
                data: bytes | None = head
                while not incoming.closed:
                    heard: list[Message] = []
                    try:
                        if data is None:
                            incoming.tick(trio.current_time())
                        elif data:
                            heard = incoming.receive_data(trio.current_time(), data)
                        if incoming.hello is not None and peer is None:
                            peer = self._let_in(incoming, incoming.hello, scope)
                        if incoming.pending:
                            with trio.fail_after(DIAL_TIMEOUT):
                                await stream.send_all(incoming.data_to_send())
                        if peer is not None and incoming.open:
                            self._check(peer)
                        if peer is not None and heard:
                            if not peer.up:
                                with trio.fail_after(SILENCE):
                                    while not peer.up:
                                        await peer.changed.wait()
                            self._belonging.heard(peer.member.node, heard)
                    except ProtocolError as error:
                        incoming.close(str(error))
                        name = peer.member.name if peer else "unknown"
                        say_rarely("a peer broke the protocol", peer=name, why=str(error))
                        break
                    if peer is not None and peer.up:
                        data = await receive(stream, READ_SIZE)  # `_listen` sees to it that it is not silent
                    else:
                        data = None
                        with trio.move_on_at(incoming.next_deadline()):
                            data = await receive(stream, READ_SIZE)
                    if data == b"":
                        incoming.close("the peer closed the connection")
                    elif self._belonging.stood_still or scope.cancel_called:
                        incoming.close("this process stood still")
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                incoming.close("the connection broke")
            finally:
                incoming.close("this node closed it")
                if peer is not None and peer.incoming is incoming:
                    peer.incoming = peer.in_scope = None
                    self._break(peer, incoming.why)

    def _judge(self, hello: PeerHello) -> Failed | None:
        peer = self._known.get(NodeId(hello.node))
        live = None
        if peer is not None and peer.incoming is not None and peer.incoming.hello is not None:
            live = (peer.incoming.hello.boot, peer.incoming.hello.nonce)
        failed = self._acquaintances.judge(hello, live)
        if failed is not None:
            say_rarely("a peer was sent away", peer=hello.name, why=failed.message)
        return failed

    def _let_in(self, incoming: Incoming, hello: PeerHello, scope: trio.CancelScope) -> Peer | None:
        peer = self._known.get(NodeId(hello.node))
        if peer is None:
            incoming.close("this node does not know it yet")
            return None
        if peer.incoming is not None:
            self._break(peer, "it has dialled again")
            if peer.in_scope is not None:
                peer.in_scope.cancel()
        peer.incoming, peer.in_scope = incoming, scope
        peer.address = hello.address
        if self._acquaintances.meet(hello):
            self._belonging.remember(self._acquaintances.met)
        peer.kick()
        return peer

    # --- up and down ---------------------------------------------------------------------------------

    def _check(self, peer: Peer) -> None:
        """Say that a link is up once both its connections are open."""
        outgoing, incoming = peer.outgoing, peer.incoming
        if peer.up or peer.parted or outgoing is None or incoming is None:
            return
        if outgoing.open and incoming.open and not outgoing.closed and not incoming.closed:
            peer.up = True
            peer.complaint = ("", 0.0)
            say("a peer is linked", peer=peer.member.name, at=peer.address)
            self._belonging.met(peer.member.node)
            peer.changed.set()

    def _break(self, peer: Peer, why: str) -> None:
        """Say that a link is down, if it was up, and close what is left of it."""
        if not peer.up:
            return
        for side, scope in ((peer.outgoing, peer.out_scope), (peer.incoming, peer.in_scope)):
            if side is not None and scope is not None:
                side.close("the other connection of the link broke")
                scope.cancel()
        self._say_gone(peer, why)

    def _say_gone(self, peer: Peer, why: str) -> None:
        if peer.up:
            peer.up = False
            peer.changed = trio.Event()
            say("a peer is gone", peer=peer.member.name, why=why)
            self._belonging.gone(peer.member.node)
