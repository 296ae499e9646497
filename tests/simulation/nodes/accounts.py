"""What was sent, stored, delivered and acked among whole nodes, and which promise is broken (P1 to P10).

Deliveries are seen where their leader decides them.  A message is known by its body.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import trio

from dmqnode.batch import parse
from dmqnode.ids import message_id
from dmqnode.messages import Delivered, Nack
from dmqnode.node import Node
from tests.simulation.concerning import Numbers
from tests.simulation.likeness import peek
from tests.simulation.nodes.fates import Fates
from tests.simulation.nodes.flights import Flights

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.memory import MemoryStore
    from tests.simulation.nodes.box import Box
    from tests.simulation.nodes.world import World

REPEATED = 12.0
"""Seconds for which a client repeats a send."""
MARGIN = 0.2
"""Seconds by which clocks differ."""
WAITED_FOR = 60.0
"""Seconds by which what is due may be late at most; what is a day late does not come out in a run."""
ATTEMPTS = 3
"""Deliveries after which a message moves to the dead-letter queue, where there is one."""
LOSSES = ("astray", "long_split", "replace", "destroy", "damage")
"""Faults that take more copies away than those of the node that was forgotten."""


class Broken(Exception):
    """A promise was broken."""


class Sent:
    """One message."""

    def __init__(self, number: int, body: bytes, queue: str, delay: float, at: float) -> None:
        self.number, self.body, self.queue, self.at = number, body, queue, at
        self.due = at + delay
        self.outcome = ""
        """Empty while it is under way, then stored, unknown or not stored."""
        self.deliveries: list[float] = []
        self.ids: set[tuple[bytes, int]] = set()
        """Under which it was delivered: more than one if a repeated send was not recognised (P10)."""
        self.acked_ids: set[str] = set()
        self.held_until = 0.0
        self.acking_at = self.acked_at = -1.0
        self.destroyed = False
        """Whether its last copy is."""
        self.partition: Any = None
        """Of which it was delivered."""
        self.unheard = False
        """Whether nobody who is left has heard of its ack."""
        self.stored_at = self.moved_at = -1.0
        """When it was answered, and when it was first delivered of a dead-letter queue."""
        self.ttl = 0.0
        self.named = self.buried = False
        """Whether it was sent twice under one name; whether somebody asked to move it to another queue."""
        self.group: list[Sent] = []
        """What was sent to the same group of a queue that is not fifo."""
        self.producer = -1
        self.line: list[Sent] = []
        """What its producer sent to the same group of a fifo queue."""
        self.through: object = None
        """By which client, then."""

    def __str__(self) -> str:
        times = ", ".join(f"{time:.3f}" for time in self.deliveries)
        return (
            f"message {self.number} of {self.queue}, {self.outcome or 'under way'}, sent at {self.at:.3f}, "
            f"due {self.due:.3f}, delivered at [{times}], acking {self.acking_at:.3f}, "
            f"acked {self.acked_at:.3f}"
        )


class Accounts:
    """Knows everything."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.messages: list[Sent] = []
        self.extra: set[bytes] = set()
        """Bodies sent to see whether it works."""
        self.counts: Counter[str] = Counter()
        self.fates = Fates(self, LOSSES)
        self.flights = Flights()
        self._by_id: dict[tuple[bytes, int], Sent] = {}
        self._ahead: list[tuple[float, float, float]] = []
        """From when to when a clock that may lead was how many seconds ahead."""
        self._off = 0.0
        """Seconds by which clocks of those who may lead were wrong so far, all together."""

    def disturbed(self, kind: str, seconds: float = 0.0) -> None:
        """Something goes wrong, for some time."""
        self.counts["faults"] += 1
        self.counts[f"fault {kind}"] += 1
        self.flights.disturbed(kind, trio.current_time(), seconds)

    def believed_ahead(self, seconds: float, ahead: float) -> None:
        """A wrong clock goes on to lead: what is delayed is due by it, also once it is right again."""
        now = trio.current_time()
        self._ahead.append((now, now + seconds, ahead))

    def believed(self, seconds: float) -> None:
        """A wrong clock leads: what it takes in, and what it gives out, may come so much too early (T1)."""
        self._off += seconds

    def late(self, message: Sent) -> float:
        """Return by how many seconds a message may be due too late."""
        if message.due == message.at:
            return 0.0
        found = (by for begin, end, by in self._ahead if begin - REPEATED <= message.at <= end)
        return max([0.0, *found])

    @property
    def patience(self) -> float:
        """Seconds for which to wait longer: something that is still to come may be due so late."""
        late = [self.late(m) for m in self.messages if m.acked_at < 0]
        return max((by for by in late if by <= WAITED_FOR), default=0.0)

    def never_due(self, queue: str) -> bool:
        """Tell whether something in a queue may be due only when the run is long over."""
        return any(m.queue == queue and self.late(m) > WAITED_FOR for m in self.messages)

    # --- sending -------------------------------------------------------------------------------------

    def new(self, queue: str, delay: float) -> Sent:
        """Make up a message."""
        number = len(self.messages)
        body = b"%06d " % number + self._world.rng.randbytes(self._world.rng.choice((0, 10, 200)))
        sent = Sent(number, body, queue, delay, trio.current_time())
        self.messages.append(sent)
        return sent

    def outcome(self, sent: list[Sent], outcome: str) -> None:
        """What became of a send."""
        self._world.note("client", f"sent: {outcome}", Numbers(m.number for m in sent))
        for message in sent:
            message.outcome = outcome
            message.stored_at = trio.current_time() if outcome == "stored" else -1.0
            self.counts[outcome] += 1
            if outcome == "not stored" and message.deliveries:
                self._break("P10", "unexpected", "delivered, and not stored", message)

    def undurable(self, wrong: str, number: int) -> None:
        """A message was said to be stored, and is on too few disks.  Errors: Broken."""
        self._break("P1", "undurable", wrong, self.messages[number])

    # --- what leaders do -----------------------------------------------------------------------------

    def watch(self, box: Box, node: Node) -> None:
        """See what the broker of a new life decides."""
        deliveries: Any = node.broker.deliveries
        answer, take_back, settle = deliveries._answer, deliveries.take_back, deliveries.settle

        def _answer(now: Any, waiter: Any, delivered: Delivered) -> None:
            if delivered.parts:
                self._delivered(box, node, delivered, waiter.visibility)
            answer(now, waiter, delivered)

        def taken_back(now: Any, delivered: Delivered) -> None:
            for part in delivered.parts:
                for message in self._of(part):
                    self.given_back(message)
            take_back(now, delivered)

        def settled(now: Any, session: Any, number: int, request: Any) -> None:
            if isinstance(request, Nack):  # of a client, or of a front end whose client has gone meanwhile
                for _, _, log, first, count in request.held:
                    for seq in range(first, first + count):
                        if (log, seq) in self._by_id:
                            self.given_back(self._by_id[log, seq])
            settle(now, session, number, request)

        deliveries._answer, deliveries.take_back, deliveries.settle = _answer, taken_back, settled

    def _of(self, part: Any) -> list[Sent]:
        found = []
        batch = parse(part.batch)
        for n in range(part.count):
            body = batch.body(n)
            if body.startswith(b"last of"):
                continue
            number = int(body[:6]) if body[:6].isdigit() else -1
            if not 0 <= number < len(self.messages) or self.messages[number].body != body:
                self._break("P3", "invented", f"nobody sent {body!r}", None)
            found.append(self.messages[number])
        return found

    def _delivered(self, box: Box, node: Node, delivered: Delivered, visibility: float) -> None:
        now = trio.current_time()
        clustering = node.broker.clustering
        for part in delivered.parts:
            of = self._of(part)
            first = next(iter(of), None)
            if clustering is not None and not clustering.cluster.leads(part.partition):
                self._break("P6", "unfenced", f"{box.name} delivers without a lease", first)
            for other in self._world.boxes:
                if other is not box and other.runs and _leads(other, part.partition):
                    self._break("P6", "two", f"{box.name} and {other.name} lead", first)
            numbers = Numbers(m.number for m in of)
            self._world.note("delivers", box.name, delivered.queue, part.log.hex(), part.first, numbers)
            for n, message in enumerate(of):
                id_ = part.log, part.first + n
                doubled = bool(message.ids) and id_ not in message.ids and self.counts["leaps"] > 0
                self.counts["doubled"] += doubled
                message.ids.add(id_)
                self._by_id[id_] = message
                self.counts["delivered"] += 1
                buried = message.buried or len(message.deliveries) >= ATTEMPTS
                buried = buried and (message.queue, delivered.queue) == ("spent", "dead")
                if message.queue != delivered.queue and not buried:
                    self._break("P3", "astray", f"delivered of {delivered.queue}", message)
                if wrong := self.fates.wrong(box, message, delivered.queue):
                    self._break(*wrong, message)
                if message.outcome == "not stored":
                    self._break("P10", "unexpected", "delivered, and not stored", message)
                # What was stored twice over a day's step of a clock comes twice, and each again until acked.
                over = (
                    message_id(*id_) in message.acked_ids if self.counts["leaps"] else message.acked_at >= 0
                )
                message.partition = part.partition
                if over and not (message.unheard or self._forgiven(message.acked_at)):
                    self._break("P5", "resurrected", f"{box.name} delivers it again", message)
                if now < message.due - MARGIN - self._off:
                    self._break("P3", "early", "delivered before its time", message)
                if now < message.held_until - MARGIN:
                    self.counts["duplicated"] += 1
                    if not self.flights.repeats(message.number, now):
                        self._break("P4", "duplicated", f"held until {message.held_until:.3f}", message)
                message.deliveries.append(now)
                message.held_until = now + visibility
                self.flights.begins(message.number, now, visibility)

    # --- what clients do -----------------------------------------------------------------------------

    def find(self, body: bytes) -> Sent:
        """Return the message that a client has got."""
        number = int(body[:6]) if body[:6].isdigit() else -1
        if not 0 <= number < len(self.messages) or self.messages[number].body != body:
            self._break("P3", "wrong", f"a client got {body!r}", None)
        return self.messages[number]

    def received(self, body: bytes, queue: str) -> Sent:
        """A client gets a message."""
        message = self.find(body)
        self.counts["received"] += 1
        if message.outcome == "unknown":
            self.counts["recovered"] += 1
        return message

    def given_back(self, message: Sent) -> None:
        """Nobody holds a message any more, though it is not acked."""
        message.held_until = 0.0
        self.flights.ends(message.number, trio.current_time())

    def extending(self, message: Sent, seconds: float) -> int:
        """Its consumer asks to keep a message for so long from now, which may be less than before."""
        message.held_until = min(message.held_until, trio.current_time() + seconds)
        return len(message.deliveries)

    def extended(self, message: Sent, until: float, deliveries: int) -> None:
        """That was answered; there had been so many deliveries when it was asked."""
        if message.held_until > 0.0 and message.acked_at < 0 and len(message.deliveries) == deliveries:
            self.counts["extended"] += 1
            message.held_until = until
            self.flights.extends(message.number, until)

    def acked(self, message: Sent, id_: str) -> None:
        """An ack was answered."""
        self._world.note("client", "acked", Numbers([message.number]))
        message.acked_ids.add(id_)
        message.acked_at = trio.current_time()
        self.counts["acked"] += 1
        self.flights.ends(message.number, message.acked_at)

    def unheard(self, since: float, homes: Callable[[Any], bool]) -> None:
        """Homes burned: acks since then may be gone where none of the others that are left is a home (P5)."""
        for message in self.messages:
            if message.acked_at >= since and not homes(message.partition):
                message.unheard = True

    def forgets(self, box: Box, old: MemoryStore) -> None:
        """A node begins anew without what was in its old store; of some messages that was the last copy.

        Of what was answered that is so only where several were forgotten, or others lost, at once (C1), or
        where there is one copy of everything.
        """
        stores = [peek(b.store) for b in self._world.boxes]
        others = b"".join(value for store in stores for value in store._records.values())
        own = b"".join(peek(old)._records.values())
        for message in self.messages:
            if message.acked_at < 0 and message.body in own and message.body not in others:
                answered = message.outcome == "stored" and message.acking_at < 0
                answered = answered and not self.fates.may_be_over(message)
                several = self._world.plan.write_quorum > 1
                if answered and several and not any(self.counts[f"fault {kind}"] for kind in LOSSES):
                    self._break("C1", "discarded", f"{box.name} had the last copy", message)
                message.destroyed = True
                self.counts["destroyed"] += 1

    def _forgiven(self, time: float) -> bool:
        return any(begin <= time <= end for begin, end in self._world.forgiven)

    # --- the end -------------------------------------------------------------------------------------

    def left(self) -> list[Sent]:
        """Return what was stored and has not come out."""
        now = trio.current_time()
        return [
            m
            for m in self.messages
            if m.outcome == "stored"
            and m.acked_at < 0
            and not m.destroyed
            and not self.fates.may_be_over(m)
            and self.late(m) <= WAITED_FOR
            # An ack whose answer was lost may have settled it.
            and not (m.acking_at >= 0 and now > max(m.held_until, m.acking_at) + 5.0)
        ]

    def coming(self) -> bool:
        """Tell whether something is still to come out, or being sent."""
        return bool(self.left()) or any(not m.outcome for m in self.messages)

    def final(self) -> None:
        """Check what must hold in the end.  Errors: Broken."""
        left = self.left()
        if left:
            self._break("P2", "lost", f"{len(left)} never came out: {[m.number for m in left[:8]]}", left[0])
        repeated, in_flight = self.counts["duplicated"], self.flights.at_faults
        self.counts["in flight at faults"] += in_flight
        if repeated > in_flight:
            self._break("P4", "repeated", f"{repeated} times, and {in_flight} were in flight at faults", None)

    def _break(self, promise: str, word: str, text: str, message: Sent | None) -> None:
        world = self._world
        about = [] if message is None else [str(message)]
        parts = [] if message is None else [world.story_of(message), "..."]
        lines = [
            f"{promise} {word}: {text}",
            *about,
            f"seed {world.seed} at {trio.current_time():.4f}: {world.plan}",
        ]
        raise Broken(
            "\n".join([*lines, f"counts {dict(self.counts)}", world.story(0), "...", *parts, world.story(40)])
        )

    def broken(self, promise: str, word: str, text: str) -> None:
        """Say that a promise is broken.  Errors: Broken."""
        self._break(promise, word, text, None)


def _leads(box: Box, partition: Any) -> bool:
    clustering = box.node.broker.clustering
    return clustering is not None and clustering.cluster.leads(partition)
