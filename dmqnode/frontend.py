"""The front end: any node takes any request, and has it done by whoever leads the partition.

    client ──request──> front end ──┬── this node leads: its broker
                                    ├── another leads: Forward ──> its broker ──> Answer
                                    └── nobody is known to: ask a home that answers, which claims, or others

A request that finds nobody to do it waits a little, for a leader to be found, and is then refused as
unavailable, or unknown if it was under way.  What is repeated to another leader is recognised: sends by
producer and sequence, acks because a dead message stays dead.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from dmqnode.asks import Ask, Then
from dmqnode.clock import Now
from dmqnode.deadlines import Deadlines
from dmqnode.errors import DMQError
from dmqnode.homesets import HomeSet
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import (
    Ack,
    Blob,
    Cancel,
    Cancelled,
    Extend,
    Failed,
    Message,
    Nack,
    PurgeQueue,
    Receive,
    Redrive,
    Send,
)
from dmqnode.news import TOLD, News
from dmqnode.peer_messages import Answer, Forward, Withdraw
from dmqnode.wire import decode, encode_payload

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering
    from dmqnode.effects import Reply

NOT_LEADER = "not-leader"
"""The code of a refusal between nodes: ask the node named in the sentence, or look for the leader."""
PATIENCE = 5.0
"""Seconds that a request waits for somebody to lead its partition."""
STAND_IN_AFTER = 0.6
"""Seconds without a leader after which a send is taken in by a stand-in."""
RETRY = 0.05
"""Seconds between two looks for a leader."""
ELSEWHERE = 4
"""Of so many looks for a leader one goes beyond what this node knows of the homes and has heard."""
FIRST_TICKET = 1 << 40
"""Sub-requests are numbered from here, above every number that a client gives."""
MAX_PARKED = 100_000
LONGEST = 15.0
"""Seconds after which a request is not repeated any more, however often its leader was lost."""
REPEATED = frozenset((Send, Ack, Nack, Extend))
"""What is recognised when it comes again."""


class FrontEnd:
    """Finds the leader for each request, and brings back what it answers."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._asks: dict[int, Ask] = {}
        self._due: Deadlines[int] = Deadlines()
        self._tickets = FIRST_TICKET
        self._by_client: dict[int, dict[int, dict[int, None]]] = {}
        """session -> number of a client's request -> its tickets."""
        self._peers: dict[int, NodeId] = {}
        """Sessions that stand for other nodes."""
        self._peer_sessions: dict[NodeId, int] = {}
        self._news = News(broker, clustering)

    # --- asking --------------------------------------------------------------------------------------

    def ask(
        self,
        now: Now,
        session: int,
        number: int,
        partition: PartitionId,
        first: HomeSet,
        message: Message,
        then: Then,
        *,
        patience: float = PATIENCE,
    ) -> None:
        """Have `message` done by the leader of `partition`; `then` gets its answer, or a Failed.

        Arguments:
            number: of the client's request that this is a part of.
            first: the home set with which the partition began.
            patience: seconds to look for a leader.
        """
        ask = self.remember(now, session, number, partition, first, message, then, patience)
        if ask is not None:
            self._dispatch(now, ask)

    def remember(
        self,
        now: Now,
        session: int,
        number: int,
        partition: PartitionId,
        first: HomeSet,
        message: Message,
        then: Then,
        patience: float = PATIENCE,
    ) -> Ask | None:
        """Take in a request that the caller makes; None: it was refused."""
        self._tickets += 1
        ask = Ask(
            self._tickets, session, number, partition, first, message, then, now.run + patience, now.run
        )
        # What repeats a request whose answer was lost was perhaps done by that one.
        ask.risky = isinstance(message, Ack | Nack) and message.again
        self._asks[ask.ticket] = ask
        self._by_client.setdefault(session, {}).setdefault(number, {})[ask.ticket] = None
        if len(self._asks) > MAX_PARKED:
            self._end(now, ask, Failed("overloaded", "this node has too many requests under way", True))
            return None
        return ask

    def _dispatch(self, now: Now, ask: Ask) -> None:
        """Send a request to who leads, or park it for a moment."""
        clustering, cluster = self._clustering, self._clustering.cluster
        ask.where = None
        if cluster.leads(ask.partition) and clustering.hosted.serves(ask.partition):
            ask.where = cluster.me
            clustering.requests.local(now, ask.session, ask.ticket, ask.message)
            return
        target = self._target(now, ask)
        if target is None:
            if not ask.asked and ask.ticket in self._asks:  # or this node has come to lead it at once
                self._park(now, ask)
            return
        ask.where = target
        session = self._broker.sessions.get(ask.session)
        user, client = (session.user, session.client) if session is not None else ("", "")
        payload = Blob(encode_payload(0, ask.message))
        clustering.send(target, Forward(ask.ticket, user, client, payload))

    def _target(self, now: Now, ask: Ask) -> NodeId | None:
        """Return the node to ask: the leader as far as known, else a home that answers; None: wait.

        A node that is no home may know only the homes with which a queue began; when all of those are gone,
        or have forgotten, and when hearsay leads in a circle, the others are asked in turn.
        """
        cluster, clustering = self._clustering.cluster, self._clustering
        leader = cluster.leaders.get(ask.partition)
        heard = leader is not None and leader != cluster.me and clustering.reachable(leader)
        members = cluster.homes(ask.partition, ask.first).members
        answering = [n for n in members if n == cluster.me or clustering.reachable(n)]
        ask.looks += 1
        if cluster.me not in members and (ask.looks % ELSEWHERE == 0 or not (heard or answering)):
            asked = dict.fromkeys((*clustering.wanted(ask.partition), *clustering.linked))
            others = [n for n in asked if n not in members and n != cluster.me and clustering.reachable(n)]
            if others:
                ask.others += 1
                return others[ask.others % len(others) - 1]
        if heard or not answering:
            return leader if heard else None
        chosen = answering[ask.homes % len(answering)]
        if chosen == cluster.me:
            cluster.want(now, ask.partition, ask.first)
            ask.homes += not cluster.leases.claiming(ask.partition)
            return None
        ask.homes += 1
        return chosen

    def _park(self, now: Now, ask: Ask) -> None:
        ask.where, ask.referred = None, False
        if now.run >= ask.deadline:
            self._give_up(now, ask)
            return
        if isinstance(ask.message, Send) and now.run - ask.asked_at >= STAND_IN_AFTER:
            # Nobody leads: keep the messages here and elsewhere until somebody does.
            ask.where = self._clustering.me
            if self._clustering.debts.keep(now, ask.partition, ask.message, partial(self._kept, ask)):
                return
            ask.where = None
        self._due.set(ask.ticket, min(ask.deadline, now.run + RETRY))

    def _kept(self, ask: Ask, now: Now, answer: Message) -> None:
        if ask.ticket in self._asks:
            self._end(now, ask, answer)

    def _give_up(self, now: Now, ask: Ask) -> None:
        code, stored = ("unknown", "unknown") if ask.risky else ("unavailable", "no")
        why = "no node leads this partition of the queue now: too few of its homes answer; try again"
        self._end(now, ask, Failed(code, why, True, stored))

    def _end(self, now: Now, ask: Ask, answer: Message) -> None:
        del self._asks[ask.ticket]
        self._due.cancel(ask.ticket)
        requests = self._by_client[ask.session]
        del requests[ask.number][ask.ticket]
        if not requests[ask.number]:
            del requests[ask.number]
            if not requests:
                del self._by_client[ask.session]
        ask.then(now, answer)

    # --- answers -------------------------------------------------------------------------------------

    def answered(self, now: Now, ticket: int, answer: Message, session: int | None = None) -> bool:
        """Take in the answer to a sub-request; tell whether it was one.

        Arguments:
            session: that this node answers; what a node that is gone had asked may bear the same number.
        """
        if ticket < FIRST_TICKET:
            return False
        ask = self._asks.get(ticket)
        if ask is None or session not in (None, ask.session):
            return True
        if isinstance(answer, Failed) and answer.code == NOT_LEADER:
            self._ask_again(now, ask, answer.message)
        elif (
            isinstance(answer, Failed)
            and answer.code == "stopping"
            and ask.where != self._clustering.cluster.me
        ):
            self._clustering.cluster.leaders.pop(ask.partition, None)
            self._park(now, ask)
        elif isinstance(answer, Failed) and answer.code == "unknown" and type(ask.message) in REPEATED:
            self.again(now, ask)
        else:
            final = isinstance(answer, Failed) and not isinstance(ask.message, Send) and not answer.retryable
            final = final or (isinstance(answer, Failed) and answer.code == "merged")
            if ask.risky and isinstance(answer, Failed) and answer.stored == "no" and not final:
                # An earlier attempt may have been done all the same.
                answer = Failed("unknown", answer.message, answer.retryable, "unknown")
            if ask.where is not None and ask.where != self._clustering.me:
                self._clustering.cluster.leaders[ask.partition] = ask.where
            if ask.where is not None and type(ask.message) in TOLD:
                self._news.tell(now, ask.session, ask.partition, ask.where)
            self._end(now, ask, answer)
        return True

    def _ask_again(self, now: Now, ask: Ask, named: str) -> None:
        """Who was asked does not lead: ask whom it named at once, once for each look (hearsay may circle)."""
        cluster = self._clustering.cluster
        try:
            leader = NodeId(bytes.fromhex(named))
        except ValueError:
            leader = NodeId(b"")
        if cluster.leaders.get(ask.partition) == ask.where:
            cluster.leaders.pop(ask.partition, None)
        if leader and leader not in (ask.where, cluster.me):
            cluster.leaders[ask.partition] = leader
            if not (ask.referred or ask.cancelled):
                ask.referred = True
                return self._dispatch(now, ask)
        return self._park(now, ask)

    def again(self, now: Now, ask: Ask) -> None:
        """A request was under way when its leader was lost: repeat it as one that may have been done."""
        if isinstance(ask.message, PurgeQueue | Redrive):  # what came since must not go the same way
            why = "the leader was lost before it answered: perhaps it was done; look before you repeat it"
            self._end(now, ask, Failed("unknown", why, True, "unknown"))
            return
        ask.risky = ask.risky or type(ask.message) in REPEATED
        match ask.message:
            case Ack():
                ask.message = Ack(ask.message.held, True)
            case Nack(held, delay, dead_letter, reason):
                ask.message = Nack(held, delay, dead_letter, reason, True, ask.message.undelivered)
            case _:
                pass
        ask.deadline = min(max(ask.deadline, now.run + PATIENCE / 2), ask.asked_at + LONGEST)
        self._park(now, ask)

    def lost(self, now: Now, partition: PartitionId) -> None:
        """This node leads a partition no more: look for who does."""
        for ask in [
            a
            for a in self._asks.values()
            if a.partition == partition and a.where == self._clustering.cluster.me
        ]:
            self.again(now, ask)

    def leads_now(self, now: Now, partition: PartitionId) -> None:
        """This node leads a partition: do what waits for that."""
        for ask in [a for a in self._asks.values() if a.partition == partition and a.where is None]:
            self._due.cancel(ask.ticket)
            self._dispatch(now, ask)

    # --- other nodes ---------------------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a message about a request that travels between nodes; tell whether it was one."""
        match message:
            case Forward():
                session = self._peer_session(sender)
                _, request = decode(message.request)
                self._clustering.requests.local(now, session, message.n, _named(request, message.client))
            case Answer():
                _, answer = decode(message.answer)
                self.answered(now, message.n, answer)
            case Withdraw():
                self._clustering.requests.local(now, self._peer_session(sender), message.n, Cancel())
            case _:
                return False
        return True

    def _peer_session(self, node: NodeId) -> int:
        session = self._peer_sessions.get(node)
        if session is None:
            session = self._clustering.requests.open_peer_session(node)
            self._peer_sessions[node] = session
            self._peers[session] = node
        return session

    def is_part(self, reply: Reply) -> bool:
        """Tell whether a reply is of a partition led here, for this or another front end."""
        return reply.number >= FIRST_TICKET or reply.session in self._peers

    def answer_peer(self, session: int, number: int, answer: Message) -> bool:
        """Send an answer to the node that forwarded; tell whether the session stands for a node."""
        node = self._peers.get(session)
        if node is None:
            return False
        self._clustering.send(node, Answer(number, Blob(encode_payload(0, answer))))
        return True

    def gone(self, now: Now, node: NodeId) -> None:
        """The connection to a node broke: what it did for us may be done, what we did for it is moot."""
        session = self._peer_sessions.pop(node, None)
        if session is not None:
            del self._peers[session]
            self._broker.close_session(session)
        for ask in [a for a in self._asks.values() if a.where == node]:
            self.again(now, ask)

    # --- clients -------------------------------------------------------------------------------------

    def cancel(self, now: Now, session: int, number: int) -> None:
        """A client gives a request up: only a receive can be."""
        for ticket in list(self._by_client.get(session, {}).get(number, ())):
            ask = self._asks[ticket]
            if not isinstance(ask.message, Receive):
                continue
            ask.cancelled = True
            if ask.where is None:
                self._end(now, ask, Cancelled())
            elif ask.where == self._clustering.cluster.me:
                self._clustering.requests.local(now, session, ticket, Cancel())
            else:
                self._clustering.send(ask.where, Withdraw(ticket))

    def hung_up(self, now: Now, session: int) -> None:
        """A client is gone: its receives are given up, which nobody would answer any more."""
        for number in list(self._by_client.get(session, ())):
            self._clustering.fanout.polls.cancelled(session, number)
            self.cancel(now, session, number)

    def end_waits(self, now: Now) -> None:
        """This node stops: give up every receive that waits at another."""
        for session, numbers in list(self._by_client.items()):
            for number in list(numbers):
                self.cancel(now, session, number)

    def tick(self, now: Now) -> None:
        """Look again for the leaders of what is parked."""
        for ticket in self._due.pop_due(now.run):
            ask = self._asks.get(ticket)
            if ask is None:
                continue
            if ask.cancelled:
                self._end(now, ask, Cancelled())
            elif now.run >= ask.deadline:
                self._give_up(now, ask)
            else:
                self._dispatch(now, ask)

    def next_deadline(self) -> float:
        """Return when `tick` must be called next, math.inf for never."""
        return self._due.next() if len(self._due) else math.inf


def _named(request: Message, client: str) -> Message:
    """Return a forwarded request with the client's name in it, for those who ask who holds what."""
    if isinstance(request, Receive) and not request.holder:
        fields = dict(zip(request.FIELDS, request.values()))
        return Receive(**{**fields, "holder": client})
    return request


def failed(error: DMQError) -> Failed:
    """Return an error as it travels."""
    return Failed(error.code, str(error), error.retryable, error.stored)
