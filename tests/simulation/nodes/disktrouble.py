"""What goes wrong with the disks of whole nodes, which others restart as a supervisor does.

All time is virtual (MockClock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dmqnode.grants import GRANTS
from dmqnode.keys import DEBTS
from tests.simulation.nodes.trouble import Trouble

if TYPE_CHECKING:
    from tests.simulation.nodes.box import Box

PARTITION = b"p"


class DiskTrouble(Trouble):
    """Faults of disks, and of everything else."""

    async def heal(self) -> None:
        """End all that goes wrong, and start what should be running."""
        for box in self._world.boxes:
            box.faults.capacity = None
            self._fail(box, 0.0)
        await super().heal()

    async def _torn(self) -> None:
        """The power is cut while a write goes to the disk."""
        await self._kill("torn")

    def _fail(self, box: Box, chance: float) -> None:
        box.faults.read_error = box.faults.write_error = box.faults.sync_error = chance

    async def _eio(self) -> None:
        """A disk fails now and then, and is well again."""
        box, seconds = self._box(), self._long()
        box.supervised = True
        self._disturbed("eio", seconds + 1.0)
        self._fail(box, self._rng.choice((0.002, 0.02, 0.3)))
        await trio.sleep(seconds)
        self._fail(box, 0.0)

    async def _full(self) -> None:
        """Something else fills a disk, and is deleted in the end."""
        box, seconds = self._box(), self._rng.choice((1.5, 3.0, 8.0))
        box.supervised = True
        self._disturbed("full", seconds + 1.0)
        left = self._rng.choice((0, 300, 5000, 100 << 20))
        self._world.note("full", box.name, left)
        box.faults.capacity = box.store._bytes + left
        await trio.sleep(seconds)
        box.faults.capacity = None

    async def _rot(self) -> None:
        """Bits of what has been stored change under a running node: others have whole copies."""
        box = next((b for b in self._world.wanted if b.rotten), None) or self._box()
        box.rotten = True
        self._disturbed("rot", 6.0)
        for _ in range(self._rng.randint(3, 12)):
            keys = [k for k in box.store._keys if k[:1] in (PARTITION, DEBTS, GRANTS)]
            for key in self._rng.sample(keys, min(len(keys), self._rng.randint(1, 3))):
                self._world.note("rot", box.name, key)
                box.store.damage(key, self._rng)
            await trio.sleep(self._rng.choice((0.0, 0.2, 1.0)))
        if self._rng.random() < 0.5:
            box.die("kill")
            await trio.sleep(0.5)
            await self._back(box)
