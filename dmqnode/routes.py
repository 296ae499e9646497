"""Which way each call goes: to the leader itself where that is known and reached, else as it always did.

    Leads ──> Leaders ──a call for it──> wanted ──open_routes──> the shell dials, meanwhile calls go home
    welcomed by the right node ──> calls for what it leads go there
    lost, silent, refused ──> its calls go home again, those under way as ones that may have been done;
                              the address is left alone for a while

Sends to one queue never travel by two ways at once: before they change, those under way are answered, so
that none overtakes another.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

from dmqnode.addresses import Dialling, is_loopback
from dmqnode.calls import AckGroup, Call, SendGroup
from dmqnode.errors import UsageError
from dmqnode.ids import PartitionId
from dmqnode.leaders import Lead, Leaders
from dmqnode.link import Link
from dmqnode.messages import Ack, Extend, Leads, Nack, Receive
from dmqnode.route import Route

MOST_DIRECT = 8
"""Connections to leaders besides the one to the addresses given."""
SPARE = 10.0
"""Seconds without use after which a direct connection makes room for another."""
HOLD = 0.5
"""Seconds for which sends wait for those before them to be answered before they change their way."""
STEADY = 10.0
"""Seconds that a direct connection must have lasted for earlier failures not to count any more."""
STAY = 5.0
"""Seconds after which that is tried again."""


class _Course:
    """The sends to one queue that are under way: all by one route."""

    __slots__ = ("count", "held", "route", "since", "stay_until")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.count = 0
        self.held: deque[SendGroup] = deque()
        """Those that wait for `count` to be 0, to take another way."""
        self.since = 0.0
        self.stay_until = -math.inf


class Routes:
    """The ways that a client has.

    Arguments:
        link: to the addresses that it was given.
        leaders: what it was told; None: it goes to no other address.
        random: gives numbers within 0 and 1.
        guarded: the client shows a token: it goes from this machine to no other by itself.
    """

    def __init__(
        self, link: Link, leaders: Leaders | None, random: Callable[[], float], *, guarded: bool = False
    ) -> None:
        self.home = Route(link)
        self.leaders = leaders
        self.direct: dict[str, Route] = {}
        """The others, by address."""
        self.stirred: list[Route] = []
        """Routes for which there may be something to write, or to close."""
        self.now = -math.inf
        """The time of the latest call."""
        self._random = random
        self._guarded = guarded
        self._cluster: str | None = None
        self.wanted: dict[str, Lead] = {}
        """Leaders to whom there is no route, by address."""
        self._courses: dict[str, _Course] = {}
        self._holding: dict[str, _Course] = {}

    def all(self) -> list[Route]:
        """Return every route there is."""
        return [self.home, *self.direct.values()]

    @property
    def batch_bytes(self) -> int:
        """How many bytes of bodies a batch should have, so that every node would take it."""
        if not self.direct:
            return self.home.link.batch_bytes
        there = [r.link.batch_bytes for r in self.all() if r.open and r.link.connection is not None]
        return min(there) if there else self.home.link.batch_bytes

    @property
    def parting(self) -> bool:
        """Whether something that nobody took is still to be given back, and there is a way."""
        left = any(not c.owners and c.kind in (Receive, Nack) for c in self.pending())
        return left and any(r.link.connection is not None for r in self.all())

    def cancel(self, call: Call) -> None:
        """A receive that is under way is given up; it is still answered."""
        route: Route = call.route
        if route.link.connection is not None:
            route.link.connection.cancel(call.number)
            self._stir(route)

    def pending(self) -> list[Call]:
        """Return every call that is under way or may be."""
        found: list[Call] = []
        for route in self.all():
            found += [*route.under_way.values(), *route.waiting]
        for course in self._holding.values():
            found += course.held
        return found

    # --- which way -----------------------------------------------------------------------------------

    def ack_lane(self, partition: PartitionId) -> str:
        """Return the address to which an ack should go, "" for those given."""
        if not self.leaders:
            return ""
        lead = self.leaders.for_partition(partition)
        return "" if lead is None or self._to(lead) is self.home else lead.address

    def _to(self, lead: Lead | None) -> Route:
        """Return the route to a leader, where there is one; else note that one is wanted."""
        if lead is None:
            return self.home
        route = self.direct.get(lead.address)
        if route is not None:
            return route if route.open and not route.leaving and not route.retired else self.home
        connection = self.home.link.connection
        welcome = None if connection is None else connection.welcome
        if welcome is None or welcome.node != lead.node:
            self.wanted[lead.address] = lead
        return self.home

    def _route_for(self, call: Call) -> Route:
        leaders = self.leaders
        if not leaders or call.homeward:
            return self.home
        if isinstance(call, SendGroup):
            return self._to(leaders.for_send(call.lane[0], keyed=call.keyed))
        if isinstance(call, AckGroup):
            route = self.direct.get(call.lane)
            return route if route is not None and route.open and not route.leaving else self.home
        match call.request:
            case Receive(queue):
                return self._to(leaders.for_all(queue))
            case Ack(held) | Nack(held) | Extend(held) if held:
                return self._to(leaders.for_partition(held[0][0]))
            case _:
                return self.home

    # --- placing -------------------------------------------------------------------------------------

    def place(self, call: Call, *, first: bool = False) -> None:
        """Let a call wait for its turn, on the way that it should take.

        Arguments:
            first: before the others that wait.
        """
        if self.leaders is None or not isinstance(call, SendGroup):
            self._put(call, self._route_for(call), first=first)
            return
        name: str = call.lane[0]
        course = self._courses.get(name)
        if course is None:
            course = self._courses[name] = _Course(self._route_for(call))
        elif course.held or (self.leaders and self._turns(course, call)):
            if not course.held:
                course.since = self.now
                self._holding[name] = course
            course.held.append(call)
            return
        course.count += 1
        self._put(call, course.route, first=first)

    def _turns(self, course: _Course, call: SendGroup) -> bool:
        """Tell whether a send should go another way than those to its queue that are under way."""
        return self.now >= course.stay_until and self._route_for(call) is not course.route

    def _put(self, call: Call, route: Route, *, first: bool = False) -> None:
        call.route = route
        if first:
            route.waiting.appendleft(call)
        else:
            route.waiting.append(call)
        route.used_at = self.now
        self._stir(route)

    def _stir(self, route: Route) -> None:
        if not route.stirred:
            route.stirred = True
            self.stirred.append(route)

    def take_stirred(self) -> list[Route]:
        """Return, once, the routes for which there may be something to write, or to close."""
        stirred, self.stirred = self.stirred, []
        for route in stirred:
            route.stirred = False
        return stirred

    def take_back(self, call: Call) -> None:
        """A call is to be written no more, if it has not been."""
        route = call.route
        if route is not None:
            if call in route.waiting:
                route.waiting.remove(call)
        elif isinstance(call, SendGroup):
            course = self._holding.get(call.lane[0])
            if course is not None and call in course.held:
                course.held.remove(call)
                self._release(call.lane[0], course)

    def left(self, call: Call) -> None:
        """A call is under way no more: it has its outcome, or waits to be made again."""
        route, call.route = call.route, None
        if route is not None and self.leaders is not None and isinstance(call, SendGroup):
            name: str = call.lane[0]
            course = self._courses[name]
            course.count -= 1
            if not course.count:
                self._release(name, course)

    def _release(self, name: str, course: _Course, *, stay: bool = False) -> None:
        """Place what was held, as far as it need wait no more."""
        while course.held:
            call = course.held[0]
            if not course.count:
                course.route = self._route_for(call)
            elif not stay and self._turns(course, call):
                return
            course.held.popleft()
            course.count += 1
            self._put(call, course.route)
        self._holding.pop(name, None)
        if not course.count:
            self._courses.pop(name, None)

    # --- connections ---------------------------------------------------------------------------------

    def open_routes(self, now: float) -> list[Route]:
        """Return, once, new routes, for the shell to dial `route.link.dialling.address`."""
        self.now = now
        if not self.wanted or self.leaders is None:
            return []
        wanted, self.wanted = self.wanted, {}
        found: list[Route] = []
        for address, lead in wanted.items():
            if address in self.direct or self.leaders.avoids(self.now, lead):
                continue
            try:
                if not self._may_go(address) or not self._room():
                    continue
                link = self.home.link.elsewhere(Dialling([address], self._random))
            except UsageError:
                self.leaders.failed(self.now, address, served=False)
                continue
            route = self.direct[address] = Route(link, lead, self.now)
            found.append(route)
        return found

    def _may_go(self, address: str) -> bool:
        """Tell whether the token may be shown there.

        Who reaches the cluster by an address of this machine may do so through a tunnel that hides it.
        """
        return not self._guarded or is_loopback(address) or not self.home.link.dialling.on_loopback

    def _room(self) -> bool:
        """Tell whether there may be one more; if not, close one that is not used."""
        if len(self.direct) < MOST_DIRECT:
            return True
        idle = [r for r in self.direct.values() if not r.waiting and not r.under_way and not r.retired]
        oldest = min(idle, key=lambda r: r.used_at, default=None)
        if oldest is not None and self.now - oldest.used_at >= SPARE:
            oldest.retired = True
            self._stir(oldest)
        return False

    def heard(self, route: Route, news: Iterable[Leads]) -> None:
        """A node has said something: see who it is, if that is new, and whom it says to lead."""
        route.heard(self.now)
        connection = route.link.connection
        welcome = None if connection is None else connection.welcome
        if welcome is None or self.leaders is None:
            return
        if route.lead is None:
            self._cluster = welcome.cluster
        elif not route.open:
            if welcome.node == route.lead.node and self._cluster in (None, welcome.cluster):
                route.open, route.opened_at = True, self.now
            else:
                route.link.broken(f"{route.lead.address} is another node, {welcome.node}")
                return
        for told in news:
            self.leaders.learn(self.now, told)

    def lost(self, route: Route, *, leaving: bool) -> list[Call]:
        """A route is of no more use; return its calls, for those that are made again to be `place_lost`.

        Arguments:
            leaving: its node had said Goodbye.
        """
        calls = route.clear()
        for call in calls:
            call.route = None
            if self.leaders is not None and isinstance(call, SendGroup):
                self._courses[call.lane[0]].count -= 1
        if route.lead is not None and self.leaders is not None:
            address = route.lead.address
            self.direct.pop(address, None)
            if self.now >= route.opened_at + STEADY:
                self.leaders.served(address)
            if route.retired or leaving:
                self.leaders.forget(address)
            else:
                self.leaders.failed(self.now, address, served=route.open)
        return calls

    def place_lost(self, calls: Iterable[Call]) -> None:
        """Make calls of a lost route again, in their order, and before what was held back behind them."""
        for call in calls:
            if self.leaders is None or not isinstance(call, SendGroup):
                self._put(call, self._route_for(call))
                continue
            course = self._courses.get(call.lane[0])
            if course is None:
                course = self._courses[call.lane[0]] = _Course(self.home)
            if not course.count:
                course.route = self._route_for(call)
            course.count += 1
            self._put(call, course.route)
        for name, course in list(self._courses.items()):
            if course.held or not course.count:
                self._release(name, course)

    # --- time ----------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `tick` must be called, math.inf for never."""
        due = self.home.next_deadline()
        if self.direct:
            due = min(due, *(route.next_deadline() for route in self.direct.values()))
        if self._holding:
            due = min(due, *(course.since + HOLD for course in self._holding.values()))
        return due

    def tick(self) -> None:
        """Keep connections alive, or end them; let nothing be held for long."""
        self.home.tick(self.now)
        for route in self.direct.values():
            route.tick(self.now)
        for name, course in list(self._holding.items()):
            if self.now >= course.since + HOLD:
                course.stay_until = self.now + STAY
                self._release(name, course, stay=True)
