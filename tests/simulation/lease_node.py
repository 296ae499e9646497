"""One node of the world of leases: the real cores, and a stand-in for what else is in a node."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmqnode.grants import GRANTS, Grants
from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.lease_effects import Acquired, HomesChanged, Lost, Persist, Serving, ToPeer
from dmqnode.leaseclock import LeaseClock, Reading
from dmqnode.leases import Leases
from dmqnode.peer_messages import Message

if TYPE_CHECKING:
    from tests.simulation.lease_world import World

PARTITIONS = [PartitionId(bytes([n]) * 10) for n in (1, 2)]
QUORUM = 2
"""W, how many disks an ack must be on at least."""


class Led:
    """What a leader keeps of one lease."""

    def __init__(self, number: LeaseNumber) -> None:
        self.number = number
        self.merged: set[NodeId] = set()
        self.waiting: dict[int, set[NodeId]] = {}
        """Acks that are not answered yet, and which nodes have confirmed each."""
        self.told = 0
        """How many acks there were; what homes must have come to in order to agree."""


class Host:
    """A node: `disk` survives crashes; `acks` are in memory and on disk, per partition."""

    def __init__(self, world: World, me: NodeId, drift: float) -> None:
        self.world, self.me = world, me
        self.up, self.paused, self.life = False, "", 0
        self.missed: list[tuple[NodeId, Any]] = []
        self.disk: dict[Any, Any] = {}
        self._writing: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._rate = 1.0 + drift
        self._read_at = 0.0
        self._reading = Reading(*(world.rng.uniform(0, 1e6) for _ in range(3)))

    # --- clocks --------------------------------------------------------------------------------------

    def _readings(self) -> Reading:
        passed = (self.world.now - self._read_at) * self._rate
        monotonic = 0.0 if self.paused in ("sleep", "virtual") else passed
        boot = 0.0 if self.paused == "virtual" else passed
        return Reading(
            self._reading.monotonic + monotonic, self._reading.boot + boot, self._reading.wall + passed
        )

    def _take_reading(self) -> None:
        self._reading, self._read_at = self._readings(), self.world.now
        self.clock.advance(self._reading)

    def step_wall(self) -> None:
        """Set the wall clock."""
        if not self.paused:
            self._reading, self._read_at = self._readings(), self.world.now
            step = self.world.rng.choice((0.1, 1.0, 3.0, 86400.0)) * self.world.rng.choice((-1, 1))
            self._reading = self._reading._replace(wall=self._reading.wall + step)
            self.world.note("wall clock", self.me[0], step)

    def holds(self, partition: PartitionId) -> bool:
        """Tell whether the node would believe in a lease at this instant, if it looked."""
        if partition not in self.leases._held:
            return False
        now, last = self._readings(), self.clock._last
        fast = self.clock.fast + max(0.0, *(a - b for a, b in zip(now, last)))
        return self.leases.held(fast, partition) is not None

    def serves(self, partition: PartitionId) -> bool:
        """Tell whether the node would deliver at this instant."""
        return self.up and self.holds(partition) and self.leases._held[partition].serving

    # --- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again with what is on disk."""
        rng = self.world.rng
        self.up, self.paused, self.life = True, "", self.life + 1
        self._reading, self._read_at = self._readings(), self.world.now
        self.clock = LeaseClock(self._reading)
        self.grants = Grants(self.me, self.clock.slow + Grants.silence(self.life), self._is_ready)
        self.leases = Leases(self.me, self.grants, random.Random(rng.getrandbits(32)), self._mark)
        self.acks = {p: set(self.disk.get(("acks", p), ())) for p in PARTITIONS}
        self.led: dict[PartitionId, Led] = {}
        self.merged_by = dict.fromkeys(PARTITIONS, NO_LEASE)
        for partition in PARTITIONS:
            if GRANTS + partition in self.disk:
                self.grants.load(partition, self.disk[GRANTS + partition])
        self.world.note("start", self.me[0])
        life = self.life
        self.world.after(rng.uniform(0.0, 0.1), lambda: self._tick(life))

    def crash(self) -> None:
        """Lose all but the disk; of the writes under way, some first ones may have come through."""
        self.world.note("crash", self.me[0])
        self.world.counts["crashes"] += 1
        done = self.world.rng.randint(0, len(self._writing))
        for apply, _ in self._writing[:done]:
            apply()
        self._writing, self.missed = [], []
        self.up = False
        back = self.world.rng.choice((0.01, 0.01, 0.3, 1.0, 4.0))
        life = self.life
        self.world.after(back, lambda: None if self.up or life != self.life else self.start())

    def pause(self, kind: str) -> None:
        """Stand still: all clocks go on, or the machine sleeps, or the virtual machine is halted."""
        self._take_reading()
        self.paused = kind
        self.world.note("pause", self.me[0], kind)

    def resume(self) -> None:
        """Go on with what came meanwhile."""
        if self.up and self.paused:
            self._reading, self._read_at = self._readings(), self.world.now
            self.paused = ""
            self.world.note("resume", self.me[0])
            missed, self.missed = self.missed, []
            for sender, message in missed:
                if self.up:
                    self.receive(sender, message)

    def _write(self, apply: Callable[[], None], then: Callable[[], None]) -> None:
        """Write in order; `then` is called when it is on disk, unless the node crashes before."""
        life, entry = self.life, (apply, then)
        self._writing.append(entry)

        def done() -> None:
            if self.life == life and self.up:
                if self.paused:
                    self.world.after(0.05, done)
                    return
                while entry in self._writing:
                    first, after = self._writing.pop(0)
                    first()
                    self._crash_now()
                    if self.up:
                        after()

        self.world.after(self.world.rng.expovariate(150.0), done)

    def _crash_now(self) -> None:
        plan = self.world.plan
        if self.world.faults and self.up and plan.boundary and self.world.rng.random() < plan.boundary:
            self.crash()

    def _store(self, key: bytes, value: bytes | None) -> None:
        """Write a promise, which must never go back (H4)."""
        before, partition = self.disk.get(key), PartitionId(key[len(GRANTS) :])
        if value is None:
            self.disk.pop(key)
        else:
            self.disk[key] = value
        if before is not None:
            old, new = (Grants(self.me, 0.0, self._is_ready) for _ in range(2))
            old.load(partition, before)
            if value is not None:
                new.load(partition, value)
            was, is_now = old.find(partition), new.find(partition)
            self.world.check_promise(self, was, is_now)

    # --- the crank -----------------------------------------------------------------------------------

    def receive(self, sender: NodeId, message: Any) -> None:
        """Take in a message."""
        self._take_reading()
        if isinstance(message, Message):
            self.leases.receive(self.clock.fast, self.clock.slow, sender, message)
        else:
            getattr(self, f"_on_{message[0]}")(sender, *message[1:])
        self._drain()

    def _tick(self, life: int) -> None:
        if not self.up or self.life != life:
            return
        rng = self.world.rng
        self.world.after(rng.uniform(0.04, 0.12), lambda: self._tick(life))
        if self.paused:
            return
        self._take_reading()
        self.leases.tick(self.clock.fast)
        for partition in PARTITIONS:
            if partition in self.led:
                self._lead(partition, self.led[partition])
            elif rng.random() < self.world.plan.claim:
                promise = self.grants.find(partition)
                record = self.world.first[partition] if promise is None else promise.record
                if self.me in record.members or rng.random() < 0.02:
                    self.leases.want(self.clock.fast, partition, self.world.first[partition])
        self._drain()

    def _drain(self) -> None:
        for effect in self.leases.take_effects() if self.up else ():
            self._crash_now()
            if not self.up:
                return
            match effect:
                case ToPeer():
                    self.world.send(self.me, effect.node, effect.message)
                case Persist():
                    self._persist(effect)
                case Acquired():
                    self.led[effect.partition] = Led(effect.number)
                    self.world.acquired(self, effect.partition, effect.number)
                    self._ask_for_acks(effect.partition)
                case Serving():
                    self.world.note("serves", self.me[0], effect.partition[0], effect.number.n)
                    if self.serves(effect.partition):
                        self.world.served(self, effect.partition)
                case Lost():
                    self.led.pop(effect.partition, None)
                case HomesChanged():
                    self.world.counts["commits"] += 1
                    self.world.note("homes", *(n[0] for n in effect.record.new))
                    if self.me not in effect.record.new and self.world.rng.random() < 0.5:
                        self.leases.release(effect.partition, effect.record.new[0])
        if self.up and self.leases._effects:
            self._drain()

    def _persist(self, effect: Persist) -> None:
        items = list(effect.ops)

        def apply() -> None:
            for key, value in items:
                self._store(key, value)

        def then() -> None:
            for node, message in effect.then:
                self._crash_now()
                if self.up:
                    self.world.send(self.me, node, message)

        self._write(apply, then)

    # --- what a leader does --------------------------------------------------------------------------

    def _mark(self, partition: PartitionId) -> int:
        return self.led[partition].told

    def _record(self, partition: PartitionId) -> HomeSet:
        record = self.leases.counted(partition)
        assert record is not None
        return record

    def _tell(self, partition: PartitionId, *message: Any) -> None:
        for node in self._record(partition).members:
            self.world.send(self.me, node, message)

    def _ask_for_acks(self, partition: PartitionId) -> None:
        self._tell(partition, "fetch", partition, self.led[partition].number)

    def _lead(self, partition: PartitionId, led: Led) -> None:
        lease = self.leases.held(self.clock.fast, partition)
        if lease is None:
            return
        rng, plan = self.world.rng, self.world.plan
        if lease.proposal is not None:
            everything = frozenset(self.acks[partition])
            self._tell(partition, "sync", partition, led.number, led.told, everything)
        elif not lease.serving:
            self._ask_for_acks(partition)
            return
        for ack in list(led.waiting)[:3]:
            self._tell(partition, "ack", partition, led.number, ack)
        if rng.random() < 0.5 and len(led.waiting) < 20:
            ack = self.world.new_ack()
            led.told += 1
            led.waiting[ack] = set()
            self.acks[partition].add(ack)
            self._tell(partition, "ack", partition, led.number, ack)
        if rng.random() < plan.move and lease.proposal is None:
            self.leases.propose(self.clock.fast, partition, self._other_homes(lease.record.new))
        elif rng.random() < plan.release:
            self.leases.release(partition, rng.choice(lease.counted.members))

    def _other_homes(self, homes: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        rng = self.world.rng
        out = [n for n in self.world.hosts if n not in homes]
        new = list(homes)
        kind = rng.random()
        if out and kind < 0.6:
            new[rng.randrange(len(new))] = rng.choice(out)
            if rng.random() < 0.3:
                new = list(dict.fromkeys([*new[:1], *out]))[: len(homes)]
        elif out and kind < 0.8 and len(new) < 4:
            new.append(rng.choice(out))
        elif len(new) > 1:
            new.pop(rng.randrange(len(new)))
        return tuple(new)

    # --- acks ----------------------------------------------------------------------------------------

    def _save_acks(self, partition: PartitionId, acks: frozenset[int], then: Callable[[], None]) -> None:
        self.acks[partition] |= acks

        def apply() -> None:
            self.disk[("acks", partition)] = self.disk.get(("acks", partition), frozenset()) | acks

        self._write(apply, then)

    def _on_fetch(self, sender: NodeId, partition: PartitionId, number: LeaseNumber) -> None:
        if not self.grants.accepts(partition, number):
            return
        promise = self.grants.find(partition)
        if promise is not None and promise.highest == number:
            self.merged_by[partition] = max(self.merged_by[partition], number)
        everything = frozenset(self.acks[partition])
        self.world.send(self.me, sender, ("fetched", partition, number, everything))

    def _on_fetched(self, sender: NodeId, partition: PartitionId, number: LeaseNumber, acks: Any) -> None:
        led = self.led.get(partition)
        if led is None or led.number != number:
            return

        def merged() -> None:
            led.merged.add(sender)
            if self.led.get(partition) is led and self._record(partition).has_majority(led.merged):
                self.leases.merged(self.clock.fast, partition, number)
                self._drain()

        self._save_acks(partition, acks, merged)

    def _on_ack(self, sender: NodeId, partition: PartitionId, number: LeaseNumber, ack: int) -> None:
        if self.grants.accepts(partition, number):
            if number < self.merged_by[partition]:
                self.world.stale_write(self, partition)
            confirm = lambda: self.world.send(self.me, sender, ("confirmed", partition, number, ack))
            self._save_acks(partition, frozenset([ack]), confirm)

    def _on_confirmed(self, sender: NodeId, partition: PartitionId, number: LeaseNumber, ack: int) -> None:
        led = self.led.get(partition)
        if led is None or led.number != number or ack not in led.waiting:
            return
        led.waiting[ack].add(sender)
        enough = self._record(partition).has_quorum(led.waiting[ack], QUORUM)
        if enough and self.leases.leads(self.clock.fast, partition, number):
            del led.waiting[ack]
            self.world.answer(self, partition, ack)

    def _on_sync(
        self, sender: NodeId, partition: PartitionId, number: LeaseNumber, mark: int, acks: frozenset[int]
    ) -> None:
        if not self.grants.accepts(partition, number):
            return

        def synced() -> None:
            self.disk[("ready", partition)] = max(
                self.disk.get(("ready", partition), (NO_LEASE, 0)), (number, mark)
            )

        self._save_acks(partition, acks, synced)

    def _is_ready(self, partition: PartitionId, number: LeaseNumber, mark: int) -> bool:
        known, reached = self.disk.get(("ready", partition), (NO_LEASE, 0))
        return bool(known == number and reached >= mark)
