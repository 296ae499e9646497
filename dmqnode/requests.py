"""Requests at a node of a cluster: those of its clients, and those that other nodes forward to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dmqnode.clock import Now
from dmqnode.errors import DMQError, QueueNotFound, Refused, Unavailable
from dmqnode.frontend import failed
from dmqnode.gathering import Gathering
from dmqnode.growing import Growth
from dmqnode.homesets import HomeSet
from dmqnode.hosted import not_leader
from dmqnode.ids import NodeId, PartitionId, QueueId, partition_id
from dmqnode.merging import MERGED
from dmqnode.messages import (
    Ack,
    Cancel,
    CreateQueue,
    Delivered,
    Extend,
    Failed,
    GetQueue,
    Hello,
    ListQueues,
    Message,
    Nack,
    QueueList,
    Report,
    Send,
    SetQueue,
    Step,
)
from dmqnode.queues import check_name
from dmqnode.roster import ROSTER, encode
from dmqnode.shards import is_shard, read_shard
from dmqnode.shortcut import send_here

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering
    from dmqnode.effects import Reply
    from dmqnode.surroundings import Session


class Requests:
    """Who does what a request asks for."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._growth = Growth(broker, clustering)
        self._gathering = Gathering(clustering.rosters, clustering.later)
        self._looking: set[str] = set()

    # --- requests ------------------------------------------------------------------------------------

    def request(
        self, now: Now, session: Session, number: int, message: Message, *, asked: bool = False
    ) -> bool:
        """Have a client's request done; False: it is one that any node does by itself.

        Errors: Refused and its kinds.
        """
        self._clustering.advance(now)
        if type(message) is Send and send_here(self._broker, self._clustering, now, session, number, message):
            self._clustering.settle(now)
            return True
        if isinstance(message, Cancel):
            self._clustering.fanout.polls.cancelled(session.id, number)
            self._clustering.front.cancel(now, session.id, number)
            self._clustering.settle(now)
            return True
        if isinstance(message, Step):
            self._step(now, session, number, message)
            self._clustering.settle(now)
            return True
        if isinstance(message, ListQueues) and message.counts:
            self._list(now, session, number, message)
            self._clustering.settle(now)
            return True
        name = getattr(message, "queue", None)
        for named in (name, getattr(message, "to", None)):
            if named is not None and is_shard(named):
                check_name(named)  # it refuses this one: what serves a partition is not for clients
        if name is None and isinstance(message, Ack | Nack | Extend):
            name = self._outgrown(message)
        if name is not None and self._make_known(now, session, number, message, name, asked=asked):
            self._clustering.settle(now)
            return True
        done = isinstance(message, SetQueue) and self._growth.asked(now, session, number, message)
        done = done or self._clustering.fanout.receive(now, session.id, number, message)
        self._clustering.settle(now)
        return done

    def _make_known(
        self, now: Now, session: Session, number: int, message: Message, name: str, *, asked: bool
    ) -> bool:
        """Find or make a queue that is not known here; True: that is under way."""
        registry = self._broker.registry
        if name in registry.queues:
            count = registry.queues[name].definition.settings.partitions
            more = isinstance(message, Ack | Nack | Extend) or getattr(message, "spread", 0) > count
            if asked or not more or not self._clustering.linked:
                return False

        def again(now: Now, safe: bool = True) -> None:
            try:
                if session.id not in self._broker.sessions:
                    raise Unavailable("the client is gone")
                if not self.request(now, session, number, message, asked=True):
                    self._broker.route(now, session, number, message)
            except DMQError as error:
                self._broker.refuse(session.id, number, error)

        if not asked and self._clustering.linked:
            self._clustering.catalog.find(now, name, again)
            return True
        if isinstance(message, Send) and message.create:
            registry.create_default(now, name, session.user, again)
            return True
        if not isinstance(message, CreateQueue):
            self._check_heard(name)
        return False

    def _check_heard(self, name: str) -> None:
        """Refuse to say that a queue does not exist while too few of the others could be asked.

        Errors: Unavailable.
        """
        if not self._clustering.fanout.hears_majority():
            raise Unavailable(
                f'this node does not know queue "{name}" and cannot ask a majority of the members; try later'
            )

    def _outgrown(self, message: Ack | Nack | Extend) -> str | None:
        """Return the queue of a receipt from a partition that this node does not know of yet."""
        for held in message.held:
            definition = self._broker.registry.definition_of(QueueId(held[0][:8]))
            index = int.from_bytes(held[0][8:], "big")
            if definition is not None and index >= definition.settings.partitions:
                return definition.name
        return None

    def _step(self, now: Now, session: Session, number: int, step: Step) -> None:
        def then(now: Now, answer: Message) -> None:
            self._broker.reply(session.id, number, answer)

        clustering = self._clustering
        if self._forced(now, session.id, number, step, self._cut_off):
            return
        replaced = clustering.rosters.replaces(step)
        if replaced is not None and self._cut_off(replaced):
            clustering.rosters.force_join(now, step)
            self._broker.reply(session.id, number, Report(self._joined(step)))
            return
        clustering.front.ask(now, session.id, number, ROSTER, clustering.rosters.first, step, then)

    def _forced(
        self, now: Now, session: int, number: int, step: Step, lost: Callable[[NodeId], bool]
    ) -> bool:
        """Strike a member off that somebody says is destroyed, if no majority is there to do so (M5)."""
        if step.kind != "forget" or not step.destroyed or not lost(NodeId(step.member)):
            return False
        self._clustering.rosters.force(now, NodeId(step.member))
        self._broker.reply(session, number, Report(self._joined(step)))
        return True

    def _cut_off(self, gone: NodeId) -> bool:
        """Tell whether no majority of the members answers, nor `gone`."""
        return self._clustering.rosters.cut_off(gone, self._clustering.reachable)

    def _list_lost(self, gone: NodeId) -> bool:
        """Tell whether nobody can lead the list of members: too few of its homes answer, and not `gone`."""
        clustering, grants = self._clustering, self._clustering.cluster.grants
        promise, leader = grants.find(ROSTER), clustering.leader_of(ROSTER)
        if promise is None or (leader is not None and clustering.reachable(leader)):
            return False
        record = grants.reduce(promise.record)
        if clustering.me not in record.members or grants.reform(ROSTER, record) is not record:
            return False
        answering = [n for n in record.members if clustering.reachable(n)]
        return gone in record.members and gone not in answering and not record.has_majority(answering)

    def _list(self, now: Now, session: Session, number: int, request: ListQueues) -> None:
        registry = self._broker.registry
        names = sorted(
            n for n in registry.queues if "#" not in n and n.startswith(request.prefix) and n > request.after
        )
        # One of them may be gone before all are described.
        chosen = {name: registry.queues[name].definition for name in names[: request.limit]}
        infos: dict[str, dict[str, Any]] = {}
        more = len(names) > request.limit

        def described(now: Now, name: str, info: Any) -> None:
            infos[name] = info if isinstance(info, dict) else chosen[name].info()
            if len(infos) == len(chosen):
                self._broker.reply(session.id, number, QueueList([infos[n] for n in chosen], more))

        for name, definition in chosen.items():
            self._clustering.fanout.describe(
                now,
                session.id,
                number,
                definition,
                lambda now, info, name=name: described(now, name, info),  # type: ignore[misc]
            )
        if not chosen:
            self._broker.reply(session.id, number, QueueList([], False))

    # --- requests that this node leads ---------------------------------------------------------------

    def local(self, now: Now, session: int, number: int, message: Message) -> None:
        """Have one partition's request done here, if this node leads it, or say who does."""
        broker = self._broker
        known = broker.sessions.get(session)
        if known is None:  # its client is gone: what came to be known of a leader only now is not done
            gone = Failed("unavailable", "the client is gone", False)
            self._clustering.front.answered(now, number, gone, session)
            return
        try:
            if isinstance(message, Cancel):
                broker.deliveries.cancel(known, number)
                return
            if broker.stopping:
                raise not_leader(None)
            partition, first = self._partition_of(now, message)
            if not self._clustering.cluster.leads(partition) or not self._clustering.hosted.serves(partition):
                if isinstance(message, Step) and self._forced(now, session, number, message, self._list_lost):
                    return
                self._refer(now, partition, first)
            if isinstance(message, Step):
                self._make_step(now, session, number, message)
            elif isinstance(message, SetQueue):
                self._growth.lead(now, session, number, message)
            else:
                self._make_way(now, partition, message)
                broker.route(now, known, number, message)
        except DMQError as error:
            broker.refuse(session, number, error)

    def _partition_of(self, now: Now, message: Message) -> tuple[PartitionId, HomeSet]:
        """Return which partition a request is for, and its first home set.

        Errors: Refused and its kinds; NOT_LEADER where this node does not know of it yet.
        """
        if isinstance(message, Step):
            return ROSTER, self._clustering.rosters.first
        if isinstance(message, Ack | Nack | Extend):
            if not message.held:
                raise Refused("a request to settle nothing came")
            id_ = PartitionId(message.held[0][0])
            definition = self._broker.registry.queue_by_id(QueueId(id_[:8])).definition
            index = int.from_bytes(id_[8:], "big")
        else:
            queue, index = read_shard(getattr(message, "queue", ""))
            found = self._broker.registry.definition_of(queue)
            if found is None:
                if self._clustering.catalog.deleted(queue):
                    raise QueueNotFound("the queue does not exist any more: it was deleted meanwhile")
                raise not_leader(None)  # it is about to hear of it
            definition = found
        if index >= definition.settings.partitions:
            self._look_for(now, definition.name)
            raise not_leader(None)
        return partition_id(definition.id, index), self._clustering.first_homes(definition, index)

    def _make_way(self, now: Now, partition: PartitionId, message: Message) -> None:
        """If a queue gives way to another one of its name, move what it has, and take nothing new.

        Errors: Refused, with MERGED, for a send that did not come before.
        """
        winner = self._broker.registry.winner_over(QueueId(partition[:8]))
        if winner is None:
            return
        merging = self._clustering.crossings.merging
        if not isinstance(message, GetQueue):  # which is how others ask whether all has moved
            merging.look_again(now, partition)
        merging.move(now, partition)
        if isinstance(message, Send) and not merging.knows(message, self._clustering.hosted.shard(partition)):
            raise Refused(f'queue "{winner.name}" is another one by now', code=MERGED, retryable=True)

    def _look_for(self, now: Now, name: str) -> None:
        """Ask the others what they know of a queue; once at a time."""
        if name not in self._looking:
            self._looking.add(name)
            self._clustering.catalog.find(now, name, lambda now: self._looking.discard(name))

    def _refer(self, now: Now, partition: PartitionId, first: HomeSet) -> None:
        """Refuse a request for what this node does not lead.  Errors: Refused, always."""
        cluster = self._clustering.cluster
        # A home goes by what it has granted: hearsay may lead in a circle, in which nobody ever claims.
        home = cluster.me in cluster.homes(partition, first).members
        leader = cluster.holder(partition) if home else cluster.leaders.get(partition)
        if leader in (None, cluster.me) or not self._clustering.reachable(leader):
            cluster.want(now, partition, first)
            leader = None
        raise not_leader(leader)

    def _make_step(self, now: Now, session: int, number: int, step: Step) -> None:
        def done(now: Now, error: Refused | None) -> None:
            if error is not None:
                self._broker.reply(session, number, failed(error))
            else:
                self._broker.reply(session, number, Report(self._joined(step)))

        self._gathering.step(now, step, done, lambda: session in self._broker.sessions)

    def _joined(self, step: Step) -> dict[str, Any]:
        fields: dict[str, Any] = {"roster": encode(self._clustering.rosters.current)}
        if step.kind == "join":
            around = self._broker.surroundings
            fields["cluster"] = self._broker.config.cluster
            fields["cluster_id"], fields["key"] = around.cluster, around.cluster_key
        return fields

    def own_replies(self, replies: Iterable[Reply], leaving: Now | None = None) -> list[Reply]:
        """Return the replies for this node's clients; the others are parts of requests, or for peers.

        Arguments:
            leaving: when they leave, if that is not when they were decided.
        """
        mine: list[Reply] = []
        if leaving is not None:
            self._clustering.let_time_pass(leaving)
        now = self._broker.now
        waiting = list(replies)
        while waiting:
            for found in waiting:
                reply = self._fenced(found) if self._clustering.front.is_part(found) else found
                # A peer's numbers may be ours, too: first see whose session it is.
                if self._clustering.front.answer_peer(reply.session, reply.number, reply.message):
                    continue
                if not self._clustering.front.answered(now, reply.number, reply.message, reply.session):
                    mine.append(reply)
            self._clustering.settle(now)
            waiting = self._broker.more_replies()
        return mine

    def _fenced(self, reply: Reply) -> Reply:
        """Look at the lease once more as a delivery leaves: without it nothing is handed out (L4, P6)."""
        delivered = reply.message
        if not isinstance(delivered, Delivered) or not delivered.parts:
            return reply
        cluster = self._clustering.cluster
        if all(cluster.leads(part.partition) for part in delivered.parts):
            return reply
        return reply._replace(message=failed(not_leader(None)))

    def open_peer_session(self, node: NodeId) -> int:
        """Requests that another node forwards come in a session of their own."""
        member = self._clustering.rosters.current.find(node)
        name = node.hex() if member is None else member.name
        return self._broker.open_session(Hello(1, 1, f"node {name}", "", [], 1 << 24))
