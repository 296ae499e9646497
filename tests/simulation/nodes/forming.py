"""Most homes are destroyed, and of those that are left one knows what the others do not (M4).

    C is cut off ── what is sent meanwhile is on A, and on others that burn ── C is back, A is slow
        ── an operator says who burned ── homes are formed anew of A, C, and those that had nothing
        ── what A has comes out, in its place, and what was acked and is known to A does not

All time is virtual (MockClock).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from dmqnode import questions
from tests.simulation.likeness import home_set
from tests.simulation.nodes.changes import CLIENT, OPERATOR
from tests.simulation.nodes.edgetrouble import EdgeTrouble

if TYPE_CHECKING:
    from dmqnode.ids import NodeId, PartitionId

LATE = 0.1
"""Seconds from an ack's answer within which all homes that are not cut off know of it."""
BUSY = (0.5, 2.0, 6.0)
"""Seconds for which one does not hear what the others do."""
SLOW = (0.1, 0.2, 0.4)
"""Seconds by which what another says then may be late: not so late that it is taken for dead."""


class Forming(EdgeTrouble):
    """Everything that goes wrong, and this."""

    async def _straggle(self) -> None:
        """As `_burn`, while of those that are left one has missed something, and another is slow."""
        world, rng = self._world, self._rng
        if len(world.wanted) < 4:
            return
        await self._whole()
        boxes = list(world.wanted)
        rng.shuffle(boxes)
        lost, left = boxes[: (len(boxes) + 1) // 2], boxes[(len(boxes) + 1) // 2 :]
        nodes = [box.me for box in lost]
        deaf, slow, late = left[0], left[-1], rng.choice(SLOW)
        since = trio.current_time() - LATE
        await self._cut("isolate", self._between([deaf.host]), rng.choice(BUSY))
        now = trio.current_time()
        world.forgiven.append((now - LATE, now + LATE))
        hearing = {box.me for box in left if box is not deaf}
        world.accounts.unheard(since, lambda partition: self._any_home(partition, hearing))
        self._burns(lost)
        for box in left:
            if box is not slow:
                world.net.slow[slow.host, box.host] = late
        self._disturbed("slow", OPERATOR)
        await trio.sleep(rng.choice((2.5, 5.0)))
        for node in nodes:
            # Where most are gone a node decides by itself (M5): two of them, asked at once, might differ.
            gone = partial(questions.change_members, "forget", node, destroyed=True)
            await self._command(gone, through=deaf)
        await trio.sleep(rng.choice((3.0, 6.0)))
        world.net.slow.clear()
        await world.until(lambda: not world.strange(), OPERATOR, "P7", "views")
        await trio.sleep(CLIENT)  # as for `_burn`

    def _any_home(self, partition: PartitionId, nodes: set[NodeId]) -> bool:
        record = home_set(self._world, partition)  # type: ignore[arg-type]
        return record is not None and not nodes.isdisjoint(record.new)
