"""Queue definitions on every node: last writer wins, spread at once, compared now and then.

Two things are not the last writer's: the number of partitions, of which the greatest holds, with their homes;
and deletion, which holds until every member has it on disk (see `forgetting`).

    changed here ──CatalogRecords──> everybody;  told done once W' nodes have it on disk
    a link comes up, or 30 s are over ──CatalogDigest──> differs ──CatalogIndex──> CatalogWant, CatalogRecords

A record is a CBOR map with its stamp; a deleted queue's record stays, so that nobody brings it back (T3).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import cbor2

from dmqnode.clock import Now
from dmqnode.errors import ProtocolError
from dmqnode.hybridclock import MAX_AHEAD, HybridClock, Stamp, read_stamp
from dmqnode.ids import QUEUE_ID_SIZE, NodeId, QueueId
from dmqnode.keys import queue_key
from dmqnode.messages import Message
from dmqnode.peer_messages import (
    CatalogDigest,
    CatalogIndex,
    CatalogRecords,
    CatalogStored,
    CatalogWant,
    WhoKnows,
)
from dmqnode.port import Port, Then
from storage.ops import WriteBatch

COMPARE_EVERY = 30.0
"""Seconds between two comparisons with a peer."""
SPREAD_TIMEOUT = 5.0
"""Seconds after which a change that too few nodes confirmed is reported as unknown."""
PAGE = 256
"""Definitions in one message."""
HASH_SIZE = 8
ASKED = 1 << 62
"""Marks the nonces of WhoKnows, which the answer repeats, so that they are not those of anybody's changes."""


class _Known(NamedTuple):
    stamp: Stamp
    record: bytes
    hash: bytes
    name: str
    partitions: int
    deleted: bool


class _Spreading:
    __slots__ = ("deadline", "done", "stored", "wanted")

    def __init__(self, wanted: int, deadline: float, done: Callable[[Now, bool], None]) -> None:
        self.wanted = wanted
        self.deadline = deadline
        self.done = done
        self.stored: dict[NodeId, None] = {}


class Catalog:
    """All queue definitions that this node knows.

    Arguments:
        me: this node.
        port: to the rest of the node.
        peers: returns the other members that answer now.
        least: returns W'.
        changed: called with every record that is new here, once it is known.
        first_question: from where on its questions are numbered, another number in each run.
    """

    def __init__(
        self,
        me: NodeId,
        port: Port,
        *,
        peers: Callable[[], Iterable[NodeId]],
        least: Callable[[], int],
        changed: Callable[[Now, QueueId, bytes], None],
        first_question: int = 0,
    ) -> None:
        self._me = me
        self._port = port
        self._peers = peers
        self._least = least
        self._changed = changed
        self.clock = HybridClock(me)
        self.trusted: Callable[[], bool] = lambda: True
        """Whether this node's wall clock is right, as far as it can tell (T1)."""
        self._known: dict[QueueId, _Known] = {}
        self._named: dict[str, dict[QueueId, None]] = {}
        self.deletions: dict[QueueId, int] = {}
        """The deleted queues, and when that was (ms)."""
        self._digest = 0
        self._nonce = first_question
        self._spreading: dict[int, _Spreading] = {}
        self._asking: dict[int, _Asking] = {}
        self._next_compare = 0.0
        self.refused: dict[NodeId, float] = {}
        """Whose clocks were too far ahead for their records to be taken, and when last (T2)."""

    def __len__(self) -> int:
        return len(self._known)

    # --- what is known -------------------------------------------------------------------------------

    def load(self, queue: QueueId, record: bytes) -> None:
        """Take in a record from this node's disk."""
        self._keep(queue, known := _read(record))
        self.clock.remember(known.stamp)

    def _keep(self, queue: QueueId, known: _Known) -> None:
        self._count_in(queue, self._known.get(queue))
        self._count_in(queue, known)
        self._known[queue] = known
        self._named.setdefault(known.name, {})[queue] = None
        if known.deleted:
            self.deletions.setdefault(queue, known.stamp.wall)

    def _count_in(self, queue: QueueId, known: _Known | None) -> None:
        """Put something into the digest, or take it out again."""
        if known is not None:
            self._digest ^= int.from_bytes(blake2b(queue + known.hash, digest_size=16).digest(), "big")

    def records(self) -> Iterator[tuple[QueueId, bytes]]:
        """Return every record, those of deleted queues included."""
        return ((queue, known.record) for queue, known in self._known.items())

    def row(self, queue: QueueId, record: bytes) -> tuple[bytes, bytes]:
        """Return where a record is kept, and the record."""
        return queue_key(queue), record

    def deleted(self, queue: QueueId) -> bool:
        """Tell whether a queue is known to be deleted."""
        known = self._known.get(queue)
        return known is not None and known.deleted

    # --- deletions -----------------------------------------------------------------------------------

    def forget(self, queues: Iterable[QueueId], kept: Container[QueueId]) -> None:
        """Forget deletions that every member has done.

        Arguments:
            kept: those of which the record is to stay on disk.
        """
        ops = WriteBatch()
        for queue in queues:
            if self.deletions.pop(queue, None) is None:
                continue
            known = self._known.pop(queue)
            self._count_in(queue, known)
            named = self._named[known.name]
            del named[queue]
            if not named:
                del self._named[known.name]
            if queue not in kept:
                ops.delete(queue_key(queue))
        self._port.write(ops, lambda now: None)

    def confirm(self, queues: Iterable[QueueId], then: Then) -> None:
        """Call `then` once all that was ever learnt of some queues is on disk."""
        self._write([(queue, self._known[queue].record) for queue in queues], then)

    def want(self, node: NodeId, queues: list[QueueId]) -> None:
        """Ask another node for records."""
        for at in range(0, len(queues), PAGE):
            self._port.send(node, CatalogWant(list(queues[at : at + PAGE])))

    # --- changing ------------------------------------------------------------------------------------

    def put(self, now: Now, queue: QueueId, record: bytes, done: Callable[[Now, bool], None]) -> None:
        """Write and spread a record made here, its stamp from `clock`.

        Arguments:
            done: called with True once W' nodes have it on disk, with False when too few said so in time.
        """
        self._keep(queue, _read(record))
        self._nonce += 1
        nonce = self._nonce
        spreading = _Spreading(self._least(), now.run + SPREAD_TIMEOUT, done)
        self._spreading[nonce] = spreading
        for peer in self._peers():
            self._port.send(peer, CatalogRecords(nonce, [(queue, record)]))
        self._write([(queue, record)], lambda now: self._stored(now, self._me, nonce))

    def _write(self, records: list[tuple[QueueId, bytes]], then: Then) -> None:
        ops = WriteBatch()
        for queue, record in records:
            ops.put(queue_key(queue), record)
        self._port.write(ops, then)

    def _stored(self, now: Now, node: NodeId, nonce: int) -> None:
        spreading = self._spreading.get(nonce)
        if spreading is None:
            return
        spreading.stored[node] = None
        if self._me in spreading.stored and len(spreading.stored) >= spreading.wanted:
            del self._spreading[nonce]
            spreading.done(now, True)

    def _merge(self, now: Now, sender: NodeId, records: Iterable[tuple[bytes, bytes]], then: Then) -> None:
        """Keep what is newer than what is known; what is older is answered with that, and not confirmed.

        Errors: ProtocolError.
        """
        fresh: list[tuple[QueueId, bytes]] = []
        late: list[QueueId] = []
        refused = False
        for raw, record in records:
            queue, known = QueueId(raw), _read(record)
            if len(queue) != QUEUE_ID_SIZE:
                raise ProtocolError("a definition has an id of the wrong length")
            old = self._known.get(queue)
            if old is not None:
                stamp, known = known.stamp, _join(old, known)
                if known.stamp != stamp:
                    late.append(queue)
                if known.hash == old.hash:
                    continue
            if not self.clock.observe(known.stamp, now.wall):
                self.refused[known.stamp.node] = now.run
                refused = True
                continue
            self._keep(queue, known)
            fresh.append((queue, known.record))
        for queue, record in fresh:
            self._changed(now, queue, record)
        self._give(sender, late)
        self._write(fresh, (lambda now: None) if refused or late else then)

    def _stamp_again(self, now: Now) -> None:
        """This node's clock was ahead, and was set right: nobody takes what it wrote then, as it is (T2)."""
        for queue, known in list(self._known.items()):
            if known.stamp.node == self._me and known.stamp.wall > now.wall + MAX_AHEAD:
                record = cbor2.dumps({**cbor2.loads(known.record), "stamp": self.clock.stamp(now.wall)})
                self._keep(queue, _read(record))
                self._write([(queue, record)], lambda now: None)
                for peer in self._peers():
                    self._port.send(peer, CatalogRecords(0, [(queue, record)]))

    def notices(self, now: Now) -> list[str]:
        """Say what the operator should know."""
        recent = [node.hex() for node, at in self.refused.items() if now.run - at < 2 * COMPARE_EVERY]
        if not recent:
            return []
        return [f"changes of queues are not taken from {', '.join(recent)}: its clock is over 60 s ahead"]

    # --- finding -------------------------------------------------------------------------------------

    def find(self, now: Now, name: str, then: Callable[[Now], None]) -> None:
        """Ask the others whether they know a queue of this name; then call `then`, whatever they said."""
        peers = list(self._peers())
        if not peers:
            then(now)
            return
        self._nonce += 1
        nonce = ASKED | self._nonce
        self._asking[nonce] = _Asking(dict.fromkeys(peers), now.run + 1.0, then)
        for peer in peers:
            self._port.send(peer, WhoKnows(nonce, name))

    def _who_knows(self, sender: NodeId, asked: WhoKnows) -> None:
        found = [(queue, self._known[queue].record) for queue in self._named.get(asked.name, ())]
        self._port.send(sender, CatalogRecords(asked.nonce, list(found)))

    def _found(self, now: Now, sender: NodeId, nonce: int) -> None:
        asking = self._asking.get(nonce)
        if asking is None:
            return
        asking.left.pop(sender, None)
        if not asking.left:
            del self._asking[nonce]
            asking.then(now)

    # --- the crank -----------------------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these.  Errors: ProtocolError."""
        match message:
            case CatalogDigest():
                if message.digest != self.digest:
                    known = [(queue, k.hash) for queue, k in self._known.items()]
                    self._port.send(sender, CatalogIndex(list(known)))
            case CatalogIndex():
                self._compare(sender, message)
            case CatalogWant():
                self._give(sender, [QueueId(i) for i in message.ids])
            case CatalogRecords():
                nonce = message.nonce
                asked = bool(nonce & ASKED)
                self._merge(
                    now,
                    sender,
                    message.records,
                    lambda now: None if asked or not nonce else self._port.send(sender, CatalogStored(nonce)),
                )
                self._found(now, sender, nonce)
            case CatalogStored():
                self._stored(now, sender, message.nonce)
            case WhoKnows():
                self._who_knows(sender, message)
            case _:
                return False
        return True

    @property
    def digest(self) -> bytes:
        """A hash over everything that is known."""
        return self._digest.to_bytes(16, "big")

    def _compare(self, sender: NodeId, index: CatalogIndex) -> None:
        theirs = {QueueId(queue): hash_ for queue, hash_ in index.known}
        wanted = [q for q, h in theirs.items() if q not in self._known or self._known[q].hash != h]
        self.want(sender, wanted)
        self._give(sender, [q for q, k in self._known.items() if theirs.get(q) != k.hash])

    def _give(self, sender: NodeId, queues: list[QueueId]) -> None:
        records = [(q, self._known[q].record) for q in queues if q in self._known]
        for at in range(0, len(records), PAGE):
            self._port.send(sender, CatalogRecords(0, list(records[at : at + PAGE])))

    def met(self, node: NodeId) -> None:
        """A connection to a node has come up: compare."""
        self._port.send(node, CatalogDigest(self.digest))

    def tick(self, now: Now) -> None:
        """Do what is due."""
        if self.trusted() and self.clock.set_back(now.wall):
            self._stamp_again(now)
        for nonce in [n for n, s in self._spreading.items() if s.deadline <= now.run]:
            self._spreading.pop(nonce).done(now, False)
        for nonce in [n for n, a in self._asking.items() if a.deadline <= now.run]:
            self._asking.pop(nonce).then(now)
        if now.run >= self._next_compare:
            self._next_compare = now.run + COMPARE_EVERY
            for peer in self._peers():
                self.met(peer)

    def next_deadline(self) -> float:
        """Return when `tick` is to be called."""
        due = [s.deadline for s in self._spreading.values()] + [a.deadline for a in self._asking.values()]
        return min([self._next_compare, *due])


class _Asking:
    __slots__ = ("deadline", "left", "then")

    def __init__(self, left: dict[NodeId, None], deadline: float, then: Callable[[Now], None]) -> None:
        self.left = left
        self.deadline = deadline
        self.then = then


def _read(record: bytes) -> _Known:
    """Read a record's stamp and what else joining needs.  Errors: ProtocolError."""
    try:
        found = cbor2.loads(record)
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError) as error:
        raise ProtocolError(f"a definition is not CBOR: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise ProtocolError("a definition is not a map with a name")
    stamp = read_stamp(found.get("stamp", (0, 0, bytes(8))))
    settings = found.get("settings")
    partitions = settings.get("partitions", 1) if isinstance(settings, dict) else 0
    hash_ = blake2b(record, digest_size=HASH_SIZE).digest()
    return _Known(stamp, record, hash_, found["name"], partitions, "deleted_at" in found)


def _join(one: _Known, other: _Known) -> _Known:
    """Return what two records of one queue say together; the order does not matter, nor repetition.

    Deletion holds (T3); else the later one does, with as many partitions as either has.
    """
    if one.deleted != other.deleted:
        return one if one.deleted else other
    later = max(one, other, key=lambda known: (known.stamp, known.partitions, known.record))
    wider = max(one, other, key=lambda known: known.partitions)
    if later.deleted or later.partitions >= wider.partitions:
        return later
    found, grown = cbor2.loads(later.record), cbor2.loads(wider.record)
    found["settings"]["partitions"] = wider.partitions
    found["homes"] = grown["homes"]
    found["first"] = grown.get("first", 0)
    return _read(cbor2.dumps(found))
