"""How a node comes to belong to a cluster when it starts (rule I3).

    the data directory knows a cluster      goes on in it, whatever --join says
    empty, without --join                   founds a cluster, of itself
    empty, with --join                      asks the seeds in turn, for ever; meanwhile it listens, and says
                                            that it has no cluster yet

Of nodes that are all empty and all have the same seeds one founds: the first of them by address, once a
majority is there, and none of them is of a cluster already (`founding`).  The others then join it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cbor2
import trio

from dmqnode import roster as rosters
from dmqnode.amnesia import BeginAnew
from dmqnode.config import NodeConfig, host_port
from dmqnode.connection import PROTOCOL_HIGHEST, PROTOCOL_LOWEST, ClientConnection, ServerConnection
from dmqnode.doors import Door
from dmqnode.errors import DMQError, ProtocolError, said_by_system
from dmqnode.founding import Answer, Founding
from dmqnode.ids import NODE_ID_SIZE, NodeId
from dmqnode.logs import say, say_rarely
from dmqnode.machine import MACHINE, Machine
from dmqnode.membership import KEY_SIZE, Membership, found, join, read_membership
from dmqnode.messages import Failed, Hello, Members, Message, NodeStatus, Report, Step, Welcome
from dmqnode.roster import Member
from dmqnode.tokens import Tokens
from dmqnode.version import VERSION
from dmqnode.wire import MAX_FRAME
from storage.store import Store

NO_CLUSTER = "no-cluster"
"""The code of a node that waits for a cluster to join."""
MUTE = "mute"
"""The code of a node that takes connections and says nothing: it may be opening its store."""
ASK_TIMEOUT = 5.0
"""Seconds that one seed has to answer."""
LOOK_TIMEOUT = 1.0
"""Seconds that a seed has to say of which cluster it is, to a node that has one."""
AGAIN = (0.1, 0.4)
"""Seconds between two rounds of asking the seeds, drawn from this range."""
TELL_AFTER = 2.0
"""Seconds after which it is said what a node waits for, at first and whenever that is something else."""
TELL_EVERY = 30.0
MAX_WAITING = 1000
"""Connections to a node that has no cluster yet."""


class CannotJoin(DMQError):
    """The cluster does not take this node, or it belongs to another."""

    code = "cannot-start"


@dataclass(frozen=True, slots=True)
class Joining:
    """One node's way into a cluster.

    Arguments:
        me: how the node is to be listed.
        token: to show to the seeds.
    """

    config: NodeConfig
    store: Store
    listeners: Sequence[Door]
    membership: Membership
    me: Member
    token: str | None
    machine: Machine
    lost: Sequence[str] | None = None
    """Where others were, if the node has had a store that it could not go on with."""

    async def settle(self) -> Membership:
        """Return the node's membership once it has one; may wait for ever.

        Errors: CannotJoin; BeginAnew for a node that was forgotten.
        """
        known, name = self.membership, self.config.cluster
        seeds = [a for a in dict.fromkeys((*self.config.join, *(self.lost or ()))) if a != self.me.address]
        if known.name not in ("", name):
            raise CannotJoin(
                f"the data directory {self.config.data} belongs to cluster {known.name}, not {name}; "
                f"give --cluster {known.name}, or another --data"
            )
        if known.several:
            assert known.roster is not None
            if known.identity.node in known.roster.destroyed:
                # It heard so, and came not far enough to begin anew.
                others = tuple(m.address for m in known.roster.members)
                raise BeginAnew("this node cannot serve: the cluster has forgotten it", others)
            if known.roster.find(known.identity.node) is None:
                raise CannotJoin(
                    f"this node has left its cluster, or was forgotten; start with an empty data directory "
                    f"instead of {self.config.data}, and --join"
                )
            return known
        if known.roster is None and not known.used and seeds:
            return await self._join(seeds)
        await self._look(seeds)
        return await self._found()

    async def _look(self, seeds: list[str]) -> None:
        """Refuse to go on alone where a seed is of another cluster.  Errors: CannotJoin."""
        for seed in seeds:
            answer = await self._ask(seed, Members(), LOOK_TIMEOUT)
            if isinstance(answer, Report) and answer.fields.get("cluster_id") not in (
                None,
                self.membership.cluster.hex(),
            ):
                raise CannotJoin(
                    f"{seed} is of another cluster than the data in {self.config.data}; "
                    "start with an empty data directory to join it"
                )

    async def _join(self, seeds: list[str]) -> Membership:
        rng = self.machine.random()
        given = [*self.config.join, *(self.lost or ())]
        founding = Founding(self.me.node, self.me.address, given, lost=self.lost is not None)
        say("looking for a cluster to join", seeds=",".join(seeds))
        answer: tuple[str, Report] | None = None
        async with trio.open_nursery() as nursery:
            room = WaitingRoom(self.config, founding, self.me.name)
            for listener in self.listeners:
                nursery.start_soon(room.accept, listener, nursery)
            told_at, told = trio.current_time(), ""
            me = await self._recognise(seeds, founding) if guesses(self.config) else self.me
            while True:
                answer = await self._ask_all(me, seeds, founding)
                if answer is not None or founding.may_found():
                    break
                why = founding.why()
                if trio.current_time() >= told_at + (TELL_EVERY if why == told else TELL_AFTER):
                    told_at, told = trio.current_time(), why
                    say("this node has no cluster yet", level=logging.WARNING, why=why)
                await trio.sleep(rng.uniform(*AGAIN))
            nursery.cancel_scope.cancel()
        if answer is not None:
            return await self._joined(*answer)
        say("founding a cluster: no seed has one", cluster=self.config.cluster)
        return await self._found(me)

    async def _found(self, me: Member | None = None) -> Membership:
        key = self.machine.chance(KEY_SIZE)
        name = self.config.cluster
        return await self.machine.in_thread(found, self.store, self.membership, name, me or self.me, key)

    async def _recognise(self, seeds: list[str], founding: Founding) -> Member:
        """Look for this node among the seeds; return how it is to be listed: as the others call it."""
        for seed in seeds:
            waiting = _read(await self._ask(seed, Members(), LOOK_TIMEOUT))
            if waiting is not None:
                founding.met(seed, waiting)
        return self.me._replace(address=founding.alias or self.me.address)

    async def _ask_all(self, me: Member, seeds: list[str], founding: Founding) -> tuple[str, Report] | None:
        """Ask the seeds in turn; return the answer of one that let this node in.

        Errors: CannotJoin.
        """
        member = Step("join", cbor2.dumps(list(me)), False)
        for seed in seeds:
            answer = await self._ask(seed, member, ASK_TIMEOUT)
            if isinstance(answer, Report):
                return seed, answer
            if answer.code == NO_CLUSTER:
                met = await self._ask(seed, Members(), LOOK_TIMEOUT)
                waiting = _read(met)
                if waiting is not None:
                    founding.met(seed, waiting)
                    continue
                if _is_member(met):  # another is there now, or it has just become one
                    founding.belongs(seed)
            elif not answer.retryable and seed in self.config.join:
                raise CannotJoin(f"{seed} does not let this node in: {answer.message}")
            elif _is_member(await self._ask(seed, Members(), LOOK_TIMEOUT)):
                founding.belongs(seed)
            founding.silent(seed, mute=answer.code == MUTE)
            say_rarely("cannot join yet", seed=seed, why=answer.message)
        return None

    async def _joined(self, seed: str, answer: Report) -> Membership:
        fields = answer.fields
        try:
            roster = rosters.decode(fields["roster"])
            cluster, key = fields["cluster_id"], fields["key"]
        except (KeyError, TypeError, ProtocolError) as error:
            raise CannotJoin(f"{seed} answers what this release cannot read: {error}") from None
        say("joined a cluster", cluster=self.config.cluster, seed=seed, members=len(roster.members))

        def write() -> Membership:
            name = self.config.cluster
            return join(self.store, self.membership, cluster=cluster, name=name, key=key, roster=roster)

        return await self.machine.in_thread(write)

    async def _ask(self, seed: str, request: Message, seconds: float) -> Report | Failed:
        """Ask a seed one thing; a Failed that may be retried stands for no answer."""
        dialled = False
        try:
            with trio.fail_after(seconds):
                async with await self.machine.dial(*host_port(seed)) as stream:
                    dialled = True
                    return await self._converse(stream, seed, request)
        except trio.TooSlowError:
            if dialled:
                return Failed(MUTE, "it takes connections, and does not answer", True)
            why = "no answer in time"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            why = "the connection broke"
        except OSError as error:
            why = said_by_system(error).lower()
        except DMQError as error:
            why = str(error)
        return Failed("unavailable", why, True)

    async def _converse(
        self, stream: trio.abc.HalfCloseableStream, seed: str, request: Message
    ) -> Report | Failed:
        hello = Hello(
            PROTOCOL_LOWEST, PROTOCOL_HIGHEST, f"node {self.me.name}", "", [], MAX_FRAME, self.token
        )
        connection = ClientConnection(hello, trio.current_time())
        asked = False
        while True:
            if connection.welcome is not None and not asked:
                if connection.welcome.cluster != self.config.cluster:
                    return self._of_other_name(seed, connection.welcome)
                connection.request(request)
                asked = True
            data = connection.data_to_send()
            if data:
                await stream.send_all(data)
            data = bytes(await stream.receive_some(1 << 20))
            if not data:
                return Failed("unavailable", "it closed the connection", True)
            for number, message in connection.receive_data(trio.current_time(), data):
                if isinstance(message, Failed):
                    return message
                if number and isinstance(message, Report):
                    return message

    def _of_other_name(self, seed: str, welcome: Welcome) -> Failed:
        return Failed(
            "other-cluster",
            f"it is of cluster {welcome.cluster}, not {self.config.cluster}; "
            f"give --cluster {welcome.cluster}, or join another node",
            False,
        )


def _read(answer: Report | Failed) -> Answer | None:
    """Read what a waiting room says; None if it is no such thing."""
    fields = answer.fields if isinstance(answer, Report) else {}
    try:
        node, founder = bytes.fromhex(fields["node_id"]), bytes.fromhex(fields["founder"])
    except (KeyError, TypeError, ValueError):
        return None
    seeds, lost = fields.get("seeds"), fields.get("lost") is True
    if len(node) != NODE_ID_SIZE or not isinstance(seeds, list) or not all(isinstance(s, str) for s in seeds):
        return None
    return Answer(NodeId(node), seeds, NodeId(founder) if founder else None, lost)


def _is_member(answer: Report | Failed) -> bool:
    """Tell whether who answered so belongs to a cluster."""
    return isinstance(answer, Report) and bool(answer.fields.get("members"))


class WaitingRoom:
    """Answers at the doors of a node that has no cluster yet: it says so.

    Arguments:
        founding: what the node knows of those that wait with it.
    """

    def __init__(self, config: NodeConfig, founding: Founding, name: str) -> None:
        self._config = config
        self._founding = founding
        self._name = name
        self._room = trio.CapacityLimiter(MAX_WAITING)

    async def accept(self, listener: Door, nursery: trio.Nursery) -> None:
        """Answer whoever comes; ends when cancelled."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                say_rarely("cannot accept a connection", why=error.strerror)
                await trio.sleep(0.1)
                continue
            nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.abc.HalfCloseableStream) -> None:
        connection = ServerConnection(self._welcome, 1 << 20, trio.current_time())
        async with self._room, stream:
            try:
                while not connection.closed:
                    data = None
                    with trio.move_on_at(connection.next_deadline()):
                        data = await stream.receive_some(1 << 16)
                    if data is None:
                        connection.tick(trio.current_time())
                    elif not data:
                        return
                    else:
                        self._answer(connection, bytes(data))
                    with trio.fail_after(10):
                        await stream.send_all(connection.data_to_send())
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                return

    def _answer(self, connection: ServerConnection, data: bytes) -> None:
        try:
            for number, message in connection.receive_data(trio.current_time(), data):
                connection.send(number, self._answer_to(message))
        except ProtocolError as error:
            connection.failure_to_send(error)

    def _welcome(self, hello: Hello) -> Welcome:
        config = self._config
        return Welcome(1, config.cluster, config.name, [], 1 << 20, 1 << 20, config.keepalive)

    def _answer_to(self, request: Message) -> Message:
        fields: dict[str, Any] = {"cluster": self._config.cluster}
        match request:
            case Members():
                found = self._founding
                founder = found.founder.hex() if found.founder is not None else ""
                waiting = {"seeds": found.seeds, "node_id": found.me.hex(), "founder": founder}
                return Report({**fields, "members": [], **waiting, "lost": found.lost})
            case NodeStatus():
                return Report({**fields, "name": self._name, "version": VERSION, "serving": False})
            case _:
                return Failed(NO_CLUSTER, "this node has no cluster yet: it waits for its seeds", True)


def guesses(config: NodeConfig) -> bool:
    """Tell whether a node can only guess where others reach it."""
    return not config.advertise and host_port(config.listen)[0] in ("0.0.0.0", "::")


def listed_address(config: NodeConfig, membership: Membership, advertise: str) -> str:
    """Return where others reach a node: where it is listed, if it can only guess, and that is a seed."""
    listed = membership.roster and membership.roster.find(membership.identity.node)
    return listed.address if listed and guesses(config) and listed.address in config.join else advertise


async def settle(
    config: NodeConfig,
    store: Store,
    listeners: Sequence[Door],
    advertise: str,
    tokens: Tokens | None,
    machine: Machine = MACHINE,
    *,
    lost: Sequence[str] | None = None,
) -> Membership:
    """Read or make a node's membership; wait for a cluster to join if that is what it is to do.

    Arguments:
        lost: where others were, if the node has had a store that it could not go on with.

    Errors: CannotJoin.
    """
    membership = await machine.in_thread(read_membership, store, machine.chance)
    advertise = listed_address(config, membership, advertise)
    me = Member(membership.identity.node, config.name, advertise, config.zone, float(config.weight))
    token = tokens.first if tokens is not None else None
    return await Joining(config, store, listeners, membership, me, token, machine, lost).settle()
