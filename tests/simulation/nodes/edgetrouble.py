"""Nodes that die between two effects, members that are struck off by command, and clusters that meet.

All time is virtual (MockClock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dmqnode import questions
from dmqnode.belonging import COUNT_EVERY
from dmqnode.errors import DMQError
from dmqnode.hearing import NOTICED
from tests.simulation.nodes.changes import OPERATOR, Changes
from tests.simulation.nodes.edges import OFTEN, RARE, Edge
from tests.simulation.nodes.errands import one_client
from tests.simulation.nodes.strangers import Strangers

if TYPE_CHECKING:
    from dmqnode.ids import NodeId
    from tests.simulation.nodes.box import Box

AGAIN = 0.3
"""How often a node that died at an effect meets the next of the kind like that, too."""
SOON = 8.0
"""Seconds within which a node comes to an effect that is frequent."""
FORGOTTEN = 20.0
"""Seconds within which those who were away for too long are off the list, and others have their homes."""
BEHIND = 8.0
"""Seconds behind a cut in which a node that serves there is seen to do it."""
RELAPSED = 20.0
"""Seconds for which a node is off whose disk goes back."""
ALTERING = ("join", "leave", "destroy", "forget", "replace")
"""What alters the list of members."""
ALONE = ("destroy", "forget", "wipe", "replace", "damage", "restore", "absent")
"""Beside what no disk may be lost at an effect."""


class EdgeTrouble(Changes):
    """Faults that only seeds of their own draw, and everything else."""

    async def heal(self) -> None:
        """End all that goes wrong, and start what should be running."""
        self._world.edge = None
        await super().heal()

    # --- between two effects -------------------------------------------------------------------------

    async def _boundary(self) -> None:
        """A node dies at an effect: soon, or when what goes wrong next brings about one of the kind."""
        world, plan = self._world, self._world.plan
        follows = plan.faults[-1] != "boundary" and self._rng.random() < 0.9
        point = plan.edge or self._rng.choice(self._likely() if follows else OFTEN)
        box = self._box() if point in OFTEN else None
        alone = (*ALONE, "leave") if plan.nodes < 4 else ALONE  # two are left (M5)
        first = not set(plan.faults) & set(alone) and not world.accounts.counts["fault wipe"]
        edge = Edge(self._rng, point, box, self._rng.choice(("kill", "power", "wipe" if first else "power")))
        world.edge = edge
        world.note("edge", str(edge))
        world.nursery.start_soon(self._die_at, edge)
        if not follows:
            with trio.move_on_after(SOON):
                await edge.reached.wait()

    def _likely(self) -> tuple[str, ...]:
        """Return the kinds of effects that what goes wrong next brings about, and others."""
        faults = self._world.plan.faults
        following = faults[faults.index("boundary") + 1]
        return (*RARE, *RARE, *OFTEN) if following in ALTERING else ("hint",) * 6 + OFTEN

    async def _die_at(self, edge: Edge) -> None:
        """See to what becomes of a node that dies at an edge."""
        await edge.reached.wait()
        box, absence = edge.victim, self._rng.choice((0.05, 1.0, 4.0, 12.0))
        assert box is not None
        world = self._world
        world.note("edge met", str(edge), box.name)
        world.accounts.counts["fault boundary"] += 1
        world.accounts.counts[f"edge {edge.name}"] += 1
        self._disturbed(edge.how, absence)
        if world.edge is edge:
            world.edge = None
        if edge.how == "wipe":
            box.join = self._others(box)
        await trio.sleep(absence)
        if world.edge is None and not world.calm and self._rng.random() < AGAIN and not world.plan.edge:
            again = world.edge = Edge(self._rng, edge.point, box, self._rng.choice(("kill", "power")))
            world.note("edge", str(again))
            world.nursery.start_soon(self._die_at, again)
        if box.wanted and not box.off:
            await self._back(box)

    # --- members -------------------------------------------------------------------------------------

    async def _astray(self) -> None:
        """Most homes of a queue, though few of the members, are forgotten, and go on behind a cut (M3)."""
        world = self._world
        await self._whole()
        homes = self._homes_of_one_queue()
        lost = homes[: min(len(homes) // 2 + 1, (len(world.wanted) - 1) // 2)]
        world.forgiven.append((trio.current_time() - 1.0, trio.current_time() + 1.0))
        self._disturbed("astray", world.plan.dead_after)
        stopped = self._rng.random() < 0.5
        for box in lost:
            box.may_end = True
            if stopped:
                box.pause()
            else:
                box.die("kill")
        await self._rest(world.plan.dead_after + FORGOTTEN)
        heal = world.net.cut(self._between([box.host for box in lost]), "tcp udp")
        self._heals.append(heal)
        for box in lost:
            box.resume()
            await self._back(box)
        await trio.sleep(BEHIND)
        heal()
        await self._maybe_forgotten(*lost)

    async def _relapse(self) -> None:
        """A disk is what it was before all others came anew, one by one, and nothing tells from a crash."""
        world, box = self._world, self._box()
        if len(world.wanted) < 3:
            return
        await self._whole()
        before = box.snapshot()
        for other in [b for b in world.wanted if b is not box]:
            await self._whole()
            self._disturbed("relapse", 10.0)
            other.die("power")
            other.wipe()
            await self._start_empty(other)
        await self._whole()
        await self._rest(self._rng.choice((0.0, COUNT_EVERY * 1.1)))
        self._disturbed("relapse", RELAPSED)
        node = box.me
        box.die("kill")
        box.store = before
        if self._rng.random() < 0.3:
            await self._command(lambda: questions.change_members("forget", node, destroyed=True))
        await self._rest(RELAPSED)  # what it has promised since is over
        box.may_end = True  # if it was forgotten, or ran for a minute since, it is let in as a new one
        await self._back(box)
        await world.until(lambda: not world.strange(), OPERATOR, "I2", "out")
        box.may_end = False
        await self._join()  # with the next change of the list its copy is as that of the others

    async def _forget(self) -> None:
        """A node is off and an operator strikes it off; with what it has it comes back as a new one (M2).

        Of two members one cannot decide without the other, and nothing is struck off (M5).
        """
        world = self._world
        if len(world.wanted) < 3:
            return
        await self._whole()
        box = self._box()
        node, before = box.me, box.forgotten
        self._disturbed("forget")
        box.may_end = box.off = True
        how = self._rng.choice(("stop", "stop", "kill", "power"))
        self._disturbed(how)
        if how == "stop":
            await box.stop()
        else:
            box.die(how)
        await trio.sleep(self._rng.choice((0.0, 0.5, 5.0)))
        await self._strike_off(box, node)
        await world.until(lambda: not self._listed(node), OPERATOR, "M2", "a forgotten node is listed")
        await trio.sleep(self._rng.choice((0.0, 2.0, 8.0)))
        box.off = False
        if self._rng.random() < 0.3:
            box.wanted = False
        else:
            await self._back(box)
            await world.until(lambda: box.forgotten > before, OPERATOR, "M2", "the forgotten are not told")
        await world.until(lambda: not world.strange(), OPERATOR, "P7", "views")
        box.may_end = False
        if box.wanted and box.me == node:
            world.accounts.broken("M2", "same", f"{box.name} is back with the id that was forgotten")

    async def _strike_off(self, box: Box, node: NodeId) -> None:
        """Strike a node off that is away: too early at first where it might still serve behind a cut."""
        first = self._rng.choice([b for b in self._world.wanted if b.up and b is not box])
        try:
            async with one_client(self._world, first.address) as client:
                await client._line.run(questions.change_members("forget", node, destroyed=False))
            if self._world.plan.replicas < 3:
                self._world.accounts.broken("M2", "early", f"{box.name} was struck off at once")
            return
        except DMQError as error:
            self._world.note("operator", first.name, error)
        await self._rest(self._world.plan.dead_after / 2 + NOTICED)
        await self._command(lambda: questions.change_members("forget", node, destroyed=False))

    def _listed(self, node: object) -> bool:
        boxes = [b for b in self._world.wanted if b.up and b.me != node]
        return not boxes or any(b.clustering.rosters.current.find(node) is not None for b in boxes)

    async def _strangers(self) -> None:
        """Another cluster, perhaps of the same name, with a queue of the same name, meets this one (I3)."""
        strangers = Strangers(self._world, self._rng)
        self._disturbed("strangers", 0.0)
        await strangers.found()
        await strangers.meet()
        if self._rng.random() < 0.5:
            await self._usurp(strangers)
        await strangers.end()
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "views")

    async def _usurp(self, strangers: Strangers) -> None:
        """One of them comes to sit where a member was; clients do not get there, who cannot tell."""
        box = self._box()
        self._disturbed("kill", 10.0)
        box.die("kill")
        heal = self._world.net.cut([(name, box.host) for name in strangers.clients_of_others()], "tcp")
        self._heals.append(heal)
        await strangers.sit_at(box)
        heal()
        await self._back(box)
