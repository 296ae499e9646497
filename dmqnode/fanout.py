"""A client's request in a cluster of several nodes: cut up by partition, asked of each leader, put together.

Inside a node every partition is served as a queue of its own, a *shard*, named `queue#index`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmqnode.answers import join_failed, join_infos, join_stored, with_held
from dmqnode.batch import parse
from dmqnode.clock import Now
from dmqnode.errors import ProtocolError, Refused, StaleReceipt, Unavailable
from dmqnode.explaining import explain
from dmqnode.frontend import PATIENCE, failed
from dmqnode.ids import PartitionId, QueueId, partition_id
from dmqnode.merging import MERGED
from dmqnode.messages import (
    Ack,
    Browse,
    Browsed,
    Done,
    Explain,
    Extend,
    Failed,
    GetQueue,
    Held,
    Message,
    Nack,
    Part,
    PurgeQueue,
    QueueInfo,
    Receive,
    Redrive,
    Send,
    Settled,
)
from dmqnode.polls import Polls
from dmqnode.queues import Definition
from dmqnode.shards import shard_name
from dmqnode.spreading import NO_PARTITION, newest, split

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

Answered = Callable[[Now, list[Message]], None]


class Fanout:
    """Requests of clients that concern partitions, wherever these are led."""

    GAVE_WAY = frozenset((MERGED, NO_PARTITION))
    """The codes of refusals of sends that another queue of the name may take."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self.polls = Polls(self, clustering)

    def receive(self, now: Now, session: int, number: int, request: Message) -> bool:
        """Have a request done; tell whether it is one that concerns partitions.

        Errors: Refused and its kinds, if it cannot be.
        """
        match request:
            case Send():
                self._send(now, session, number, request)
            case Receive():
                self.polls.receive(now, session, number, request, self.definition(request.queue))
            case Ack() | Nack() | Extend():
                self._settle(now, session, number, request)
            case PurgeQueue():
                self._purge(now, session, number, request)
            case GetQueue() | Explain():
                self._describe(now, session, number, request)
            case Browse():
                self._browse(now, session, number, request)
            case Redrive():
                self._redrive(now, session, number, request)
            case _:
                return False
        return True

    # --- asking several ------------------------------------------------------------------------------

    def definition(self, name: str) -> Definition:
        """Return a queue's definition.  Errors: QueueNotFound."""
        return self._broker.registry.find(name).definition

    def ask(
        self,
        now: Now,
        session: int,
        number: int,
        definition: Definition,
        index: int,
        message: Message,
        then: Callable[[Now, Message], None],
        patience: float = PATIENCE,
    ) -> None:
        """Have `message` done by the leader of one partition, if one is found in `patience` seconds."""
        partition = partition_id(definition.id, index)
        first = self._clustering.first_homes(definition, index)
        front = self._clustering.front
        front.ask(now, session, number, partition, first, message, then, patience=patience)

    def ask_all(
        self,
        now: Now,
        session: int,
        number: int,
        definition: Definition,
        messages: dict[int, Message],
        then: Answered,
    ) -> None:
        """Ask the leaders of several partitions; `then` gets the answers in the order of `messages`."""
        answers: dict[int, Message] = {}

        def answered(now: Now, index: int, answer: Message) -> None:
            answers[index] = answer
            if len(answers) == len(messages):
                then(now, [answers[i] for i in messages])

        for index, message in messages.items():
            self.ask(
                now,
                session,
                number,
                definition,
                index,
                message,
                lambda now, answer, index=index: answered(now, index, answer),  # type: ignore[misc]
            )

    def reply(self, session: int, number: int, answer: Message) -> None:
        """Answer a client."""
        self._broker.reply(session, number, answer)

    # --- sending -------------------------------------------------------------------------------------

    def _send(self, now: Now, session: int, number: int, request: Send) -> None:
        merging = self._clustering.crossings.merging
        there = self.definition(request.queue)
        self._send_to(now, session, number, request, [*merging.asked_first(now, request.queue), there])

    def _send_to(self, now: Now, session: int, number: int, request: Send, queues: list[Definition]) -> None:
        """Send to the first of several queues of one name that takes it: the others gave way (T3)."""

        def stored(now: Now, answer: Message) -> None:
            refused = answer.code if isinstance(answer, Failed) else ""
            if len(queues) > 1 and refused in self.GAVE_WAY:
                self._send_to(now, session, number, request, queues[1:])
            elif refused == MERGED:
                self._clustering.catalog.find(now, request.queue, again)
            else:
                self.reply(session, number, answer)

        def again(now: Now) -> None:
            """This node did not know yet that there is another queue of the name."""
            try:
                there = self.definition(request.queue)
                if there.id == queues[0].id:
                    raise Unavailable(f'two queues of the name "{there.name}" are becoming one; try again')
                self._send_to(now, session, number, request, [there])
            except Refused as error:
                self.reply(session, number, failed(error))

        try:
            self.send(now, session, number, request, stored, definition=queues[0])
        except Refused as error:
            stored(now, failed(error))

    def send(
        self,
        now: Now,
        session: int,
        number: int,
        request: Send,
        then: Callable[[Now, Message], None],
        *,
        moved: bool = False,
        definition: Definition | None = None,
    ) -> None:
        """Have a batch stored, cut up by partition; `then` gets Stored or Failed.

        Arguments:
            moved: the messages come from another queue of this cluster.
            definition: of the queue; None: the one that has the name.

        Errors: Refused and its kinds, if it cannot be sent at all.
        """
        try:
            batch = parse(request.batch)
        except ProtocolError as error:
            raise Refused(str(error), code="invalid") from None
        if definition is None:
            definition = self.definition(request.queue)
        pieces = split(definition, request, batch)
        if len(pieces) > 1 and not moved:
            definition.check_send(batch.longest(), request.delay)  # before some of it is stored
        messages: dict[int, Message] = {}
        for index, chosen in pieces.items():
            blob = batch.select(chosen).blob if chosen else request.batch
            messages[index] = Send(
                shard_name(definition, index),
                request.producer,
                request.sequence,
                request.floor,
                request.delay,
                False,
                blob,
                moved,
            )

        def stored(now: Now, answers: list[Message]) -> None:
            then(now, join_stored(batch.count, list(pieces.values()), answers, newest(definition)))

        self.ask_all(now, session, number, definition, messages, stored)

    # --- settling ------------------------------------------------------------------------------------

    def _settle(self, now: Now, session: int, number: int, request: Ack | Nack | Extend) -> None:
        groups: dict[PartitionId, list[int]] = {}
        for n, held in enumerate(request.held):
            groups.setdefault(held[0], []).append(n)
        failed: list[tuple[int, str, str]] = []
        left = [len(groups) + 1]

        def done(now: Now) -> None:
            left[0] -= 1
            if not left[0]:
                self.reply(session, number, Settled(sorted(failed)))

        for id_, indices in groups.items():
            part = with_held(request, [request.held[n] for n in indices])

            def settled(now: Now, answer: Message, indices: list[int] = indices) -> None:
                if isinstance(answer, Settled):
                    failed.extend((indices[n], code, text) for n, code, text in answer.failed)
                elif isinstance(answer, Failed):
                    failed.extend((n, answer.code, answer.message) for n in indices)
                done(now)

            try:
                definition = self._broker.registry.queue_by_id(QueueId(id_[:8])).definition
                index = int.from_bytes(id_[8:], "big")
                if index >= definition.settings.partitions:
                    raise Unavailable("no node that answers knows this partition of the queue; try again")
            except Refused as error:
                if isinstance(error, StaleReceipt) and not self.hears_majority():
                    error = Unavailable("this node does not know the queue of this receipt yet; try again")
                settled(now, Failed(error.code, str(error), error.retryable))
                continue
            self.ask(now, session, number, definition, index, part, settled)
        done(now)

    def give_back(self, now: Now, parts: list[Part]) -> None:
        """Tell the leaders of these parts that nobody has received them; as with any nack, it is tried for
        some seconds, and what it does not reach is hidden until its time."""
        groups: dict[PartitionId, list[Held]] = {}
        for part in parts:
            held = (part.partition, part.delivery, part.log, part.first, part.count)
            groups.setdefault(part.partition, []).append(held)
        for id_, those in groups.items():
            definition = self._broker.registry.definition_of(QueueId(id_[:8]))
            if definition is not None:  # else it is deleted
                nack, index = Nack(those, 0.0, False, "", False, True), int.from_bytes(id_[8:], "big")
                self._clustering.crossings.ask(now, definition, index, nack, lambda now, answer: None)

    def hears_majority(self) -> bool:
        """Tell whether a majority of the members answers; else nobody here knows what does not exist."""
        nodes = self._clustering.rosters.current.nodes
        return 2 * sum(map(self._clustering.reachable, nodes)) > len(nodes)

    # --- all partitions of a queue -------------------------------------------------------------------

    def _purge(self, now: Now, session: int, number: int, request: PurgeQueue) -> None:
        there = self.definition(request.queue)
        self._purge_all(now, session, number, [there, *self._broker.registry.giving_way(there.name)], 0)

    def _purge_all(self, now: Now, session: int, number: int, queues: list[Definition], killed: int) -> None:
        """Purge one queue after the other: several may have the name."""
        definition = queues[0]
        count = definition.settings.partitions
        messages: dict[int, Message] = {i: PurgeQueue(shard_name(definition, i)) for i in range(count)}

        def purged(now: Now, answers: list[Message]) -> None:
            total = killed + sum(answer.count for answer in answers if isinstance(answer, Done))
            wrong = join_failed([*answers, *([Done(killed)] if killed else [])])
            if wrong is not None:
                self.reply(session, number, wrong)
            elif len(queues) > 1:
                self._purge_all(now, session, number, queues[1:], total)
            else:
                self.reply(session, number, Done(total))

        self.ask_all(now, session, number, definition, messages, purged)

    def _describe(self, now: Now, session: int, number: int, request: GetQueue | Explain) -> None:
        definition = self.definition(request.queue)
        if isinstance(request, Explain):
            explain(self, self._clustering, now, session, number, definition)
            return

        def described(now: Now, info: dict[str, Any] | Failed) -> None:
            if isinstance(info, Failed):
                self.reply(session, number, info)
            else:
                self.reply(session, number, QueueInfo(info))

        self.describe(now, session, number, definition, described)

    def describe(
        self,
        now: Now,
        session: int,
        number: int,
        definition: Definition,
        then: Callable[[Now, dict[str, Any] | Failed], None],
    ) -> None:
        """Call `then` with a queue's figures over all its partitions, or with why they are not known."""
        count = definition.settings.partitions
        messages: dict[int, Message] = {i: GetQueue(shard_name(definition, i)) for i in range(count)}

        def gathered(now: Now, answers: list[Message]) -> None:
            found: list[dict[str, Any]] = []
            for answer in answers:
                if isinstance(answer, QueueInfo):
                    found.append(answer.info)
                elif isinstance(answer, Failed):
                    then(now, answer)
                    return
            then(now, join_infos(definition, found, explain=False))

        self.ask_all(now, session, number, definition, messages, gathered)

    # --- one partition after the other ---------------------------------------------------------------

    def _browse(self, now: Now, session: int, number: int, request: Browse) -> None:
        definition = self.definition(request.queue)
        cursor = request.cursor or b"\x00\x00"
        index = int.from_bytes(cursor[:2], "big")
        if index >= definition.settings.partitions:
            self.reply(session, number, Browsed([], None))
            return
        # A shard has one partition, which is its first.
        inner = b"\x00\x00" + cursor[2:] if cursor[2:] else None
        shard = shard_name(definition, index)
        message = Browse(shard, request.state, request.limit, request.max_bytes, inner)

        def browsed(now: Now, answer: Message) -> None:
            if isinstance(answer, Browsed):
                onward: bytes | None
                if answer.cursor is not None:
                    onward = index.to_bytes(2, "big") + answer.cursor[2:]
                else:
                    more = index + 1 < definition.settings.partitions
                    onward = (index + 1).to_bytes(2, "big") if more else None
                answer = Browsed(answer.parts, onward)
            self.reply(session, number, answer)

        self.ask(now, session, number, definition, index, message, browsed)

    def _redrive(self, now: Now, session: int, number: int, request: Redrive) -> None:
        definition = self.definition(request.queue)
        self._redrive_from(now, session, number, request, definition, 0, 0)

    def _redrive_from(
        self,
        now: Now,
        session: int,
        number: int,
        request: Redrive,
        definition: Definition,
        index: int,
        moved: int,
    ) -> None:
        shard = shard_name(definition, index)
        message = Redrive(shard, request.to, request.limit - moved)

        def done(now: Now, answer: Message) -> None:
            if not isinstance(answer, Done):
                self.reply(session, number, answer if not moved else Done(moved, True))
                return
            total = moved + answer.count
            last = index + 1 >= definition.settings.partitions
            if total >= request.limit or (last and not answer.more):
                self.reply(session, number, Done(total, answer.more or not last))
            elif answer.more and answer.count:
                self.reply(session, number, Done(total, True))
            else:
                self._redrive_from(now, session, number, request, definition, index + 1, total)

        self.ask(now, session, number, definition, index, message, done)
