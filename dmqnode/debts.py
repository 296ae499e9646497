"""Sends taken in while nobody leads their partition: kept here and on other nodes, handed over later.

    send ──> own log, own disk ──Keep──> W' - 1 other nodes ──Kept──> "stored"
    a leader is found ──Offer──> it takes the batches in under their ids ──Taken──> forgotten here

Every node that keeps a copy hands it over by itself, whoever is first; the leader knows a batch by its id,
and a repetition of the same send by its producer (C5).  What is kept is dropped only once the homes have it
(C1).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import cbor2

from dmqnode.batch import parse
from dmqnode.clock import Now
from dmqnode.errors import ProtocolError
from dmqnode.forgetting import Bygone
from dmqnode.ids import LOG_ID_SIZE, PARTITION_ID_SIZE, LogId, NodeId, PartitionId, QueueId
from dmqnode.keys import DEBTS, DEBTS_END
from dmqnode.messages import Blob, Failed, Message, Send, Stored
from dmqnode.peer_messages import Debt, Keep, Kept, Offer, Taken
from dmqnode.placement import rank
from dmqnode.ranges import RangeSet
from dmqnode.reads import Get, Procedure, Rows, Scan
from dmqnode.records import encode_batch, read_batch_head
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

SPOILED = cbor2.dumps(None)
"""Stands where a debt was that is damaged."""
MAX_DEBTS = 100_000
"""Batches that one node keeps for others; further sends are refused."""
KEEP_TIMEOUT = 2.0
"""Seconds after which a send that too few nodes keep is unknown."""
OFFER_AGAIN = 2.0
OFFER_BYTES = 512 << 10
OFFER_BATCHES = 256
TICK = 0.2


class _Keeping:
    __slots__ = ("ask", "deadline", "kept", "others", "stored", "then", "wanted")

    def __init__(self, wanted: int, deadline: float, stored: Stored, then: Callable[[Now, Message], None]):
        self.wanted = wanted
        self.deadline = deadline
        self.stored = stored
        self.then = then
        self.kept: dict[NodeId, None] = {}
        self.others: deque[NodeId] = deque()
        """Who may be asked instead of one that does not keep it."""
        self.ask: Callable[[NodeId], None] = lambda node: None


class Debts:
    """What this node keeps for the leaders of partitions."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._owed: dict[PartitionId, dict[tuple[LogId, int], int]] = {}
        """Per partition the batches kept: (log, first seq) -> messages."""
        self._logs: dict[tuple[PartitionId, bool], tuple[LogId, int]] = {}
        """The log that this run writes for a partition (delayed or not), and its end."""
        self._keeping: dict[int, _Keeping] = {}
        self._offered: dict[PartitionId, float] = {}
        self._offered_to: dict[PartitionId, NodeId] = {}
        self._under_offer: dict[PartitionId, list[tuple[LogId, int]]] = {}
        """What was offered last and not answered."""
        self._spoiled: dict[PartitionId, dict[LogId, list[int]]] = {}
        """Logs of which a kept batch was damaged here: this node does not know any more all that it owes of
        them.  Where those batches began."""
        self._nonce = broker.identity.first_question
        self._next_tick = -math.inf
        self._bygone = Bygone(broker, clustering)
        self.count = self.handed_over = 0
        """Batches that leaders took since there were none last."""

    # --- at the start --------------------------------------------------------------------------------

    def load(self, now: Now) -> None:
        """Find what earlier runs kept."""
        self._broker.reads.start(now, _load(), self._loaded)

    def _loaded(self, now: Now, found: _Found) -> None:
        for partition, log, first, count in found.debts:
            self._owe(partition, log, first, count)
        self._spoil(found.damaged)

    def _spoil(self, keys: list[bytes]) -> None:
        """Batches that were kept are damaged: they are owed no more, but somebody else may keep them, too.

        A mark in their place says so to later runs, as long as something of the same log is owed.
        """
        ops = WriteBatch()
        for key in keys:
            partition, log, first = _read_key(key)
            if self._owed.get(partition, {}).pop((log, first), None) is not None:
                self.count -= 1
            self._spoiled.setdefault(partition, {}).setdefault(log, []).append(first)
            ops.put(key, SPOILED)
        for partition in {_read_key(key)[0] for key in keys}:
            self._unspoil(partition, ops)
            if not self._owed.get(partition, True):
                self._settled(partition)
        if len(ops):
            self._broker.write_meta(ops, lambda now: None)

    def _unspoil(self, partition: PartitionId, ops: WriteBatch) -> None:
        """Forget the damage in logs of which nothing is owed any more."""
        spoiled = self._spoiled.get(partition)
        if spoiled is None:
            return
        owed = {log for log, _ in self._owed.get(partition, ())}
        for log in [log for log in spoiled if log not in owed]:
            for first in spoiled.pop(log):
                ops.delete(_key(partition, log, first))
        if not spoiled:
            del self._spoiled[partition]

    def _owe(self, partition: PartitionId, log: LogId, first: int, count: int) -> None:
        owed = self._owed.setdefault(partition, {})
        if not self.count:
            self.handed_over = 0
        if (log, first) not in owed:
            self.count += 1
        owed[log, first] = count

    def by_partition(self) -> dict[PartitionId, int]:
        """Return how many batches are kept for each partition."""
        return {partition: len(owed) for partition, owed in self._owed.items()}

    # --- taking in -----------------------------------------------------------------------------------

    def keep(
        self, now: Now, partition: PartitionId, request: Send, then: Callable[[Now, Message], None]
    ) -> bool:
        """Take a send in; `then` gets Stored, or Failed if the outcome is unknown.

        Returns False, and nothing was done, if too few nodes answer, or this queue's sends need its leader.
        """
        definition = self._broker.registry.definition_of(QueueId(partition[:8]))
        if definition is None or definition.settings.ordering == "fifo" or self.count >= MAX_DEBTS:
            return False
        if self._broker.sends.short_of_disk:
            return False
        if self._clustering.walls.silent:
            return False  # what it writes down as the time would be wrong
        if not self._stays(self._clustering.me):
            return False  # it would take along what it owes
        batch = parse(request.batch)
        if batch.longest() > definition.settings.max_message_size:
            return False  # the leader says why
        others = self._keepers(partition)
        wanted = self._clustering.least()
        if len(others) + 1 < wanted:
            return False
        delay = definition.settings.delay if request.delay is None else request.delay
        due = now.wall + round(delay * 1000) if delay > 0 else 0
        log, first = self._logs.get((partition, due > 0)) or (self._broker.new_log(), 0)
        self._logs[partition, due > 0] = (log, first + batch.count)
        record = Blob(encode_batch(now.wall, due, batch))
        debt = Debt(log, first, request.producer, request.sequence, request.floor, record)
        self._nonce += 1
        keeping = _Keeping(wanted, now.run + KEEP_TIMEOUT, Stored([(log, first, batch.count)], 0), then)
        nonce = self._keeping_as(keeping)
        self._owe(partition, log, first, batch.count)
        keeping.ask = lambda node: self._clustering.send(node, Keep(nonce, partition, [debt]))
        keeping.others.extend(others[wanted - 1 :])
        for node in others[: wanted - 1]:
            keeping.ask(node)
        self._write(partition, [debt], lambda now: self._kept(now, self._clustering.me, nonce))
        return True

    def _keeping_as(self, keeping: _Keeping) -> int:
        self._keeping[self._nonce] = keeping
        return self._nonce

    def _keepers(self, partition: PartitionId) -> list[NodeId]:
        """Return the other nodes that answer, homes first, then as placement ranks them."""
        clustering = self._clustering
        promise = clustering.cluster.grants.find(partition)
        homes = promise.record.members if promise is not None else ()
        ranked = rank(partition, [m.place for m in clustering.rosters.current.members])
        order = dict.fromkeys((*homes, *ranked))
        return [n for n in order if n != clustering.me and clustering.reachable(n) and self._stays(n)]

    def _stays(self, node: NodeId) -> bool:
        """Tell whether a node is a member that is not about to leave."""
        listed = self._clustering.rosters.current.find(node)
        return listed is not None and listed.weight > 0

    def _write(self, partition: PartitionId, debts: list[Debt], then: Callable[[Now], None]) -> None:
        ops = WriteBatch()
        for debt in debts:
            ops.put(_key(partition, debt.log, debt.first), encode_debt(debt))
        self._broker.write_meta(ops, then)

    def _kept(self, now: Now, node: NodeId, nonce: int, *, refused: bool = False) -> None:
        keeping = self._keeping.get(nonce)
        if keeping is None:
            return
        if refused:
            if keeping.others:
                keeping.ask(keeping.others.popleft())
            return
        keeping.kept[node] = None
        if len(keeping.kept) >= keeping.wanted and self._clustering.me in keeping.kept:
            del self._keeping[nonce]
            keeping.then(now, keeping.stored)

    # --- the crank -----------------------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these.  Errors: ProtocolError."""
        match message:
            case Keep() if self._broker.sends.short_of_disk:
                self._clustering.send(sender, Kept(message.nonce, True))
            case Keep():
                for debt in message.debt:
                    count = read_batch_head(debt.record)[1]
                    self._owe(message.partition, debt.log, debt.first, count)
                nonce = message.nonce
                self._write(
                    message.partition, message.debt, lambda now: self._clustering.send(sender, Kept(nonce))
                )
            case Kept():
                self._kept(now, sender, message.nonce, refused=message.refused)
            case Offer():
                self._clustering.hosted.taking.take(now, sender, message)
            case Taken():
                self._put_back(message.partition)
                self.handed_over += self._forget(message.partition, message.taken)
                self._offered_to.pop(message.partition, None)
                if message.taken:
                    self._offered.pop(message.partition, None)
                    self._offer(now, message.partition)
            case _:
                return False
        return True

    def _put_back(self, partition: PartitionId) -> None:
        """What was offered comes last from now on: what is not taken yet must not hold up the others."""
        owed = self._owed.get(partition, {})
        for batch in self._under_offer.pop(partition, ()):
            if batch in owed:
                owed[batch] = owed.pop(batch)

    def _forget(self, partition: PartitionId, taken: list[tuple[LogId, int]]) -> int:
        """Keep some batches no longer; return how many there were."""
        before, owed = self.count, self._owed.get(partition, {})
        ops = WriteBatch()
        for log, first in taken:
            if owed.pop((log, first), None) is not None:
                self.count -= 1
                ops.delete(_key(partition, log, first))
        self._unspoil(partition, ops)
        if not owed:
            self._owed.pop(partition, None)
        if len(ops):
            self._broker.write_meta(ops, lambda now: None)
        return before - self.count

    def _settled(self, partition: PartitionId) -> None:
        """Nothing is owed of a partition any more."""
        for known in (self._owed, self._offered, self._offered_to, self._under_offer):
            known.pop(partition, None)

    def tick(self, now: Now) -> None:
        """Do what is due."""
        self._next_tick = now.run + TICK
        for nonce in [n for n, k in self._keeping.items() if k.deadline <= now.run]:
            sentence = "too few nodes confirmed in time that they keep this; it may have been stored"
            self._keeping.pop(nonce).then(now, Failed("unknown", sentence, True, "unknown"))
        for partition in list(self._owed):
            self._offer(now, partition)

    def next_deadline(self) -> float:
        """Return when `tick` is to be called, math.inf for never."""
        return max(self._next_tick, 0.0) if self._owed or self._keeping else math.inf

    # --- handing over --------------------------------------------------------------------------------

    def _offer(self, now: Now, partition: PartitionId) -> None:
        """Hand a page of what is owed to the leader, if one is known."""
        clustering = self._clustering
        owed = self._owed.get(partition)
        if not owed or self._offered.get(partition, -math.inf) > now.run:
            return
        definition = self._broker.registry.definition_of(QueueId(partition[:8]))
        if definition is None:
            if self._bygone.is_over(now, QueueId(partition[:8])):
                self._forget(partition, list(owed))
                self._settled(partition)
                for delayed in (False, True):
                    self._logs.pop((partition, delayed), None)
            return
        self._bygone.is_known(definition.id)
        silent = self._offered_to.pop(partition, None)
        if silent is not None and clustering.leader_of(partition) == silent:
            del clustering.cluster.leaders[partition]  # it did not answer: it leads no more
        self._offered[partition] = now.run + OFFER_AGAIN
        leader = clustering.me if clustering.cluster.leads(partition) else clustering.leader_of(partition)
        if leader is None or not clustering.reachable(leader):
            clustering.find_leader(now, definition, partition)
            return
        self._offered_to[partition] = leader
        self._put_back(partition)
        wanted = self._under_offer[partition] = list(owed)[:OFFER_BATCHES]
        keys = tuple(_key(partition, log, first) for log, first in wanted)

        def read(now: Now, rows: Rows) -> None:
            self._spoil(rows.damaged)
            debts: list[Debt] = []
            size = 0
            for key, record in rows.rows:
                debt = decode_debt(key, record)
                if debts and size + len(debt.record) > OFFER_BYTES:
                    break
                debts.append(debt)
                size += len(debt.record)
            # What comes from now on goes to another log: the leader closes this one once all of it is acked.
            for delayed in (False, True):
                self._logs.pop((partition, delayed), None)
            clustering.send(leader, Offer(partition, debts, self._still_owed(partition)))
            clustering.settle(now)

        self._broker.reads.start(now, _get(keys), read)

    def _still_owed(self, partition: PartitionId) -> list[tuple[LogId, int, bytes]]:
        """Say of every log what is owed: of those that this node itself wrote nothing else is anywhere.

        Of one in which something was damaged here all may be owed, by others who keep it.
        """
        owed: dict[LogId, RangeSet] = {}
        for (log, first), count in self._owed.get(partition, {}).items():
            owed.setdefault(log, RangeSet()).add(first, first + count)
        for log in self._spoiled.get(partition, ()):
            owed[log] = RangeSet([(0, owed[log].end)])
        return [(log, ranges.end, ranges.encode()) for log, ranges in owed.items()]


def _key(partition: PartitionId, log: LogId, first: int) -> bytes:
    return DEBTS + partition + log + first.to_bytes(8, "big")


def _read_key(key: bytes) -> tuple[PartitionId, LogId, int]:
    at = len(DEBTS) + PARTITION_ID_SIZE
    partition, log = PartitionId(key[len(DEBTS) : at]), LogId(key[at : at + LOG_ID_SIZE])
    return partition, log, int.from_bytes(key[-8:], "big")


def encode_debt(debt: Debt) -> bytes:
    """Return a debt as it is kept."""
    return cbor2.dumps([debt.producer, debt.sequence, debt.floor, debt.record])


def decode_debt(key: bytes, record: bytes) -> Debt:
    """Read a debt.  Errors: ProtocolError."""
    try:
        producer, sequence, floor, batch = cbor2.loads(record)
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise ProtocolError(f"a debt cannot be read: {error}") from error
    _, log, first = _read_key(key)
    return Debt(log, first, producer, sequence, floor, Blob(batch))


def _get(keys: tuple[bytes, ...]) -> Procedure[Rows]:
    return (yield Get(keys))


class _Found(NamedTuple):
    debts: list[tuple[PartitionId, LogId, int, int]]
    damaged: list[bytes]


def _load() -> Procedure[_Found]:
    start, found = DEBTS, _Found([], [])
    while True:
        page = yield Scan(start, DEBTS_END, 512)
        found.damaged.extend(page.damaged)
        for key, record in page.rows:
            start = key + b"\x00"
            if record == SPOILED:
                found.damaged.append(key)
                continue
            debt = decode_debt(key, record)
            partition = _read_key(key)[0]
            found.debts.append((partition, debt.log, debt.first, read_batch_head(debt.record)[1]))
        if not page.more:
            return found
