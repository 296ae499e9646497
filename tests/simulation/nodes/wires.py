"""The network between simulated machines: connections and datagrams that are late, lost, or cut off.

A connection keeps its order; what meets a cut waits and comes after it, as what TCP sends again.  Datagrams
are dropped there.  Cuts have a direction and concern streams, datagrams, or both.

All time is virtual (MockClock).
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import count

import trio

LATENCY = (0.0002, 0.001)
WINDOW = 256 << 10
"""Bytes that a connection holds in one direction before its sender has to wait."""
AGAIN = (0.02, 0.3)
"""Seconds from the end of a cut until what waited is sent again."""
INBOX = 512
FIN, RST = b"fin", b"rst"
Address = str


class Net:
    """All wires.  `run` moves what travels on them.

    Arguments:
        rng: all chance of the network.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.digest = hashlib.sha256()
        self.slow: dict[tuple[str, str], float] = {}
        self.lost = self.doubled = self.late = 0.0
        """Chances that a datagram is lost, comes twice, or comes long after others."""
        self.machines_off: set[str] = set()
        self.names: dict[str, str] = {}
        """Further names of hosts."""
        self.doors: dict[Address, SimListener] = {}
        self.sockets: dict[Address, SimDatagrams] = {}
        self._ends: dict[SimStream, None] = {}
        self._cuts: Counter[tuple[str, str, str]] = Counter()
        self._stuck: dict[SimStream, None] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = count()
        self._wake = trio.Event()
        self._sleeping_until = -math.inf

    async def run(self) -> None:
        """Let things happen in their time, until cancelled."""
        while True:
            now = trio.current_time()
            while self._events and self._events[0][0] <= now:
                heapq.heappop(self._events)[2]()
            self._wake = trio.Event()
            self._sleeping_until = self._events[0][0] if self._events else math.inf
            with trio.move_on_at(self._sleeping_until):
                await self._wake.wait()
            self._sleeping_until = -math.inf

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (time, next(self._tie), act))
        if time < self._sleeping_until:
            self._wake.set()

    def note(self, *what: object) -> None:
        """Put what happened into the digest of the run."""
        self.digest.update(repr((round(trio.current_time(), 9), *what)).encode())

    # --- cuts ----------------------------------------------------------------------------------------

    def cut(self, links: Iterable[tuple[str, str]], kinds: str = "tcp udp") -> Callable[[], None]:
        """Cut links between hosts, each in one direction; return what heals them."""
        cuts = [(a, b, kind) for a, b in links for kind in kinds.split()]
        self._cuts.update(cuts)

        def heal() -> None:
            self._cuts.subtract(cuts)
            cuts.clear()
            stuck, self._stuck = self._stuck, {}
            for end in stuck:
                self.at(trio.current_time() + self.rng.uniform(*AGAIN), end.pump)

        return heal

    def is_cut(self, a: str, b: str, kind: str) -> bool:
        """Tell whether nothing of a kind gets from one host to another."""
        return self._cuts[a, b, kind] > 0

    def delay(self, a: str, b: str) -> float:
        """Draw how long something travels."""
        return self.rng.uniform(*LATENCY) + self.rng.uniform(0.0, self.slow.get((a, b), 0.0))

    # --- streams -------------------------------------------------------------------------------------

    def listen(self, address: Address) -> SimListener:
        """Open a door."""
        assert address not in self.doors, f"two doors at {address}"
        door = self.doors[address] = SimListener(self, address)
        return door

    async def dial(self, host: str, to: str, port: int) -> SimStream:
        """Connect two hosts.  Errors: OSError."""
        to = self.names.get(to, to)
        while self.is_cut(host, to, "tcp") or self.is_cut(to, host, "tcp") or to in self.machines_off:  # noqa: ASYNC110
            await trio.sleep(1.0)
        await trio.sleep(2 * self.delay(host, to))
        door = self.doors.get(f"{to}:{port}")
        if door is None or to in self.machines_off:
            raise ConnectionRefusedError(111, "Connection refused")
        near, far = SimStream(self, host, to), SimStream(self, to, host)
        near.other, far.other = far, near
        self._ends |= {near: None, far: None}
        door.queue.append(far)
        door.came.set()
        self.counts["dials"] += 1
        return near

    def stuck(self, end: SimStream) -> None:
        """What comes next at an end waits for a cut to be healed."""
        self._stuck[end] = None

    def forget(self, end: SimStream) -> None:
        """Nothing more comes of this connection."""
        self._ends.pop(end, None)
        self._stuck.pop(end, None)

    def died(self, host: str, *, silently: bool) -> None:
        """A process is gone with its sockets; silently, if the machine went with it."""
        for address in [a for a in self.doors if a.rpartition(":")[0] == host]:
            del self.doors[address]
        self.sockets = {a: s for a, s in self.sockets.items() if a.rpartition(":")[0] != host}
        for end in list(self._ends):
            if end.host == host:
                end.die(silently=silently)

    # --- datagrams -----------------------------------------------------------------------------------

    def datagram(self, a: Address, b: Address, data: bytes) -> None:
        """Send a datagram, which may get lost."""
        host, (name, _, port) = a.rpartition(":")[0], b.rpartition(":")
        to = self.names.get(name, name)
        b = f"{to}:{port}"
        times = 1 + (self.rng.random() < self.doubled)
        for _ in range(times):
            if self.rng.random() < self.lost:
                continue
            late = self.rng.uniform(0.0, 3.0) if self.rng.random() < self.late else 0.0
            self.at(
                trio.current_time() + self.delay(host, to) + late, lambda: self._arrive(host, to, a, b, data)
            )

    def _arrive(self, host: str, to: str, a: Address, b: Address, data: bytes) -> None:
        socket = self.sockets.get(b)
        if socket is not None and not self.is_cut(host, to, "udp") and len(socket.inbox) < INBOX:
            self.note("udp", a, b, len(data), hash_of(data))
            self.counts["datagrams"] += 1
            socket.inbox.append((a, data))
            socket.came.set()


class SimListener(trio.abc.Listener["SimStream"]):
    """A door."""

    def __init__(self, net: Net, address: Address) -> None:
        self.queue: deque[SimStream] = deque()
        self.came = trio.Event()
        self._net = net
        self._address = address
        self._closed = False

    async def accept(self) -> SimStream:
        await trio.lowlevel.checkpoint()
        while not self.queue:
            if self._closed:
                raise trio.ClosedResourceError
            self.came = trio.Event()
            await self.came.wait()
        return self.queue.popleft()

    async def aclose(self) -> None:
        self._closed = True
        if self._net.doors.get(self._address) is self:
            del self._net.doors[self._address]
        self.came.set()
        for end in self.queue:
            end.die(silently=False)
        self.queue.clear()
        await trio.lowlevel.checkpoint()


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a connection.  `flight` is what is on its way to this end."""

    def __init__(self, net: Net, host: str, far: str) -> None:
        self.host, self.far = host, far
        self.other: SimStream
        self._net = net
        self.flight: deque[tuple[float, bytes]] = deque()
        self._inbox = bytearray()
        self._held = 0
        """Bytes in flight to this end, or not read there."""
        self._changed = trio.Event()
        self._dead = self._closed = self._broken = self._ended = self._sent_end = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        other = self.other
        view = bytes(data)
        while view:
            while other._held >= WINDOW and not (self._closed or self._broken):
                await self._change()
            if self._closed or self._sent_end:
                raise trio.ClosedResourceError
            if self._broken:
                raise trio.BrokenResourceError
            piece, view = view[:WINDOW], view[WINDOW:]
            other._held += len(piece)
            other.coming(piece)

    def write_now(self, data: bytes) -> int:
        """Write what there is room for.  Errors: OSError."""
        if self._closed or self._sent_end or self._broken:
            raise OSError(32, "Broken pipe")
        taken = bytes(data)[: max(0, WINDOW - self.other._held)]
        if taken:
            self.other._held += len(taken)
            self.other.coming(taken)
        return len(taken)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._sent_end:
            self._sent_end = True
            self.other.coming(FIN)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._broken:
                raise trio.BrokenResourceError
            if self._inbox:
                break
            if self._ended:
                return b""
            await self._change()
        data = bytes(self._inbox[: max_bytes or WINDOW])
        del self._inbox[: len(data)]
        self._held -= len(data)
        self.other._tell()
        return data

    async def aclose(self) -> None:
        if not self._closed and not self._dead:
            self._closed = True
            self.other.coming(RST if self._inbox else FIN)
            self._sent_end = True
            self._tell()
        await trio.lowlevel.checkpoint()

    def die(self, *, silently: bool) -> None:
        """The process is gone."""
        if not self._dead:
            if not silently and not self._closed:
                self.other.coming(RST)
            self._dead = self._closed = True
            self._tell()

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()

    # --- what comes to this end ----------------------------------------------------------------------

    def coming(self, what: bytes) -> None:
        """The other end sends something."""
        before = self.flight[-1][0] if self.flight else 0.0
        time = max(before, trio.current_time() + self._net.delay(self.far, self.host))
        self.flight.append((time, what))
        if len(self.flight) == 1:
            self._net.at(time, self.pump)

    def pump(self) -> None:
        """Let arrive what is due."""
        while self.flight and self.flight[0][0] <= trio.current_time():
            if self._net.is_cut(self.far, self.host, "tcp"):
                self._net.stuck(self)
                return
            what = self.flight.popleft()[1]
            self._arrive(what)
        if self.flight:
            self._net.at(self.flight[0][0], self.pump)

    def _arrive(self, what: bytes) -> None:
        if self._closed:
            self._net.forget(self)
            if (
                what is not RST
                and what is not FIN
                and not (self._dead and self.host in self._net.machines_off)
            ):
                self.other.coming(RST)
            return
        self._net.note("tcp", self.far, self.host, len(what), hash_of(what))
        if what is RST:
            self._broken = True
            self._net.forget(self)
        elif what is FIN:
            self._ended = True
        else:
            self._inbox += what
        self._tell()


class SimDatagrams:
    """A UDP socket."""

    def __init__(self, net: Net, address: Address) -> None:
        self.inbox: deque[tuple[Address, bytes]] = deque()
        self.came = trio.Event()
        self._net = net
        self._address = address
        net.sockets[address] = self

    async def run(self) -> None:
        await trio.sleep_forever()

    def send(self, address: Address, data: bytes) -> None:
        if self._net.sockets.get(self._address) is self:
            self._net.datagram(self._address, address, data)

    async def receive(self) -> tuple[Address, bytes]:
        await trio.lowlevel.checkpoint()
        while not self.inbox:
            self.came = trio.Event()
            await self.came.wait()
        return self.inbox.popleft()


def hash_of(data: bytes) -> str:
    """Return a short name of some bytes."""
    return hashlib.blake2b(data, digest_size=6).hexdigest()
