"""What becomes of members: they join, leave, burn, come back too late, or with a past that is not theirs.

All time is virtual (MockClock).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from dmqnode import questions
from dmqnode.belonging import COUNT_EVERY
from dmqnode.errors import DMQError
from dmqnode.ids import NodeId, partition_id
from dmqnode.keys import IDENTITY
from dmqnode.membership import ACQUAINTANCES, CLUSTER, read_membership
from dmqnode.roster import ROSTER_KEY
from tests.simulation.likeness import home_set
from tests.simulation.nodes.disktrouble import DiskTrouble
from tests.simulation.nodes.errands import one_client
from tests.simulation.nodes.trouble import HOUR

if TYPE_CHECKING:
    from tests.simulation.nodes.box import Box

OPERATOR = 60.0
"""Seconds that a command of an operator may take, and what it leads to."""
TOLD = 8.0
"""Seconds within which a node that has left and is told so ends."""
MET = 10.0
"""Seconds within which all see all again after a long cut."""
NOTICED = 20.0
"""Seconds within which homes without a majority have said so, and the dead are forgotten."""
CLIENT = 20.0
"""Seconds after which every client has been followed by one that knows of the present members."""


class Changes(DiskTrouble):
    """Faults, and changes of the members."""

    def _others(self, box: Box) -> tuple[str, ...]:
        return tuple(b.address for b in self._world.wanted if b is not box)

    # --- away for too long ---------------------------------------------------------------------------

    def _check_forgotten(self, box: Box, node: NodeId) -> None:
        """A member that was away for so long is forgotten if enough remain, and else not (M2)."""
        due = len(self._world.wanted) - 1 >= self._world.plan.replicas
        for other in self._world.wanted:
            if other is not box and (other.clustering.rosters.current.find(node) is None) != due:
                text = f"{box.name} is {'still' if due else 'not'} a member to {other.name}"
                self._world.accounts.broken("M2", "kept" if due else "forgotten", text)

    async def _hour(self) -> None:
        """Two sides for an hour: what both were sent comes once, unless one was forgotten meanwhile (P10)."""
        world = self._world
        world.accounts.counts["leaps"] += world.plan.dead_after <= HOUR
        await (self._halves(HOUR) if world.plan.dead_after > HOUR else self._long_split(HOUR))
        await world.until(lambda: not world.strange(), MET, "P7", "views")
        world.views_in = trio.current_time() - self._healed_at
        if world.views_in > MET:
            world.accounts.broken("P7", "views", f"all see all {world.views_in:.1f} s after a cut")

    async def _long_split(self, seconds: float = 0.0) -> None:
        """Two sides, until the greater forgets the smaller, which leads nothing any more by then (M3)."""
        world = self._world
        boxes = list(world.wanted)
        self._rng.shuffle(boxes)
        lesser = boxes[: (len(boxes) - 1) // 2]
        for box in lesser:
            box.may_end = True
        # What leaders on the lesser side do before they stop, the others do not know (M4).
        now, seconds = trio.current_time(), seconds or world.plan.dead_after * 1.5
        if len(boxes) - len(lesser) >= world.plan.replicas:
            world.forgiven.append((now - 1.0, now + world.plan.dead_after / 2 + 5.0))
        await self._cut("long_split", self._between([b.host for b in lesser]), seconds)
        await self._maybe_forgotten(*lesser)

    async def _long_pause(self) -> None:
        """Longer than the dead are waited for; whoever was forgotten meanwhile does not come back."""
        box = self._box()
        box.may_end = True
        await self._pause(self._world.plan.dead_after * 1.5, box)
        await self._maybe_forgotten(box)

    async def _absent(self) -> None:
        """The same for a node that does not run."""
        box, absence = self._box(), self._world.plan.dead_after * 1.5
        box.may_end = True
        self._disturbed("absent", absence)
        node = box.me
        box.die(self._rng.choice(("kill", "power")))
        await self._rest(absence)
        self._check_forgotten(box, node)
        await self._back(box)
        await self._maybe_forgotten(box)

    # --- members -------------------------------------------------------------------------------------

    async def _whole(self) -> None:
        """Wait until all copies are there: what is lost next is not the last."""
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "views")
        await self._world.settle_copies()

    async def _join(self) -> None:
        box = self._world.add(join=self._others(self._world.boxes[0])[:2] or (self._world.boxes[0].address,))
        self._disturbed("join", 5.0)
        box.start()
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "not joined")

    async def _leave(self) -> None:
        """As `dmq node leave` does it: no more copies here, then off the list; it may not hear of that."""
        await self._whole()
        box = self._box()
        self._disturbed("leave", 10.0)
        until = trio.current_time() + OPERATOR
        patience = TOLD
        deaf = [(b.host, box.host) for b in self._world.wanted if b is not box and self._rng.random() < 0.3]
        while True:
            try:
                async with one_client(self._world, box.address) as client:
                    members = {m["node_id"]: m for m in (await client.members())["members"]}
                    me = members[
                        box.me.hex()
                    ]  # it may have lost its identity, and be listed twice by its name
                    await client._line.run(questions.retire(me))
                    status = await client.status()
                    if status["homes"] or status["hints"] or status["node_id"] != me["node_id"]:
                        await trio.sleep(0.3)
                        continue
                    gone = questions.change_members("leave", bytes.fromhex(me["node_id"]), destroyed=False)
                    if deaf:
                        self._world.nursery.start_soon(self._cut, "deaf", deaf, 3.0)
                        deaf, patience = [], OPERATOR
                    await client._line.run(gone)
                    break
            except DMQError as error:
                self._world.note("leave", error)
                if box.life is None and not box.crashed:
                    break
            if trio.current_time() > until:
                self._world.accounts.broken("P7", "stuck", f"{box.name} cannot leave")
            await trio.sleep(0.5)
        box.wanted = False
        await self._world.until(lambda: box.life is None, patience, "P7", "a node that has left goes on")

    async def _command(
        self, step: Callable[[], questions.Question[None]], through: Box | None = None
    ) -> None:
        """Have an operator's command done through one node, or any."""
        until = trio.current_time() + OPERATOR
        while True:
            box = through or self._box()
            try:
                async with one_client(self._world, box.address) as client:
                    await client._line.run(step())
                return
            except DMQError as error:
                self._world.note("operator", box.name, error)
                if trio.current_time() > until:
                    self._world.accounts.broken("P7", "stuck", f"a command is not done: {error}")
            await trio.sleep(0.5)

    async def _destroy(self) -> None:
        """A machine burns, and an operator says so."""
        if len(self._world.wanted) < 2:
            return
        await self._whole()
        box = self._box()
        node = box.me
        self._disturbed("destroy", 10.0)
        box.die("power")
        box.wipe()
        box.wanted = False
        await trio.sleep(self._rng.choice((0.5, 5.0)))
        await self._command(lambda: questions.change_members("forget", node, destroyed=True))
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "views")

    async def _burn(self) -> None:
        """So many machines burn at once that no majority is left; an operator says so of each (M5)."""
        await self._whole()
        boxes = self._rng.sample(self._world.wanted, (len(self._world.wanted) + 1) // 2)
        nodes = [box.me for box in boxes]
        now = trio.current_time()
        self._world.forgiven.append((now - 1.0, now + 1.0))  # who knows of an ack may be gone (P5)
        self._burns(boxes)
        await trio.sleep(self._rng.choice((2.5, 5.0)))
        for node in nodes:
            await self._command(lambda node=node: questions.change_members("forget", node, destroyed=True))
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "views")
        await trio.sleep(CLIENT)  # one that was given the addresses of these only reaches nobody

    def _burns(self, boxes: list[Box]) -> None:
        """Take machines away, with all that they had."""
        self._disturbed("destroy", 10.0)
        for box in boxes:
            box.die("power")
            old = box.store
            box.wipe()
            box.wanted = False
            self._world.accounts.forgets(box, old)
        self._world.accounts.counts["burned"] += 1

    async def _bereave(self) -> None:
        """Most homes of a queue burn at once, though most members do not, and nobody says so (M2, M4)."""
        world, members = self._world, len(self._world.wanted)
        await self._whole()
        homes = self._homes_of_one_queue()
        lost = homes[: min(len(homes) // 2 + 1, (members - 1) // 2)]
        world.forgiven.append((trio.current_time() - 1.0, trio.current_time() + 1.0))
        nodes = [box.me for box in lost]
        self._burns(lost)
        await self._rest(world.plan.dead_after + NOTICED)
        # While R remain everybody is forgotten, and beyond that for a home set that has no majority else.
        spare = max(0, members - world.plan.replicas)
        due = len(lost) if 2 * len(lost) > len(homes) else min(len(lost), spare)
        for box in world.wanted:
            kept = [n for n in nodes if box.clustering.rosters.current.find(n) is not None]
            if len(nodes) - len(kept) != due:
                text = f"{len(kept)} of {len(nodes)} that burned are members to {box.name}"
                world.accounts.broken("M2", "kept" if len(nodes) - len(kept) < due else "forgotten", text)
        for node in nodes:  # those who need not be: an operator may say so
            await self._command(lambda node=node: questions.change_members("forget", node, destroyed=True))
        await world.until(lambda: not world.strange(), OPERATOR, "P7", "views")
        await trio.sleep(CLIENT)

    def _homes_of_one_queue(self) -> list[Box]:
        world = self._world
        known = self._box().node.broker.registry.every()
        ids = sorted(
            partition_id(q.definition.id, i) for q in known for i in range(q.definition.settings.partitions)
        )
        record = home_set(world, self._rng.choice(ids))  # type: ignore[arg-type]
        homes = [box for box in world.wanted if record is not None and box.me in record.new]
        self._rng.shuffle(homes)
        return homes

    async def _replace(self) -> None:
        """A machine comes back with an empty disk (I2)."""
        if len(self._world.wanted) < 2:
            return
        await self._whole()
        box = self._box()
        self._disturbed("replace", 10.0)
        box.die("power")
        box.wipe()
        await trio.sleep(self._rng.choice((0.5, 5.0)))
        await self._start_empty(box)

    async def _wipe(self) -> None:
        """The same amid work, and the first that is lost: what it had two have, or had."""
        if len(self._world.wanted) < 2:
            return
        if self._bereft():
            await self._whole()
        box = self._box()
        self._disturbed("wipe", 10.0)
        box.die("power")
        box.wipe()
        await trio.sleep(self._rng.choice((0.0, 0.5, 5.0)))
        await self._start_empty(box)

    def _bereft(self) -> bool:
        """Whether something was lost before, of which what is lost now may be the last copy."""
        faults = self._world.plan.faults
        return faults.index("wipe") > 0 or faults.count("wipe") > 1

    async def _start_empty(self, box: Box) -> None:
        box.join = self._others(box)
        box.may_end = False
        box.start()
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "not replaced")

    async def _restore(self) -> None:
        """Somebody puts an old backup of a data directory back (I2)."""
        if len(self._world.wanted) < 2:
            return
        box = self._box()
        self._disturbed("restore", 30.0)
        if self._rng.random() < 0.5:
            await box.stop()
            backup = box.snapshot()
            await trio.sleep(0.5)
            box.start()
            await self._whole()
            await trio.sleep(self._rng.choice((0.5, 5.0)))
        else:  # as the disks of a virtual machine, which goes on
            await self._whole()
            backup = box.snapshot()
            await trio.sleep(COUNT_EVERY * self._rng.choice((1.1, 2.5)))
            self._disturbed("restore", 30.0)
        await box.stop()
        node = read_membership(box.snapshot()).identity.node
        box.store = backup
        box.may_end = True
        box.start()
        before = box.forgotten
        await self._world.until(lambda: box.forgotten > before, OPERATOR, "I2", "an old backup serves")
        if "backup" not in box.why_anew:
            self._world.accounts.broken("I2", "unsaid", box.why_anew)
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "I2", "not replaced")
        box.may_end = False
        if box.me == node:
            self._world.accounts.broken("I2", "same", f"{box.name} goes on with the id of an old backup")

    async def _twin(self) -> None:
        """A second process with the same data and id, at another place (I2)."""
        if len(self._world.wanted) < 2:
            return
        # Nobody can tell two apart of which one is cut off: then the others believe the later.
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "views")
        box = self._box()
        self._disturbed("twin", 30.0)
        twin = self._world.add("twin")
        twin.wanted, twin.may_end = False, True
        twin.store = box.snapshot()
        twin.start()
        await self._world.until(lambda: twin.life is None, OPERATOR, "I2", "two live with one id")
        if "another process" not in twin.why:
            self._world.accounts.broken("I2", "unsaid", twin.why)

    async def _stranger(self) -> None:
        """A node of another cluster is told to join, and sits where a member was (I3)."""
        stranger = self._world.add("stranger")
        stranger.wanted, stranger.may_end = False, True
        self._disturbed("stranger", 10.0)
        stranger.start()
        await self._world.until(lambda: stranger.up, OPERATOR, "P7", "no cluster")
        await trio.sleep(0.5)
        await stranger.stop()
        stranger.join = tuple(b.address for b in self._world.wanted)
        stranger.start()
        await self._world.until(lambda: stranger.life is None, OPERATOR, "I3", "a stranger got in")
        if "another cluster" not in stranger.why:
            self._world.accounts.broken("I3", "unsaid", stranger.why)
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "P7", "views")
        box = self._box()
        box.die("kill")
        stranger.join, stranger.host, stranger.address = (), box.host, box.address
        stranger.start()
        await trio.sleep(self._rng.choice((2.0, 6.0)))
        await stranger.stop()
        await self._back(box)

    async def _versions(self) -> None:
        """A node of another release comes, which may not speak what the others do."""
        box = self._box()
        await box.stop()
        box.versions = self._rng.choice(((1, 2), (2, 2), (0, 1)))
        seconds = self._rng.choice((3.0, 8.0))
        self._disturbed("versions", seconds)
        box.start()
        await trio.sleep(seconds)
        clustering = box.life.node.broker.clustering if box.life and box.life.node else None
        linked, strange = bool(clustering and clustering.linked), box.versions == (2, 2)
        if strange and linked:
            self._world.accounts.broken("P7", "versions", f"{box.name} is linked without a common version")
        self._world.accounts.counts["versions kept out" if strange else "versions let in"] += (
            linked != strange
        )
        await box.stop()
        box.versions = None
        box.start()

    async def _damage(self) -> None:
        """One of the records that say who a node is turns bad while it is off (I2)."""
        if len(self._world.wanted) < 2:
            return
        await self._whole()
        box = self._box()
        self._disturbed("damage", 10.0)
        box.die(self._rng.choice(("kill", "power")))
        key = self._rng.choice((IDENTITY, CLUSTER, ROSTER_KEY, ACQUAINTANCES))
        self._world.note("damage", box.name, key)
        node = read_membership(box.snapshot()).identity.node
        box.store.damage(key, self._rng)
        await trio.sleep(1.0)
        # Without seeds one that has lost the list would not start, and say so; the operator gives them.
        box.join = box.join or self._others(box)
        box.start()
        await self._world.until(lambda: not self._world.strange(), OPERATOR, "I2", "not replaced")
        if box.me == node:
            self._world.accounts.broken("I2", "same", f"{box.name} has the old id in spite of the damage")

    async def _maybe_forgotten(self, *away: Box) -> None:
        """Nodes that were forgotten learn it, and come again as new ones."""
        await self._world.until(
            lambda: not self._world.strange(), OPERATOR, "M2", "a forgotten node does not come back"
        )
        for box in away:
            box.may_end = False
            self._world.note("was away", box.name, "forgotten" if box.forgotten else "remembered")
