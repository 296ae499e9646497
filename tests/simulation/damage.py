"""What damaged records do to the messages in them, and where intact copies are, as the accountant sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cbor2

from dmqnode.errors import ProtocolError
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import DEBTS, PartitionKeys
from dmqnode.records import Unreadable, decode_batch
from storage.faults import Faults
from storage.memory import MemoryStore
from storage.records import CHECK_SIZE, unseal
from tests.simulation.likeness import peek

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(slots=True, kw_only=True)
class Rot(Faults):
    """A disk's faults that tell of every record that they damage."""

    damage: Damage
    disk: bytes
    batches_only: bool = False

    def flip_bit(self, raw: bytes) -> bytes:
        """Damage a record."""
        if self.batches_only and not numbers_in(raw[CHECK_SIZE:]):
            return raw
        if self.flip:  # chance did it, as a write was made
            self.damage.count("rot" if self.batches_only else "flip")
        self.damage.happened(raw, self.disk)
        return Faults.flip_bit(self, raw)


class Damage:
    """Knows which messages may be lost: those of which the last intact copy was damaged (P2).

    A copy that was deleted was never the last one: whoever lost a message in that way is to blame.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._harmed: dict[int, set[bytes]] = {}
        """On which disks a copy of each message was damaged."""
        self.destroyed: set[int] = set()

    def count(self, kind: str) -> None:
        """A fault of a kind has hit a disk."""
        self._world.ledger.counts[f"fault {kind}"] += 1

    def happened(self, raw: bytes, disk: bytes) -> None:
        """A record on a disk is damaged."""
        numbers = numbers_in(raw[CHECK_SIZE:])
        for number in numbers:
            self._harmed.setdefault(number, set()).add(disk)
        self._world.after(0.0, lambda: self.look(numbers))

    def look(self, numbers: list[int]) -> None:
        """Messages were damaged, or answered "stored": see whether a copy is left of those that are both."""
        stored = [n for n in numbers if n in self._harmed and self._is_stored(n)]
        if stored:
            self.destroyed |= set(stored) - numbers_on_disks(self._world)

    def excuses(self, number: int) -> bool:
        """Whether a message may be lost: its last copy was damaged, or those of two disks and none is left.

        A third copy is deleted once two homes have confirmed theirs, and damage is silent.
        """
        if number in self.destroyed:
            return True
        return len(self._harmed.get(number, ())) > 1 and number not in numbers_on_disks(self._world)

    def _is_stored(self, number: int) -> bool:
        return self._world.ledger.messages[number].outcome == "stored"


def holds(store: MemoryStore, partition: PartitionId, log: LogId, seq: int) -> bool:
    """Whether a message would survive a power cut on this disk, in its place or as a debt."""
    if _lasts(store, DEBTS + partition + log + seq.to_bytes(8, "big")):
        return True
    keys = PartitionKeys.of(partition)
    found = peek(store).scan(keys.batch(log, 0), keys.batch(log, seq) + b"\x00", limit=1, reverse=True)
    if found.damaged:
        return True  # it was written, and damaged then
    for row in found.rows:
        within = keys.first_seq(row.key) + decode_batch(row.value)[2].count > seq
        return within and _lasts(store, row.key)
    return False


def _lasts(store: MemoryStore, key: bytes) -> bool:
    """Whether a record would survive a power cut as it is."""
    raw = store._records.get(key)
    return raw is not None and all(undo.get(key, raw) == raw for undo in store._undo)


def numbers_in(record: bytes) -> list[int]:
    """Return the numbers of the messages in what is stored under some key: a batch, or a debt."""
    for candidate in (record, _batch_of_debt(record)):
        try:
            batch = decode_batch(candidate)[2]
        except (Unreadable, ProtocolError):
            continue
        return [int(body[:6]) for body in batch.bodies() if body[:6].isdigit()]
    return []


def _batch_of_debt(record: bytes) -> bytes:
    try:
        found = cbor2.loads(record)
        return bytes(found[3])
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError):
        return b""


def numbers_on_disks(world: World) -> set[int]:
    """Return the numbers of all messages of which some disk has an intact copy."""
    found: set[int] = set()
    for host in world.hosts.values():
        for key, raw in host.store._records.items():
            if key[:1] == DEBTS or (key[:1] == b"p" and key[11:12] == b"b"):
                value = unseal(key, raw)
                if value is not None:
                    found.update(numbers_in(value))
    return found
