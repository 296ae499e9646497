"""What must be on disks: a send when it is answered (P1), and a debt elsewhere before it is dropped (C1)."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from dmqnode.batch import parse
from dmqnode.ids import PARTITION_ID_SIZE, LogId, PartitionId, QueueId
from dmqnode.keys import DEBTS, PartitionKeys
from dmqnode.messages import Stored
from dmqnode.roster import quorum
from storage.memory import MemoryStore
from storage.ops import WriteBatch
from storage.records import CHECK_SIZE, unseal
from tests.simulation.damage import holds, numbers_in

BATCH_AT = 1 + PARTITION_ID_SIZE
"""Where in the key of a partition's record its kind stands."""

if TYPE_CHECKING:
    from dmqnode.partition import Collected, Partition
    from tests.simulation.host import Host
    from tests.simulation.world import World


class Disks:
    """Looks at all disks at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lossy = bool({"rot", "flip", "rust"} & set(world.plan.faults))

    def _least(self) -> int:
        plan = self._world.plan
        return quorum(self._world.roster, plan.replicas, plan.write_quorum)

    # --- what is answered ----------------------------------------------------------------------------

    def answered(self, host: Host, collected: Collected, stored: Stored) -> tuple[str, int] | None:
        """A leader answers a send: tell what is wrong with that, and of which message (-1: not known)."""
        partition = collected.partition
        for log_id, first, count in stored.runs:
            log = partition.logs.get(LogId(log_id))
            if log is None or log.dead.ranges.overlap(first, first + count):
                continue
            if wrong := self._too_few(host, partition.id, LogId(log_id), first):
                key = PartitionKeys.of(partition.id).batch(LogId(log_id), first)
                raw = host.store._records.get(key, b"")
                return wrong, next(iter(numbers_in(raw[CHECK_SIZE:])), -1)
        return None

    def kept(
        self, host: Host, partition: PartitionId, stored: Stored, batch: bytes
    ) -> tuple[str, int] | None:
        """A stand-in answers a send: tell what is wrong with that, and of which message.

        Its copies may have been handed over meanwhile, and have died if the send was repeated: others count.
        They may have been purged, too, by the time at which the last who keeps them is heard.
        """
        for log_id, first, _ in stored.runs:
            wrong = self._too_few(host, partition, LogId(log_id), first)
            numbers = [int(body[:6]) for body in parse(batch).bodies()]
            if wrong and self._swept(partition, LogId(log_id), first, numbers):
                continue
            if wrong and self._few_have(partition, numbers, debts=True):
                return wrong, numbers[0]
        return None

    def _swept(self, partition: PartitionId, log: LogId, seq: int, numbers: list[int]) -> bool:
        """Whether messages were sent before a purge, and who leads has let them die by it."""
        ledger = self._world.ledger
        led = [h.clustering.hosted.served(partition) for h in self._world.hosts.values() if h.up]
        died = any(_is_dead(p, log, seq) for shard in led if shard is not None for p in shard.partitions)
        return died and all(ledger.fates.may_be_over(ledger.messages[n]) for n in numbers)

    def _too_few(self, host: Host, partition: PartitionId, log: LogId, first: int) -> str | None:
        if {"rot", "rust"} & set(self._world.plan.faults):
            return None  # what was damaged and set aside since is not there any more
        if self.deleted(partition):
            return None
        on = [h.name for h in self._world.hosts.values() if holds(h.store, partition, log, first)]
        if len(on) >= self._least():
            return None
        return f"{host.name} answers, and only {on} have {log.hex()}-{first} on disk"

    def deleted(self, partition: PartitionId) -> bool:
        """Whether a queue is deleted: where that is known nothing of it is kept any more."""
        return any(h.clustering.catalog.deleted(QueueId(partition[:8])) for h in self._world.hosts.values())

    # --- what is dropped -----------------------------------------------------------------------------

    def dropping(self, store: MemoryStore, batch: WriteBatch) -> dict[PartitionId, list[int]]:
        """Return which messages a write drops that are kept for others, by their numbers."""
        found: dict[PartitionId, list[int]] = {}
        for key, value in batch:
            raw = store._records.get(key) if value is None and key[:1] == DEBTS else None
            if raw is not None and (record := unseal(key, raw)) is not None:
                partition = PartitionId(key[len(DEBTS) : len(DEBTS) + PARTITION_ID_SIZE])
                found.setdefault(partition, []).extend(numbers_in(record))
        return found

    def dropped(self, host: Host, partition: PartitionId, numbers: list[int]) -> tuple[str, int] | None:
        """They are dropped: tell what is wrong with that, and of which of them."""
        awaited = [] if self.deleted(partition) else [n for n in numbers if self._awaited(n)]
        if found := None if self._lossy else self._few_have(partition, awaited):
            return f"{host.name} drops a debt that only {found[0]} have in its place", found[1]
        return None

    def _few_have(
        self, partition: PartitionId, numbers: list[int], *, debts: bool = False
    ) -> tuple[list[str], int] | None:
        """Return who has one of these messages, and which, if that are too few."""
        prefixes = [PartitionKeys.of(partition).batches()[0], *([DEBTS + partition] if debts else ())]
        on = (
            [(h.name, numbers_lasting(h.store, prefixes)) for h in self._world.hosts.values()]
            if numbers
            else []
        )
        for number in numbers:
            having = [name for name, there in on if number in there]
            if len(having) < self._least() and self._world.ledger.messages[number].acking_at < 0:
                return having, number
        return None

    def twice(self, number: int, ids: Container[tuple[LogId, int]]) -> bool:
        """Whether a message is on some disk under an id that is none of these, too."""
        for host in self._world.hosts.values():
            for key, raw in host.store._records.items():
                if key[:1] != b"p" or key[BATCH_AT : BATCH_AT + 1] != b"b":
                    continue
                log, first = LogId(key[BATCH_AT + 1 : -8]), int.from_bytes(key[-8:], "big")
                numbers = numbers_in(value) if (value := unseal(key, raw)) is not None else []
                if number in numbers and (log, first + numbers.index(number)) not in ids:
                    return True
        return False

    def _awaited(self, number: int) -> bool:
        """Whether a message must be somewhere: it was answered "stored", and nobody may have settled it."""
        ledger = self._world.ledger
        message = ledger.messages[number]
        over = message.acking_at >= 0 or message.buried or ledger.fates.may_be_over(message)
        return message.outcome == "stored" and not over and "max_attempts" not in message.queue.settings


def _is_dead(partition: Partition, log: LogId, seq: int) -> bool:
    known = partition.logs.get(log)
    dead = known is not None and known.dead.ranges.overlap(seq, seq + 1)
    return bool(dead) or partition.closed.get(log, 0) > seq


def numbers_lasting(store: MemoryStore, prefixes: list[bytes]) -> set[int]:
    """Return the numbers of the messages under these prefixes that would survive a power cut."""
    unsure = {key for undo in store._undo for key in undo}
    found: set[int] = set()
    for key, raw in store._records.items():
        wanted = key.startswith(tuple(prefixes)) and key not in unsure
        if wanted and (value := unseal(key, raw)) is not None:
            found.update(numbers_in(value))
    return found
