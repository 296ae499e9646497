"""The accountant that knows everything: what was sent, stored, delivered, acked; and which promise is broken.

The first word of what it raises says which promise (P1 … P10), the second what is wrong.  A message is known
by its body, a delivery where its leader decides it, so that what was lost on the way counts, too.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from dmqnode.batch import parse
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.messages import Delivered, Part, Stored
from storage.ops import WriteBatch
from tests.simulation.again import Notes
from tests.simulation.damage import Damage
from tests.simulation.disks import Disks
from tests.simulation.fates import Fates
from tests.simulation.leaving import watch_leaving, watch_returning
from tests.simulation.order import Order
from tests.simulation.plan import QueuePlan
from tests.simulation.sent import AROUND, MARGIN, NOTES_LOST, Broken, Hold, Sent
from tests.simulation.summary import sum_up

if TYPE_CHECKING:
    from dmqnode.partition import Collected
    from tests.simulation.host import Host
    from tests.simulation.world import World


class Ledger:
    """Knows everything."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.messages: list[Sent] = []
        self._by_id: dict[tuple[LogId, int], Sent] = {}
        self._disturbances: list[tuple[float, float, str, NodeId]] = []
        self._stops: list[float] = []
        self.counts: Counter[str] = Counter()
        self.fates = Fates(world, self)
        self.damage = Damage(world)
        self.disks = Disks(world)
        self.notes = Notes(world)
        self.order = Order(self)

    # --- disturbances --------------------------------------------------------------------------------

    def disturbed(self, kind: str, node: NodeId, seconds: float = 0.0) -> None:
        """Something goes wrong at a node, for some time."""
        self.counts["faults"] += 1
        self.counts[f"fault {kind}"] += 1
        self._disturbances.append((self._world.now, self._world.now + seconds, kind, node))

    def stopped(self) -> None:
        """A node begins to stop gracefully: that disturbs nothing, but requests may have to be repeated."""
        self.counts["fault stop"] += 1
        self._stops.append(self._world.now)

    def uneasy(self, since: float, until: float) -> bool:
        """Tell whether something was wrong at some time within these."""
        return any(begin <= until and end >= since for begin, end, _, _ in self._disturbances)

    def _excused(self, hold: Hold) -> bool:
        """Whether a delivery may have been unknown to later leaders."""
        for begin, end, kind, _ in self._disturbances:
            if kind in ("clock", "leap") or (kind in NOTES_LOST and end >= hold.last - AROUND):
                return True  # clocks differ from then on; unsynced notes may be lost, however old they are
            if begin - AROUND <= hold.last <= end + AROUND:
                return True
        return False

    # --- sending -------------------------------------------------------------------------------------

    def new(self, queue: QueuePlan, producer: str, group: str | None, delay: float | None) -> Sent:
        """Make up a message."""
        number = len(self.messages)
        body = b"%06d " % number + self._world.rng.randbytes(self._world.rng.choice((0, 10, 60)))
        sent = Sent(number, body, queue, producer, group)
        sent.delay = delay or 0.0
        self.messages.append(sent)
        self.order.new(sent)
        return sent

    def attempted(self, sent: list[Sent]) -> None:
        """A send is tried, perhaps again."""
        for message in sent:
            message.at = message.at if message.tries else self._world.now
            message.tries += 1
        self.counts["tries"] += 1

    def stored(self, sent: list[Sent], runs: list[tuple[LogId, int, int]]) -> None:
        """A send was answered "stored"."""
        ids = [(LogId(log), first + n) for log, first, count in runs for n in range(count)]
        if len(ids) != len(sent):
            self._break("P10", "ids", f"{len(sent)} messages got {len(ids)} ids", sent[0])
        for message, id_ in zip(sent, ids):
            message.outcome = "stored"
            message.stored_at = self._world.now
            self._name(message, id_)
        self.counts["stored"] += len(sent)
        self.damage.look([m.number for m in sent])

    def unknown(self, sent: list[Sent]) -> None:
        """Nobody knows what became of a send."""
        for message in sent:
            message.outcome = "unknown"
        self.counts["unknown"] += len(sent)

    def not_stored(self, sent: list[Sent]) -> None:
        """A send was certainly not done."""
        for message in sent:
            message.outcome = "not stored"
            if message.deliveries:
                self._break("P10", "unexpected", "delivered, and not stored", message)
        self.counts["not stored"] += len(sent)

    def _name(self, message: Sent, id_: tuple[LogId, int], *, delivered: bool = False) -> None:
        other = self._by_id.setdefault(id_, message)
        if other is not message:
            self._break("P3", "wrong", f"{id_[0].hex()}-{id_[1]} names also {other.number}", message)
        message.ids[id_] = None
        if not delivered or message.moved_at or self.fates.made_again(message) or self.fates.doubled(message):
            return  # of two copies of a send that was repeated the other may survive
        if message.id not in (None, id_):
            names = [f"{log.hex()}-{seq}" for log, seq in (message.id, id_)]
            self._break("P10", "duplicated", f"delivered under two ids: {names}", message)
        message.id = id_

    # --- what leaders do -----------------------------------------------------------------------------

    def watch(self, host: Host) -> None:
        """See what the broker of a new life decides."""
        broker, debts = cast(Any, host.broker), cast(Any, host.clustering.debts)
        deliveries, make_known, keep = broker.deliveries, broker.make_known, debts.keep
        answer = deliveries._answer

        def _answer(now: Any, waiter: Any, delivered: Delivered) -> None:
            if delivered.parts and waiter.session:  # what is taken to be redriven goes to nobody
                self._delivered(host, delivered, waiter.visibility)
            answer(now, waiter, delivered)

        def made_known(now: Any, collected: Collected) -> None:
            for reply in collected.then:
                if isinstance(reply.message, Stored):
                    self._undurable("P1", self.disks.answered(host, collected, reply.message))
            make_known(now, collected)

        def kept(now: Any, partition: PartitionId, request: Any, then: Any) -> bool:
            def told(now: Any, answer: Any) -> None:
                if isinstance(answer, Stored):
                    self._undurable("P1", self.disks.kept(host, partition, answer, request.batch))
                then(now, answer)

            return bool(keep(now, partition, request, told))

        deliveries._answer, broker.make_known, debts.keep = _answer, made_known, kept
        watch_returning(host, self._by_id)
        watch_leaving(host, lambda wrong: self._break("P6", "unfenced", wrong, None))

    def _undurable(self, promise: str, wrong: tuple[str, int] | None) -> None:
        if wrong is not None:
            self._break(promise, "undurable", wrong[0], self.messages[wrong[1]] if wrong[1] >= 0 else None)

    def _of(self, part: Part) -> list[Sent]:
        found = (self._by_id.get((part.log, part.first + n)) for n in range(part.count))
        return [m for m in found if m is not None]

    def _delivered(self, host: Host, delivered: Delivered, visibility: float) -> None:
        now = self._world.now
        host.clustering.advance(host.now())  # whatever the node itself has looked at
        for part in delivered.parts:
            batch = parse(part.batch)
            if not host.clustering.cluster.leads(part.partition):
                first = self._message(batch, 0)
                self._break("P6", "unfenced", f"{host.name} delivers without a lease", first)
            for other in self._world.hosts.values():
                if other is not host and other.runs and other.clustering.cluster.leads(part.partition):
                    other.clustering.let_time_pass(other.now())  # it may have slept since it looked
                    if other.clustering.cluster.leads(part.partition):
                        first = self._message(batch, 0)
                        self._break("P6", "two", f"{host.name} and {other.name} lead", first)
            for n in range(part.count):
                message = self._message(batch, n)
                message.deliveries += 1
                self.counts["delivered"] += 1
                id_ = (part.log, part.first + n)
                if wrong := self.fates.moved(message, id_, batch, n):
                    self._break("N3", "moved", wrong, message)
                self._name(message, id_, delivered=True)
                self._check_delivery(part.partition, message, delivered.queue, batch, n)
                self._check_hold(host, part, message)
                if wrong := self.order.wrong(host, part, part.first + n, message):
                    self._break("P9", "order", wrong, message)
                if message.first_at < 0:
                    message.first_at = now
                message.hold = self.notes.hold(host, part, now + visibility)

    def _message(self, batch: Any, n: int) -> Sent:
        body = batch.body(n)
        number = int(body[:6]) if body[:6].isdigit() else -1
        if not 0 <= number < len(self.messages) or self.messages[number].body != body:
            self._break("P3", "invented", f"nobody sent {body!r}", None)
        return self.messages[number]

    def _check_delivery(self, partition: PartitionId, message: Sent, queue: str, batch: Any, n: int) -> None:
        now, deleted = self._world.now, self.disks.deleted(partition)
        if message.queue.name != queue and (wrong := self.fates.arrives(message, queue, batch, n)):
            self._break("P3", "astray", wrong, message)
        found = {k: v for k, v in batch.attributes(n).items() if not k.startswith("dmq.")}
        if found != message.attributes or batch.value("g", n) != message.group:
            self._break("P3", "wrong", f"attributes {batch.attributes(n)}", message)
        if message.outcome == "not stored":
            self._break("P10", "unexpected", "delivered, and not stored", message)
        if message.acked_at >= 0 and not self.fates.doubled(message):
            self._break("P5", "resurrected", f"of {queue}, acked at {message.acked_at:.4f}", message)
        if over := self.fates.wrong(message, deleted=deleted):
            self._break(*over, message)
        if message.queue.name == queue and (wrong := self.fates.wrong_queue(message)):
            self._break("P2", "paused", wrong, message)
        apart = MARGIN + (self.notes.apart(message.at) if self.fates.clocks else 0.0)
        if now < message.at + message.delay - apart:
            self._break("P3", "early", f"due at {message.at + message.delay:.3f}", message)
        if message.queue.name == queue and now < message.nack_until - apart:
            self._break("P4", "early", f"nacked until {message.nack_until:.3f}", message)

    def forgotten(self, host: Host, partition: PartitionId, hold: Hold) -> bool:
        """Tell whether who leads now may not know of a delivery."""
        known = self.notes.same_lease(host, partition, hold) or self.notes.known(hold)
        return not known and self._excused(hold)

    def _check_hold(self, host: Host, part: Part, message: Sent) -> None:
        hold = message.hold
        if hold is None or self.fates.doubled(message):
            return
        if self.notes.over(host, part.partition, hold):
            return
        self.counts["duplicated"] += 1
        if not self.forgotten(host, part.partition, hold):
            who = self._world.hosts[hold.leader].name
            text = f"{host.name} delivers again; {who} did at {hold.at:.4f}, until {hold.until:.4f}"
            self._break("P4", "duplicated", text, message)

    def wrote(self, host: Host, batch: WriteBatch, dropping: dict[PartitionId, list[int]]) -> None:
        """A node has written; of what it kept for others it has dropped some."""
        self.notes.wrote(host, batch)
        self.order.wrote(batch)
        for partition, numbers in dropping.items():
            self._undurable("C1", self.disks.dropped(host, partition, numbers))

    def look(self) -> None:
        """Look now and then whether something has expired too early."""
        early = self.fates.expired_early()
        if early is not None:
            self._break("P2", "expired", f"early, it lives until {early.at + early.ttl:.3f}", early)
        if not self._world.calm:
            self._world.after(0.25, self.look)

    # --- what clients do -----------------------------------------------------------------------------

    def received(self, delivered: Delivered) -> None:
        """A client gets messages."""
        self.counts["received"] += sum(p.count for p in delivered.parts)

    def acking(self, parts: list[Part]) -> None:
        """A client acks."""
        for message in (m for p in parts for m in self._of(p)):
            message.acking_at = self._world.now

    def acked(self, parts: list[Part]) -> None:
        """An ack was answered; if it had to be repeated, the message may as well have moved meanwhile."""
        for message in (m for p in parts for m in self._of(p)):
            self.counts["acked"] += 1
            if self._repeated(message.acking_at) and "dead_letter" in message.queue.settings:
                continue
            message.acked_at = self._world.now

    def _repeated(self, asked: float) -> bool:
        """Tell whether a node may have had to repeat what it was asked."""
        since = asked - AROUND
        return self.uneasy(since, self._world.now) or any(at >= since for at in self._stops)

    def nacking(self, parts: list[Part], delay: float) -> None:
        """A client gives messages back."""
        for part in parts:
            for message in self._of(part):
                if message.hold is not None and message.hold.delivery == part.delivery:
                    message.given_back, message.hold = message.hold, None
                    message.nack_until = -2.0 - (self._world.now + delay)

    def burying(self, parts: list[Part]) -> None:
        """A client wants messages moved to the dead-letter queue."""
        self.nacking(parts, 0.0)
        for message in (m for p in parts for m in self._of(p)):
            message.buried = True

    def nacked(self, parts: list[Part], asked: float) -> None:
        """That was answered: it holds.  If it had to be repeated, the visibility may as well have ended."""
        repeated = self._repeated(asked)
        for message in (m for p in parts for m in self._of(p)):
            if message.nack_until < -1.0:
                hold = message.given_back
                ended = hold is None or self._world.now >= hold.until - MARGIN / 2 or self._excused(hold)
                message.nack_until = -1.0 if repeated and ended else -2.0 - message.nack_until

    def extending(self, parts: list[Part], seconds: float) -> None:
        """A client wants more time: from now on the old time may not hold."""
        for part in parts:
            for message in self._of(part):
                if message.hold is not None and message.hold.delivery == part.delivery:
                    message.hold.until = min(message.hold.until, self._world.now + seconds)

    def extended(self, parts: list[Part], until: float) -> None:
        """That was answered."""
        for part in parts:
            for message in self._of(part):
                if message.hold is not None and message.hold.delivery == part.delivery:
                    message.hold.until = until
                    message.hold.last = self._world.now

    # --- the end -------------------------------------------------------------------------------------

    def _left(self) -> list[Sent]:
        left = [m for m in self.messages if m.outcome == "stored" and m.acked_at < 0 and not self._gone(m)]
        return [m for m in left if self.fates.awaits(m) and not self.damage.excuses(m.number)]

    def _gone(self, message: Sent) -> bool:
        """Whether an ack whose answer was lost has settled a message."""
        if message.acking_at < 0:
            return False
        return message.hold is None or self._world.now > max(message.hold.until, message.acking_at) + 5.0

    def settled(self) -> bool:
        """Whether everything that was stored has come out; while nobody leads a partition, who knows."""
        return not self._left() and not self._unled() and not any(self._queue_counts())

    def _unled(self) -> set[PartitionId]:
        clusterings = [host.clustering for host in self._world.hosts.values() if host.up]
        hosted = {id_ for c in clusterings for id_ in c.hosted.shards}
        return {id_ for id_ in hosted if not any(c.cluster.leads(id_) for c in clusterings)}

    def _queue_counts(self) -> list[int]:
        return [
            sum(p.counts())
            for host in self._world.hosts.values()
            if host.up
            for id_, shard in host.clustering.hosted.shards.items()
            if host.clustering.cluster.leads(id_)
            for p in shard.partitions
        ]

    def final(self, unlike: list[str]) -> None:
        """Check what must hold in the end.  Errors: Broken."""
        left = self._left()
        if left:
            kind = "stuck" if any(self._queue_counts()) else "lost"
            text = f"{len(left)} messages never came out: {[m.number for m in left[:8]]}"
            self._break("P2", kind, text, left[0])
        if any(self._queue_counts()) and not self.fates.clocks:
            self._break("P7", "counters", f"not zero: {self._queue_counts()}", None)
        if unlike:
            self._break("P7", "unlike", "; ".join(unlike[:3]), None)
        over = sum(self.counts[kind] for kind in ("acked", "delete done", "purge done"))
        # What a deletion or purge of unknown outcome took away is over, too.
        if self.counts["stored"] < 3 or (over < 3 and not self.counts["delete"] + self.counts["purge"]):
            self._break("P0", "idle", f"nothing happened: {dict(self.counts)}", None)

    def unbounded(self, text: str) -> None:
        """A node holds more in memory than it may.  Errors: Broken."""
        self._break("P8", "unbounded", text, None)

    def summary(self) -> Counter[str]:
        """Sum the run up."""
        return sum_up(self.counts, self.messages)

    def _break(self, promise: str, word: str, text: str, message: Sent | None) -> None:
        world = self._world
        self.counts[word] += word != "duplicated"
        lines = [f"{promise} {word}: {text}"]
        if message is not None:
            lines.append(
                f"message {message.number} of {message.queue.name}, group {message.group}, "
                f"{message.outcome or 'under way'}, tried {message.tries} times from {message.at:.4f} on, "
                f"acking {message.acking_at:.4f}, delivered {message.deliveries} times, "
                f"ids {[(log.hex(), seq) for log, seq in message.ids]}, moved at {message.moved_at:.4f}"
            )
        lines.append(f"seed {world.seed} at {world.now:.4f}: {world.plan}")
        lines.append("summary " + ", ".join(f"{word} {n}" for word, n in self.summary().items()))
        lines.append(f"counts {dict(self.counts)}")
        stories = (
            [world.story()] if message is None else [world.story_of(message), "...", world.story(last=20)]
        )
        raise Broken("\n".join([*lines, *stories]))
