"""P8 of whole nodes: how much of what their shells and cores have is in memory, at work and at rest.

All time is virtual (MockClock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.simulation.bounds import Around, excess

if TYPE_CHECKING:
    from tests.simulation.nodes.errands import Errands
    from tests.simulation.nodes.world import World

BEGIN_ANEW = (
    "wipe",
    "damage",
    "rot",
    "restore",
    "replace",
    "twin",
    "torn",
    "destroy",
    "full",
    "eio",
    "relapse",
)
"""Faults after which a machine may have a node with another id."""
REST = 3.0
"""Seconds after the last client has gone in which what was kept for it goes, too."""


RESTS = 5
"""How often it is looked again: what stays is kept for ever, what goes was under way."""


def weigh(world: World, errands: Errands) -> None:
    """See that no node holds more in memory than it may while there is work.  Errors: Broken."""
    if wrong := _excess(world, errands, rest=False):
        world.accounts.broken("P8", "unbounded", wrong)


async def weigh_at_rest(world: World, errands: Errands) -> None:
    """Wait until the clients are gone, and weigh.  Errors: Broken."""
    wrong = ""
    for _ in range(RESTS):
        await trio.sleep(REST)
        wrong = _excess(world, errands, rest=True)
        if not wrong:
            return
    world.accounts.broken("P8", "unbounded", wrong)


def _excess(world: World, errands: Errands, *, rest: bool) -> str:
    """Return what a node holds more than it may."""
    partitions = sum(settings.get("partitions", 3) for settings in errands.queues.values())
    clients = world.plan.producers + world.plan.consumers + 2
    busy = clients + sum(m.acking_at < 0 for m in world.accounts.messages)
    anew = sum(world.accounts.counts[f"fault {kind}"] for kind in BEGIN_ANEW)
    ids = len(world.boxes) + anew + sum(box.forgotten for box in world.boxes)
    around = Around(ids, len(errands.queues), partitions, busy)
    for box in world.wanted:
        if box.up and (wrong := excess(box.node, around, rest=rest)):
            return f"{box.name}{' at rest' if rest else ''}: {'; '.join(wrong)}"
    return ""
