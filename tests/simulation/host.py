"""One simulated node: a real broker with a disk in memory, clocks that can be wrong, and many deaths.

something happens ──> broker ──> answers, messages, reads ──> perhaps dead between two of these
write group:  collected ──(dead here: nothing is written)──> written ──(dead here: nobody knows)──> told
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.config import NodeConfig
from dmqnode.disk import look, perform_read, read_ranges
from dmqnode.grants import GRANTS, GRANTS_END, LEASE, Grants
from dmqnode.ids import PARTITION_ID_SIZE, NodeId, PartitionId, QueueId
from dmqnode.keys import QUEUES, QUEUES_END
from dmqnode.messages import Delivered, Message
from dmqnode.pending import Pending
from dmqnode.reads import Read, Rows
from dmqnode.records import Identity
from dmqnode.roster import ROSTER_KEY, Member, decode, encode
from storage.committer import ROOM_STEP, ROOM_WAIT
from storage.errors import DiskFull, StorageError
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from tests.simulation.damage import Rot
from tests.simulation.torn import tear

if TYPE_CHECKING:
    from tests.simulation.world import World

ROUNDING = 1e-6
HAND_OVER = 2.0
STOP_GRACE = 2.0
LOOK = 0.05
"""Seconds for a graceful stop, as the shell has them."""


class Died(Exception):
    """The node died in the middle of its effects."""


class Host:
    """A node; its store survives its deaths."""

    def __init__(self, world: World, member: Member) -> None:
        self.world = world
        self.me: NodeId = member.node
        self.name = member.name
        self.faults = Rot(
            rng=random.Random(world.rng.getrandbits(32)), damage=world.ledger.damage, disk=self.me
        )
        self.store = MemoryStore(self.faults)
        self.disk_delay = (0.0002, 0.002)
        self.up = self.paused = self.stopping = False
        self.life = 0
        """Counts starts; what was under way in an earlier life does not happen."""
        self.boundary = 0.0
        """Chance of dying between two effects."""
        self.stall = 0.0
        """Chance of standing still beyond a lease, as a delivery leaves or what it needs is read."""
        self._reading = 0
        self.rotten = False
        """Whether what was stored on its disk is damaged now and then."""
        self.torn = False
        """Whether the power is cut in the middle of its next write."""
        self._room_until = 0.0
        """Until when a write waits for room on a full disk; 0.0: none does."""
        self._boot = 0
        self._run_offset = world.rng.uniform(0, 1e5)
        self.wall_offset = world.rng.randrange(-40, 40)
        """Milliseconds by which the wall clock is wrong."""
        self._shown = (-1.0, 0), Now(0.0, 0)
        self._missed: list[Callable[[], None]] = []
        self._committing, self._wake_at = False, float("inf")
        self.broker: Broker
        self.clustering: Clustering

    # --- clocks --------------------------------------------------------------------------------------

    def now(self) -> Now:
        """Read the clocks, once for each moment."""
        moment = time, offset = self.world.now, self.wall_offset
        if self._shown[0] != moment:
            wall, beyond = divmod(time, 0.001)
            wall += 1_700_000_000_000 + offset
            self._shown = moment, Now(time + self._run_offset, int(wall), beyond=beyond)
        return self._shown[1]

    def set_clock(self, step: int) -> None:
        """Set the wall clock, by milliseconds."""
        self.world.ledger.notes.stepped(self)
        self.wall_offset += step

    # --- living --------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether it does anything now; one that stands still looks at its clocks before it goes on."""
        return self.up and not self.paused

    def start(self) -> None:
        """Begin a life."""
        world, now = self.world, self.now()
        self.up, self.paused, self.stopping = True, False, False
        self.life += 1
        self._boot += 1
        self._missed, self._committing, self._wake_at = [], False, float("inf")
        self._reading, self._room_until = 0, 0.0
        try:
            self._load(now)
        except StorageError:
            self.die("eio")
            return
        world.note("start", self.me, f"life {self.life}")
        self._do(lambda: None)

    def _load(self, now: Now) -> None:
        world, plan = self.world, self.world.plan
        record = self.store.get(ROSTER_KEY)
        if record is None:
            ops = WriteBatch()
            ops.put(ROSTER_KEY, encode(world.roster))
            self.store.write(ops, sync=True)
        roster = world.roster if record is None else decode(record)
        config = NodeConfig(
            data=Path("/nowhere"), name=self.name, replicas=plan.replicas, write_quorum=plan.write_quorum
        )
        identity = Identity(self.me, self._boot, world.rng.getrandbits(32))
        self.broker = broker = Broker(config, identity, now)
        self.measure()
        rng = random.Random(world.rng.getrandbits(32))
        silent = Grants.silence(self._boot)
        self.clustering = broker.clustering = clustering = Clustering(broker, roster, rng, now, silent=silent)
        found = read_ranges(self.store, ((GRANTS, GRANTS_END), (QUEUES, QUEUES_END)))
        for key, row in found.items():
            if key[:1] == GRANTS:
                clustering.cluster.grants.load(PartitionId(key[-PARTITION_ID_SIZE:]), row)
            else:
                clustering.catalog.load(QueueId(key[1:]), row)
        broker.registry.load(now)
        debts: Any = getattr(clustering, "debts", None)
        if debts is not None:
            debts.load(now)
        while wanted := broker.reads.take_wanted():
            for number, read in wanted:
                broker.read_done(now, number, perform_read(self.store, read))
        world.ledger.watch(self)

    def die(self, how: str, back: float | None = None) -> None:
        """End a life.

        "kill" ends the process, "power" the machine; "torn", too, in the middle of a write; "eio" is the
        disk, "stop" ends `stop`.

        Arguments:
            back: seconds until it starts again; None draws them.
        """
        if not self.up:
            return
        world = self.world
        world.note("dies", self.me, how)
        self.up = False
        self.life += 1
        if how != "stop":  # which must repeat nothing
            world.ledger.disturbed(how, self.me)
        lost, silently = how in ("power", "torn", "stop"), how in ("power", "torn")
        if how == "torn":
            self.store = tear(self.store, world.rng)
        else:
            self.store = self.store.crash(world.rng) if lost else self.store.reopen()
        if lost:
            world.ledger.notes.forgot(self)
        world.net.died(self.me, silently=silently)
        world.clients.lost(self, silently=silently)
        world.after(self._draw_absence() if back is None else back, self._return)

    def stop(self, back: float | None = None) -> None:
        """End a life as SIGTERM does: hand over, refuse what is new, write what is to be kept, go."""
        if not self.runs or self.stopping:
            return
        self.stopping = True
        self.world.note("stops", self.me)
        self.world.ledger.stopped()
        self._hand_over(self.world.now + HAND_OVER, back)

    def _hand_over(self, end: float, back: float | None) -> None:
        clustering, now = self.clustering, self.now()
        if clustering.stop(now) and self.world.now < end:
            self.later(LOOK, lambda: self._hand_over(end, back))
            return
        self.broker.stop(now)
        clustering.front.end_waits(now)
        self.later(LOOK, lambda: self._let_go(self.world.now + STOP_GRACE, back))

    def _let_go(self, end: float, back: float | None) -> None:
        clustering, now = self.clustering, self.now()
        if (self._committing or self.broker.wants_write(now)) and self.world.now < end:
            self.later(LOOK, lambda: self._let_go(end, back))
            return
        for partition in clustering.cluster.leases.all():
            clustering.cluster.abandon(now, partition)
        clustering.settle(now)
        self.later(LOOK, lambda: self.die("stop", back))

    def _draw_absence(self) -> float:
        rng = self.world.rng
        return rng.choice((0.02, 0.5, rng.uniform(1, 3), rng.uniform(3, 8)))

    def _return(self) -> None:
        if not self.up:
            self.start()
            if self.up:
                self.world.net.born(self.me)

    def pause(self) -> None:
        """Stand still: nothing happens here until `resume`."""
        self.world.note("pauses", self.me)
        self.paused = True

    def resume(self) -> None:
        """Go on, with all that has come meanwhile."""
        if not (self.up and self.paused):
            return
        self.world.note("resumes", self.me)
        self.paused = False
        missed, self._missed = self._missed, []
        for n, act in enumerate(missed):
            if not self.up:
                return
            if self.paused:  # again, by what it has just done
                self._missed += missed[n:]
                return
            self._do(act)

    def happen(self, act: Callable[[], None], life: int) -> None:
        """Let something happen to this node, if it still lives that life; later, if it is paused."""
        if not self.up or life != self.life:
            return
        if self.paused:
            self._missed.append(act)
        else:
            self._do(act)

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Let something happen to this node in a while, in this life."""
        life = self.life
        self.world.after(delay, lambda: self.happen(act, life))

    def _do(self, act: Callable[[], None]) -> None:
        life = self.life
        try:
            act()
            if self.stall and self._stalls():
                return
            self._perform(life)
        except Died:
            self.die(self.world.rng.choice(("kill", "power")))
        except StorageError as error:
            self.world.note("disk", self.me, error)
            self.die("eio")

    def _stalls(self) -> bool:
        delivers = any(isinstance(r.message, Delivered) and r.message.parts for r in self.broker._replies)
        if not (delivers or self._reading) or self.world.rng.random() >= self.stall:
            return False
        seconds = self.world.rng.uniform(LEASE + 0.2, 2 * LEASE)
        self.world.ledger.disturbed("pause", self.me, seconds)
        self.pause()
        self._missed.append(lambda: None)
        self.world.after(seconds, self.resume)
        return True

    # --- what happens --------------------------------------------------------------------------------

    def hear(self, sender: NodeId, message: Message) -> None:
        """A peer's message arrives."""
        self.world.heard(sender, self.me, message)
        self.clustering.hear(self.now(), sender, message)

    def met(self, peer: NodeId) -> None:
        """A link to a peer is up."""
        self.clustering.met(self.now(), peer)

    def gone(self, peer: NodeId) -> None:
        """A link to a peer is broken."""
        self.clustering.gone(self.now(), peer)

    def _tick(self, due: float) -> None:
        if due == self._wake_at:
            self._wake_at = float("inf")
            now = self.now()
            if self.broker.next_deadline() <= now.run:
                self.broker.tick(now)

    # --- effects -------------------------------------------------------------------------------------

    def _perform(self, life: int) -> None:
        """Do what the broker wants done."""
        world, broker, clustering = self.world, self.broker, self.clustering
        more = True
        while more:
            more = False
            for reply in broker.take_replies(self.now()):
                self._between("an answer")
                more = True
                world.clients.answered(self, reply.session, reply.number, reply.message)
            for node, message in clustering.take_sent():
                self._between("a message")
                more = True
                world.net.send(self.me, node, message)
            for number, read in broker.reads.take_wanted():
                more = True
                self._reading += 1
                self.later(self._disk_time() / 2, lambda n=number, r=read: self._read(n, r))
        broker.compactions.clear()
        if life == self.life:
            self._write_if_wanted()
            self._set_alarm()

    def _between(self, edge: str) -> None:
        """Between two effects a node can die; `edge` is the next.  Errors: Died."""
        if self.boundary and self.world.rng.random() < self.boundary:
            self.world.note("edge met", self.me, edge)
            self.world.ledger.counts["fault boundary"] += 1
            self.world.ledger.counts[f"edge {edge}"] += 1
            raise Died

    def _read(self, number: int, read: Read, rows: Rows | None = None) -> None:
        found = perform_read(self.store, read) if rows is None else rows
        if rows is None and (late := self.world.plan.draw_late(self.world.rng)):
            self.later(late, lambda: self._read(number, read, found))
            return
        self._reading -= 1
        self.broker.read_done(self.now(), number, found)

    def _disk_time(self) -> float:
        return self.world.rng.uniform(*self.disk_delay)

    def _write_if_wanted(self) -> None:
        if not self._committing and self.broker.wants_write(self.now()):
            self._committing = True
            self.later(0.0, self._collect)

    def _collect(self) -> None:
        pending = self.broker.collect(self.now())
        if pending is None:
            self._committing = False
            return
        self.later(self._disk_time() / 2, lambda: self._write(pending))

    def _write(self, pending: Pending) -> None:
        self._between("a write")
        ledger = self.world.ledger
        self.world.wrote(self.me, pending.batch)
        dropping = ledger.disks.dropping(self.store, pending.batch)
        if self.torn:
            self.torn = False
            self.store.write(pending.batch, sync=False)
            self.die("torn")
            return
        try:
            self.store.write(pending.batch, sync=pending.sync)
        except DiskFull:
            self._wait_for_room(pending)
            return
        self._room_until = 0.0
        self.measure()
        ledger.wrote(self, pending.batch, dropping)
        look(self.store, pending)
        self._between("what is synced is told" if pending.sync else "what is written is told")
        self.later(self._disk_time() / 2, lambda: self._written(pending))

    def _wait_for_room(self, pending: Pending) -> None:
        """Do as the committer does: try again for a while, then the node ends.  Errors: DiskFull."""
        self._room_until = self._room_until or self.world.now + ROOM_WAIT
        if self.world.now >= self._room_until:
            raise DiskFull(self.name, 0, pending.batch.size)
        self.later(ROOM_STEP, lambda: self._write(pending))

    def measure(self) -> None:
        """Look how much room the disk has."""
        self.broker.surroundings.free_disk = self.store.free_bytes()

    def _written(self, pending: Pending) -> None:
        self._committing = False
        self.broker.written(self.now(), pending)

    def _set_alarm(self) -> None:
        due = self.broker.next_deadline()
        if due < self._wake_at:
            self._wake_at = due
            at = max(self.world.now, due - self._run_offset) + ROUNDING
            life = self.life
            self.world.at(at, lambda: self.happen(lambda: self._tick(due), life))
