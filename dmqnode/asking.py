"""What a client asks, over as many connections as it takes; without any input or output.

    ask, send_batch, send, ack  take a request in; its outcome comes out of `take_outcomes`
    withdraw, end               nobody waits for it any more, or for anything
    wants_connection, dial_at   the shell dials `dialling.address`, and reports `dial_failed` or `connected`
    routes.open_routes          more addresses to dial, once each, to leaders: see `routes`
    data_to_send, receive_data  between the shell's socket and the connection of a route
    route.ended, disconnected   the connection is of no more use; the shell closes it and says so
    tick, next_deadline         as everywhere

A request that is refused for the moment (RETRIED) or whose connection is lost is made again, as far as
`calls` says that it is safe, until its deadline.  Then its outcome is `Unknown` if it may have been done,
else the last refusal, or `Unavailable`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from dmqnode import outcomes
from dmqnode.batch import Batch
from dmqnode.calls import ANSWER_TO, NOT_REPEATED, AckGroup, Call, Group, LaneKey, Outcome, SendGroup
from dmqnode.checks import check_request, check_send
from dmqnode.deadlines import Deadlines
from dmqnode.errors import DMQError, ProtocolError, Unknown, UsageError, refusal
from dmqnode.lanes import Lanes
from dmqnode.messages import Cancelled, Delivered, Failed, Held, Message, Nack, Receive, Stored
from dmqnode.outgoing import Columns
from dmqnode.route import Route
from dmqnode.routes import Routes
from dmqnode.sequences import Sequences
from dmqnode.turns import Turns

FIRST_PATIENCE = 1.0
"""Seconds that a call waits for a first node to answer, so that a wrong address is told soon."""
MAX_BYTES = 32 << 20
"""Bytes of sends without an answer beyond which the shell should take no more."""
MAX_CALLS = 10_000
"""Calls without an answer beyond which the shell should take no more."""
ACKS_AT_ONCE = 1000


class Asking:
    """Everything that one client decides.

    Arguments:
        routes: to the nodes.
        producer: 16 random bytes that name this client's sends.
        timeout: seconds that a call may take, unless it says otherwise.
        random: gives numbers within 0 and 1.
    """

    def __init__(self, routes: Routes, producer: bytes, timeout: float, random: Callable[[], float]) -> None:
        self.routes = routes
        self.home = routes.home
        self.link = routes.home.link
        self.dialling = self.link.dialling
        self.timeout = timeout
        self._producer = producer
        self._random = random
        self._deadlines: Deadlines[Call] = Deadlines()
        self._again: Deadlines[Call] = Deadlines()
        """Refused calls, by when they are made again."""
        self._sequences = Sequences()
        self._spreads: dict[str, int] = {}
        self._turns = Turns(lambda call, first: self.routes.place(call, first=first))
        self._lanes: Lanes[SendGroup] = Lanes(self._turns.take)
        self._acks: Lanes[AckGroup] = Lanes(self.routes.place, ACKS_AT_ONCE)
        self._outcomes: list[Outcome] = []
        self._bytes = 0

    # --- asking --------------------------------------------------------------------------------------

    def ask(self, now: float, request: Message, owner: Any, deadline: float | None = None) -> Call:
        """Take in any request but a send; its outcome is the answer.

        Arguments:
            deadline: when its outcome must be told at the latest; `timeout` from now by default.

        Errors: UsageError for a field that cannot be, as for the sends below.
        """
        check_request(request)
        call = Call(now, now + self.timeout if deadline is None else deadline, request, owner)
        self._register(now, call)
        self.routes.place(call)
        return call

    def send_batch(self, now: float, lane: LaneKey, batch: Batch, owner: Any) -> Call:
        """Take in a whole batch; its outcome is `Stored`."""
        check_send(*lane)
        call = self._new_send(now, lane)
        call.take(batch, owner)
        self._bytes += call.bytes
        self._turns.take(call)
        return call

    def send(self, now: float, lane: LaneKey, body: bytes, columns: Columns, owner: Any) -> Call:
        """Take in one message, which travels with others that wait; its outcome is its id."""
        check_send(*lane)
        group, keyed = self._lanes.growing(lane, len(body)), "g" in columns or "d" in columns
        if group is None or (keyed and not group.keyed):
            group = self._new_send(now, lane)
            group.keyed = keyed
            group.room = self.routes.batch_bytes
            self._lanes.begin(lane, group)
        self._bytes += group.add(body, columns, owner, now + self.timeout)
        return group

    def ack(self, now: float, held: Held, owner: Any) -> Call:
        """Take in the ack of one message, which travels with others that wait; its outcome is None."""
        lane = self.routes.ack_lane(held[0])
        group = self._acks.growing(lane, 0)
        if group is None:
            group = AckGroup(now, now + self.timeout, lane)
            self._register(now, group)
            self._acks.begin(lane, group)
        group.add(held, owner, now + self.timeout)
        return group

    def _new_send(self, now: float, lane: LaneKey) -> SendGroup:
        group = SendGroup(now, now + self.timeout, lane, self._sequences.give(lane[0]), self._spreads)
        self._register(now, group)
        return group

    def _register(self, now: float, call: Call) -> None:
        self.routes.now = now
        call.tried = self.dialling.tried
        self._deadlines.set(call, call.deadline)

    @property
    def full(self) -> bool:
        """Whether the shell should wait before it takes in more."""
        return self._bytes > MAX_BYTES or len(self._deadlines) > MAX_CALLS

    # --- withdrawing ---------------------------------------------------------------------------------

    def withdraw(self, call: Call, owner: Any) -> None:
        """`owner` waits for `call` no more: its part is not made if it has not been yet.

        A receive that is under way is cancelled, and what it brings all the same is given back.
        """
        if isinstance(call, Group):
            call.drop(owner)
            if call.members and call.owners:
                return
        else:
            call.owner = None
        self._deadlines.cancel(call)
        if call.number:
            # Its answer is still to come.
            if call.kind is Receive:
                self.routes.cancel(call)
            return
        self.routes.take_back(call)
        self._settle(call)

    def end(self, now: float) -> None:
        """The client is closed: all who wait are told so, and their calls withdrawn."""
        self.routes.now = now
        for call in [*self._deadlines]:
            owners = call.owners
            self._tell(owners, outcomes.ended(call))
            for owner in owners:
                self.withdraw(call, owner)

    def _settle(self, call: Call) -> None:
        """A call has its outcome, or needs none."""
        self._deadlines.cancel(call)
        self._again.cancel(call)
        self.routes.left(call)
        if isinstance(call, AckGroup):
            self._acks.settled(call)
        elif isinstance(call, SendGroup) and self._sequences.settle(call.lane[0], call.sequence):
            self._bytes -= call.bytes
            self._turns.settled(call)
            self._lanes.settled(call)

    # --- outcomes ------------------------------------------------------------------------------------

    def take_outcomes(self) -> list[Outcome]:
        """Return, once, what became of calls; those whose owner has withdrawn are left out."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _finish(self, call: Call, answer: Message) -> None:
        if isinstance(call, SendGroup) and isinstance(answer, Stored) and answer.ordered:
            self._turns.learn(call.lane[0])
        self._settle(call)
        self._outcomes += call.results(answer)

    def _fail(self, call: Call, error: DMQError) -> None:
        self._settle(call)
        self._tell(call.owners, error)

    def _tell(self, owners: list[Any], error: DMQError) -> None:
        # Each gets an exception of its own, for each is raised with a traceback of its own.
        self._outcomes += [(owner, None, copy.copy(error)) for owner in owners]

    # --- connecting ----------------------------------------------------------------------------------

    @property
    def wants_connection(self) -> bool:
        """Whether there is something to ask, and nobody to ask it."""
        return self.link.connection is None and bool(self.home.waiting)

    @property
    def dial_at(self) -> float:
        """When to dial, not before."""
        return self.dialling.not_before

    def dial_failed(self, now: float, why: str, route: Route | None = None) -> None:
        """Dialling failed, for a reason that completes "no node is reachable at …: "."""
        if route is not None and route is not self.home:
            self.routes.now = now
            self.routes.lost(route, leaving=False)
            return
        self.dialling.failed(now, why)
        self._lose_patience(now)

    def _lose_patience(self, now: float) -> None:
        if self.dialling.reached:
            return
        for call in [*self.home.waiting]:
            enough = self.dialling.tried - call.tried >= len(self.dialling)
            if enough and now >= call.made + FIRST_PATIENCE:
                self.home.waiting.remove(call)
                self._fail(call, outcomes.lapsed(call, self.link.unavailable()))

    def connected(self, now: float, route: Route | None = None) -> None:
        """A connection to the route's `link.dialling.address` is there; home by default, as below."""
        (route or self.home).link.connected(now)

    def disconnected(self, now: float, why: str, route: Route | None = None) -> None:
        """The connection is gone; what was under way is made again where that is safe."""
        route = route or self.home
        self.routes.now, leaving = now, route.leaving
        why = route.link.lost(now, why)
        again, over = list[Call](), list[Call]()
        for call in self.routes.lost(route, leaving=leaving):
            if call.number:
                call.number = 0
                call.attempts += 1
                self._doubt(call)
                unwanted = not call.owners and call.kind is not Nack
                if unwanted or call.kind in NOT_REPEATED or outcomes.too_late(call, now):
                    over.append(call)
                    continue
            again.append(call)
        self.routes.place_lost(again)
        for call in over:  # only now: what waits behind them would be put on the route that is lost
            self._fail(call, outcomes.unknown(call, f"the connection was lost ({why})"))
        self._lose_patience(now)

    # --- bytes ---------------------------------------------------------------------------------------

    def data_to_send(self, now: float, route: Route | None = None) -> bytes:
        """Return what is to be written now; requests wait until the node's credit allows them."""
        return (route or self.home).data_to_send(now, self._message, self._too_long, self._unwritable)

    def _message(self, now: float, call: Call) -> Message:
        if isinstance(call, SendGroup):
            call.written = min(call.written, now)
            return call.send(self._producer, self._sequences.floor(call.lane[0]))
        return call.message(now)

    def _too_long(self, call: Call, limit: int) -> None:
        """The node of a route reads no such call; the one at home may, and otherwise nobody does."""
        home = call.route is self.home
        self.routes.left(call)
        if home:
            self._fail(call, outcomes.unless_done(call, outcomes.too_long(call, limit)))
        else:
            call.homeward = True
            self.routes.place(call)

    def _unwritable(self, call: Call, error: Exception) -> None:
        self._fail(call, UsageError(f"this {call.kind.__name__} cannot be written as bytes: {error}"))

    def receive_data(self, now: float, data: bytes, route: Route | None = None) -> None:
        """Take bytes from the node; b"" is their end."""
        route = route or self.home
        self.routes.now = now
        link = route.link
        answers = link.receive_data(now, data)
        news, link.news = link.news, []
        self.routes.heard(route, news)
        try:
            for number, answer in answers:
                self._answered(now, route.answered(number), answer)
        except ProtocolError as error:
            link.misbehaved(error)
        if route is self.home and link.turned_away is not None:
            # It would be the answer to every call.
            error_ = refusal(link.turned_away.code, link.turned_away.message, retryable=False)
            for call in route.clear():
                self._fail(call, outcomes.unless_done(call, error_))

    def _answered(self, now: float, call: Call, answer: Message) -> None:
        call.number = 0
        if isinstance(answer, Failed):
            self._refused(now, call, answer)
            return
        if isinstance(answer, Cancelled):
            self._settle(call)
            return
        if type(answer) is not ANSWER_TO[call.kind]:
            self._settle(call)
            error = ProtocolError(f"the node answered a {call.kind.__name__} with {type(answer).__name__}")
            self._tell(call.owners, error)
            raise error
        if isinstance(answer, Delivered):
            if call.owner is None:
                self.give_back(now, answer)
            elif not answer.parts and call.early(now):
                self.routes.left(call)
                call.attempts += 1
                self._again.set(call, now + outcomes.SHORTEST_RETRY)
                return
        self._finish(call, answer)

    def give_back(self, now: float, delivered: Delivered) -> None:
        """Nobody took what was delivered: let others have it."""
        held = [(p.partition, p.delivery, p.log, p.first, p.count) for p in delivered.parts]
        if held:
            self.ask(now, Nack(held, 0.0, False, ""), None)

    def _refused(self, now: float, call: Call, failed: Failed) -> None:
        error = refusal(failed.code, failed.message, retryable=failed.retryable)
        open_ended = failed.stored == "unknown"
        if open_ended and not outcomes.recognised(call, failed, now):
            self._fail(call, Unknown(failed.message))
        elif (open_ended or (failed.retryable and failed.code in outcomes.RETRIED)) and call.owners:
            if open_ended:
                self._doubt(call)
            self.routes.left(call)
            call.refusal = error
            call.attempts += 1
            self._again.set(call, now + outcomes.pause(call.attempts, self._random()))
        elif outcomes.perhaps_done(call, error):
            self._fail(call, outcomes.unknown(call, f"an answer was lost, and now: {failed.message}"))
        elif isinstance(call, SendGroup) and len(call.members) > 1 and failed.code in outcomes.SPLIT:
            self._split(now, call)
        else:
            self._fail(call, error)

    def _doubt(self, call: Call) -> None:
        """It may be done: a send is made again only while that is recognised."""
        call.doubt = True
        if isinstance(call, SendGroup):
            call.limit(call.written + outcomes.RECOGNISED)
            self._deadlines.set(call, call.next_late())

    def _split(self, now: float, group: SendGroup) -> None:
        """One of a group was refused and none stored: find out which, by halves."""
        count = len(group.members)
        halves = []
        for low, high in ((0, count // 2), (count // 2, count)):
            half = self._new_send(now, group.lane)
            half.take_over(group, low, high)
            self._bytes += half.bytes
            self._deadlines.set(half, half.next_late())
            halves.append(half)
        self.routes.left(group)
        self._turns.split(group, *halves)
        self._settle(group)

    # --- time ----------------------------------------------------------------------------------------

    def postpone(self, since: float, now: float) -> None:
        """Nobody could take in any answer since then: that time does not count, but of sends in doubt."""
        for call in [c for c in self._deadlines if not (c.doubt and isinstance(c, SendGroup))]:
            call.postpone(now - max(since, call.made))
            self._deadlines.set(call, call.next_late())

    def next_deadline(self) -> float:
        """Return when `tick` must be called, math.inf for never."""
        return min(self._deadlines.next(), self._again.next(), self.routes.next_deadline())

    def tick(self, now: float) -> None:
        """Do what is due: give up calls, make refused ones again, keep the connection alive."""
        self.routes.now = now
        for call in list(self._deadlines.pop_due(now)):
            error = outcomes.lapsed(call, self.link.unavailable())
            late = call.late(now)
            self._tell(late, error)
            for owner in late:
                self.withdraw(call, owner)
            left = call.next_late()
            if left < math.inf:
                self._deadlines.set(call, left)
        for call in list(self._again.pop_due(now)):
            self.routes.place(call)
        self.routes.tick()
