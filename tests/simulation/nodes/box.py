"""A simulated machine with one node on it, whose shells are those that run in production.

All time is virtual (MockClock).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from dmqnode.amnesia import BeginAnew, lost_memory
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.config import NodeConfig
from dmqnode.errors import DMQError
from dmqnode.ids import NodeId
from dmqnode.joining import settle
from dmqnode.keys import DEBTS, DEBTS_END
from dmqnode.machine import Machine
from dmqnode.node import Node
from dmqnode.process import _single
from gossip.transport import Datagrams
from storage.committer import QUICK
from storage.errors import StorageError, StoreFailed
from storage.faults import Faults
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from tests.simulation.nodes import durable, edges
from tests.simulation.nodes.loop import PROCESS, Process
from tests.simulation.nodes.wires import SimDatagrams, SimStream
from tests.simulation.torn import tear

if TYPE_CHECKING:
    from tests.simulation.nodes.world import World

PORT = 7367
WALL = 1_700_000_000_000
SOON = 60.0
"""Where the dead are forgotten so soon, several short faults may be one long one."""


QUICK_SHARES = (None, 0.5, 0.9, 1.0)
"""How many of a disk's writes are so quick that the loop makes the next by itself; None: threads write."""


class Killed(BaseException):
    """The process is gone: none of its code goes on."""


class SimMachine(Machine):
    """What one life of a node takes from its machine."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._rng = random.Random(box.rng.getrandbits(64))
        self.gone = False
        self._quick = self._rng.choice(QUICK_SHARES)
        self._stopped = 0.0
        if self._quick is not None:
            self.stopwatch = self._read_stopwatch

    def _read_stopwatch(self) -> float:
        """Measure a write that the loop makes by itself: it takes no time here, but may seem to be slow."""
        if self.gone:
            raise Killed
        assert self._quick is not None
        self._stopped += QUICK * (0.5 if self._rng.random() < self._quick else 1.5)
        return self._stopped

    def now(self) -> Now:
        run = trio.current_time()
        wall, beyond = divmod(run, 0.001)
        return Now(run, WALL + int(wall) + self._box.wall_offset, beyond=beyond)

    def chance(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def memory(self) -> int:
        return 0

    async def in_thread(self, act: Callable[..., Any], *args: Any, limiter: object = None) -> Any:
        await self._work()
        result = act(*args)
        await self._work()
        return result

    async def _work(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(self._rng.uniform(*self._box.disk_delay))
        if self.gone:
            raise Killed

    def writer(self, stream: Any) -> Callable[[bytes], int] | None:
        return stream.write_now if isinstance(stream, SimStream) else None

    async def dial(self, host: str, port: int) -> SimStream:
        return await self._box.world.net.dial(self._box.host, host, port)

    async def open_datagrams(self, host: str, port: int) -> Datagrams:
        await trio.lowlevel.checkpoint()
        return SimDatagrams(self._box.world.net, f"{host}:{port}")


class Life:
    """One run of the process."""

    def __init__(self, box: Box) -> None:
        self.machine = SimMachine(box)
        self.process = Process(box.name)
        self.scope = trio.CancelScope()
        self.node: Node | None = None
        self.ended = trio.Event()


class Box:
    """A machine; its store survives the lives of its node.

    Arguments:
        name: of the node and its host.
        join: the seeds.
    """

    def __init__(self, world: World, number: int, name: str, join: tuple[str, ...]) -> None:
        self.world = world
        self.rng = random.Random(world.rng.getrandbits(64))
        self.name = name
        self.host = f"10.0.0.{number}"
        self.address = f"{self.host}:{PORT}"
        self.join = join
        self.cluster = "dmq"
        self.store = MemoryStore(Faults(rng=random.Random(world.rng.getrandbits(64))))
        self.put_aside = False  # whether it has had a store with which it could not go on
        self.rotten = False
        """Whether what was stored on its disk is damaged now and then."""
        self.supervised = False
        """Whether a node that ends because of its disk is started again."""
        self.disk_delay = (0.0001, 0.001)
        self.wall_offset = self.rng.randrange(-40, 40)
        """Milliseconds by which its wall clock is wrong."""
        self.life: Life | None = None
        self.lives = 0
        self.why = ""
        """Why the node ended by itself."""
        self.versions: tuple[int, int] | None = None
        """The versions of the peers' protocol that it speaks, if they are not those of this release."""
        self.may_end = False
        """Whether it may end by itself."""
        self.forgotten = 0
        """How often it has begun anew."""
        self.why_anew = ""
        """Why the last time."""
        self.wanted = True
        """Whether it should be running in the end."""
        self.off = False
        """Whether whoever stopped it starts it again, and nobody else."""
        self.foreign = False
        """Whether it is of another cluster, whose messages nobody here accounts for."""
        self.crashed = False
        """Whether it died between two effects and was not started since."""

    # --- what the accountant looks at ------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether a node runs here."""
        return self.life is not None and self.life.node is not None

    @property
    def runs(self) -> bool:
        """Whether it does anything now."""
        return self.up and not self.paused

    @property
    def paused(self) -> bool:
        """Whether the process stands still."""
        return self.life is not None and self.life.process.frozen

    @property
    def faults(self) -> Faults:
        """What is wrong with the disk."""
        assert self.store._faults is not None
        return self.store._faults

    @property
    def node(self) -> Node:
        """The running node."""
        assert self.life is not None
        assert self.life.node is not None
        return self.life.node

    @property
    def clustering(self) -> Clustering:
        """Its cluster's side."""
        found = self.node.broker.clustering
        assert found is not None
        return found

    @property
    def me(self) -> NodeId:
        """The id of the running node."""
        return self.node.broker.identity.node

    # --- living --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a life."""
        assert self.life is None
        self.lives += 1
        self.why = ""
        self.crashed = False
        self.world.net.machines_off.discard(self.host)
        life = self.life = Life(self)
        self.world.note("starts", self.name, self.lives)
        self.world.nursery.start_soon(self._live, life)

    async def _live(self, life: Life) -> None:
        if life.machine.gone:
            life.ended.set()
            return  # it died before its first step
        PROCESS.set(life.process)
        error: BaseException | None = None
        try:
            with life.scope:
                await self._serve(life)
        except BaseException as raised:  # noqa: BLE001  sorted out below
            error = raised
        finally:
            life.ended.set()
        if life.machine.gone:
            if isinstance(error, BaseExceptionGroup):
                error = error.split((Killed, StorageError, trio.Cancelled))[1]
            elif isinstance(error, Killed | StorageError | trio.Cancelled):
                error = None
            if error is not None:
                raise error
            return
        if error is not None:
            cause = _single(error) if isinstance(error, BaseExceptionGroup) else error
            if not isinstance(cause, DMQError | StorageError):
                raise error
            self.why = str(cause)
            if isinstance(cause, BeginAnew):
                self._begin_anew(cause)
                return
        self.world.note("ends", self.name, self.why)
        self.world.accounts.counts["hit eio"] += isinstance(error and cause, StoreFailed)
        self._gone("stop")
        if self.supervised and isinstance(error and cause, StorageError):
            await trio.sleep(1.0)
            if self.wanted and self.life is None:
                self.start()
            return
        if self.why and not self.may_end:
            self.world.accounts.broken("P7", "gave up", f"{self.name}: {self.why}")

    async def _serve(self, life: Life) -> None:
        lost = lost_memory(self.store, incomplete=False)
        if lost is not None:
            self.world.note("forgets", self.name, lost.what)
            self.put_aside = True
            self.store = MemoryStore(Faults(rng=random.Random(self.rng.getrandbits(64))))
        store = edges.Disk(self, self.store)
        door = self.world.net.listen(self.address)
        config = NodeConfig(
            data=Path(f"/{self.name}"),
            listen=self.address,
            join=self.join or (lost.seeds if lost is not None else ()),
            name=self.name,
            cluster=self.cluster,
            replicas=self.world.plan.replicas,
            write_quorum=self.world.plan.write_quorum,
            dead_after=self.world.plan.dead_after,
        )
        place = (self.address, None, life.machine)
        membership = await settle(config, store, [door], *place, lost=() if self.put_aside else None)
        node = Node(config, store, membership, [door], address=self.address, machine=life.machine)
        if self.versions is not None:
            belonging: Any = node.belonging
            lowest, highest = self.versions
            speaks = belonging.peers._me._replace(lowest=lowest, highest=highest)
            belonging.peers._me = belonging._gossip._me = speaks
        node.broker.surroundings.pid = self.lives  # alike in every process
        life.node = node
        if not self.foreign:
            self.world.accounts.watch(self, node)
        durable.watch(self, node)
        edges.watch(self, node)
        await node.run()

    def _begin_anew(self, cause: BeginAnew) -> None:
        """Do what `process.serve` does for a node that the others do not take for who it was."""
        self.world.note("anew", self.name, self.why)
        self.why_anew = self.why
        self.put_aside = True
        self._gone("stop")
        old, self.store = self.store, MemoryStore(Faults(rng=random.Random(self.rng.getrandbits(64))))
        debts = WriteBatch()
        for row in old.scan(DEBTS, DEBTS_END, limit=1 << 30, max_bytes=1 << 40).rows:
            debts.put(row.key, row.value)
        self.store.write(debts, sync=True)
        self.world.accounts.forgets(self, old)
        self.join = self.join or cause.seeds
        if not self.may_end and self.world.plan.dead_after > SOON:
            self.world.accounts.broken("P7", "gave up", f"{self.name}: {self.why}")
        self.forgotten += 1
        self.start()

    def _gone(self, how: str) -> None:
        life, self.life = self.life, None
        assert life is not None
        life.machine.gone = True
        if life.process.frozen:
            life.process.thaw()
        off = how in ("power", "torn")
        if how == "torn":
            self.store = tear(self.store, self.rng)
        else:
            self.store = self.store.crash(self.rng) if off else self.store.reopen()
        self.world.net.died(self.host, silently=off)
        if off:
            self.world.net.machines_off.add(self.host)
        life.scope.cancel()

    def die(self, how: str) -> None:
        """End the life: "kill" ends the process, "power" the machine, "torn", too, in a write."""
        if self.life is not None:
            self.world.note("dies", self.name, how)
            self._gone(how)

    def crash(self, how: str) -> None:
        """End the life between two effects; who asks for it raises `killed`."""
        self.die(how)
        self.crashed = True

    @property
    def killed(self) -> Killed:
        """What ends the code of a life."""
        return Killed()

    def wipe(self) -> None:
        """Give the machine an empty disk; no node runs on it."""
        assert self.life is None
        self.put_aside = False
        old, self.store = self.store, MemoryStore(Faults(rng=random.Random(self.rng.getrandbits(64))))
        if self.world.plan.write_quorum == 1:  # what was answered a moment ago may be nowhere else
            self.world.accounts.forgets(self, old)

    def snapshot(self) -> MemoryStore:
        """Copy the disk."""
        copy = MemoryStore(Faults(rng=random.Random(self.rng.getrandbits(64))))
        copy._records, copy._keys, copy._bytes = (
            dict(self.store._records),
            list(self.store._keys),
            self.store._bytes,
        )
        return copy

    async def stop(self) -> None:
        """End the node as an operator does, and wait until it has."""
        life = self.life
        if life is None:
            return
        self.world.note("stops", self.name)
        if life.node is None:
            self.die("kill")
        else:
            life.node.stop()
        await life.ended.wait()

    def pause(self) -> None:
        """Let the process stand still."""
        assert self.life is not None
        self.world.note("pauses", self.name)
        self.life.process.frozen = True

    def resume(self) -> None:
        """Let it go on."""
        if self.paused:
            assert self.life is not None
            self.world.note("resumes", self.name)
            self.life.process.thaw()


class Journal(logging.Handler):
    """Puts what the nodes log into the trace."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = PROCESS.get()
        fields = " ".join(f"{k}={v}" for k, v in getattr(record, "fields", {}).items())
        name = process.name if process is not None else "?"
        self._world.note("log", name, record.getMessage(), fields)
