"""Who may get a message that another consumer has: nobody, but for what P4 says of crashes and clocks.

A delivery is a note on the disks of the homes.  Once a majority of them has it every later leader knows it:
one of those that it asks has it, and it goes by the one that followed furthest (N1).  So what comes again
before its time is excused only if
  - another leads, or the same one anew, and the note was not on a majority: it had not got there when
    something went wrong, or a power cut took what was not synced;
  - or clocks differ, by which the next leader knows when the delivery ends, by no less than it was early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.errors import ProtocolError
from dmqnode.ids import PARTITION_ID_SIZE, NodeId, PartitionId
from dmqnode.messages import Part
from dmqnode.records import Note, decode_note
from storage.ops import WriteBatch
from storage.records import unseal
from tests.simulation.likeness import home_set
from tests.simulation.sent import MARGIN, Hold

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.world import World

NOTE_AT = 1 + PARTITION_ID_SIZE
"""Where the letter is in a key of a partition."""
ROUNDING = 20
"""Milliseconds by which a note's time and the accountant's may differ."""


class Notes:
    """Which disks have a note of which delivery, and how far clocks have been apart."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._noted: dict[tuple[PartitionId, int], dict[NodeId, int]] = {}
        """(partition, delivery) -> disk -> until when the note on it hides, ms of the wall clock."""
        self._offsets: list[tuple[float, NodeId, int]] = []

    # --- what is noted -------------------------------------------------------------------------------

    def wrote(self, host: Host, batch: WriteBatch) -> None:
        """A node has written."""
        for key, value in batch:
            if value is not None and key[:1] == b"p" and key[NOTE_AT : NOTE_AT + 1] == b"n":
                self._take(host, key, value)

    def _take(self, host: Host, key: bytes, value: bytes) -> None:
        note = _read(value)
        if note is not None and note.delivery:
            disks = self._noted.setdefault((PartitionId(key[1:NOTE_AT]), note.delivery), {})
            disks[host.me] = max(disks.get(host.me, 0), note.until)

    def forgot(self, host: Host) -> None:
        """The power of a machine was cut, or its disk has forgotten something: only what survived counts."""
        for disks in self._noted.values():
            disks.pop(host.me, None)
        for key, raw in host.store._records.items():
            if key[:1] == b"p" and key[NOTE_AT : NOTE_AT + 1] == b"n" and (value := unseal(key, raw)):
                self._take(host, key, value)

    # --- clocks --------------------------------------------------------------------------------------

    def stepped(self, host: Host) -> None:
        """The wall clock of a node is about to be set."""
        self._offsets.append((self._world.now, host.me, host.wall_offset))

    def apart(self, since: float) -> float:
        """Return by how many seconds two clocks have differed since a time, at the most."""
        seen = [h.wall_offset for h in self._world.hosts.values()]
        seen += [offset for time, _, offset in self._offsets if time >= since]
        return (max(seen) - min(seen)) / 1000

    # --- judging -------------------------------------------------------------------------------------

    def hold(self, host: Host, part: Part, until: float) -> Hold:
        """A message is delivered: return who has it from now on."""
        hold = Hold(part.delivery, part.partition, host.me, self._world.now, until)
        hold.lease = lease_of(host, part.partition)
        hold.offset = host.wall_offset
        return hold

    def known(self, hold: Hold) -> bool:
        """Whether every later leader knows of a delivery, as it is now."""
        until = 1_700_000_000_000 + round(hold.until * 1000) + hold.offset - ROUNDING
        disks = self._noted.get((hold.partition, hold.delivery), {})
        homes = home_set(self._world, hold.partition)
        return homes is not None and homes.has_majority([n for n, at in disks.items() if at >= until])

    def same_lease(self, host: Host, partition: PartitionId, hold: Hold) -> bool:
        """Whether who delivers now is who delivered then, and has led all the time."""
        return partition == hold.partition and lease_of(host, partition) == hold.lease

    def over(self, host: Host, partition: PartitionId, hold: Hold) -> bool:
        """Whether a delivery is over, or may be: another leader knows its end by the wall clock."""
        early = 0.001 if self.same_lease(host, partition, hold) else self.early(hold)
        return self._world.now >= hold.until - early

    def early(self, hold: Hold) -> float:
        """Return by how many seconds before its end a delivery may be over for another leader."""
        return self.apart(hold.at) + MARGIN / 2


def lease_of(host: Host, partition: PartitionId) -> object:
    """Return the lease under which a node leads a partition."""
    lease = host.clustering.cluster.leases._held.get(partition)
    return (host.me, host.life) if lease is None else (lease.number.n, host.me, host.life)


def _read(record: bytes) -> Note | None:
    try:
        return decode_note(record)
    except (ProtocolError, ValueError, TypeError, LookupError):
        return None
