"""What one run is like: the cluster, the queues, the clients, and which faults may meet."""

from __future__ import annotations

import random
from typing import Any, NamedTuple


class QueuePlan(NamedTuple):
    """One queue, and how it is used."""

    name: str
    settings: dict[str, Any]
    grouped: bool = False
    """Whether messages have groups."""
    delays: bool = False
    """Whether some sends are delayed."""
    grows: tuple[int, ...] = ()
    """Numbers of partitions that it is set to while it is used."""
    expires: bool = False
    """Whether some sends have a time to live."""
    operations: tuple[str, ...] = ()
    """What operators do to it meanwhile, of those in `operations`."""
    fed: bool = True
    """Whether anybody sends to it."""
    named: bool = False
    """Whether what is sent has dedup ids, and some of it is sent twice."""


class Plan(NamedTuple):
    """Everything that is drawn.  Rates are per second of the whole cluster."""

    nodes: int = 3
    replicas: int = 3
    write_quorum: int = 2
    queues: tuple[QueuePlan, ...] = (QueuePlan("plain", {"visibility": 4.0}),)
    producers: int = 2
    consumers: int = 3
    seconds: float = 14.0
    faults: tuple[str, ...] = ()
    """Kinds of faults, of those in `trouble`."""
    rate: float = 0.35
    """How often something goes wrong, per second."""
    tries: int = 8
    """How often a client sends before it gives up."""
    late: float = 0.0
    """Seconds at most from a read to when its result is known, which what is written meanwhile is not in."""

    def draw_late(self, rng: random.Random) -> float:
        """Draw how long a thread that has read waits for its turn to tell: of some plans, now and then."""
        return rng.choice((0.0, rng.uniform(0.0, self.late))) if self.late else 0.0


PLAIN = QueuePlan("plain", {"visibility": 4.0})
WIDE = QueuePlan("wide", {"visibility": 4.0, "partitions": 3})
FIFO = QueuePlan("fifo", {"visibility": 3.0, "ordering": "fifo"}, grouped=True)
GROUPS = QueuePlan("groups", {"visibility": 3.0, "partitions": 2}, grouped=True)
LATE = QueuePlan("late", {"visibility": 4.0}, delays=True)
QUEUES = (PLAIN, WIDE, FIFO, GROUPS, LATE)
NAMED = QueuePlan("named", {"visibility": 4.0, "partitions": 2}, named=True)

BRIEF = QueuePlan("brief", {"visibility": 2.0, "partitions": 2}, expires=True)
SWEPT = QueuePlan("swept", {"visibility": 4.0}, operations=("purge",))
BROOM = QueuePlan("broom", {"visibility": 3.0, "partitions": 3}, delays=True, operations=("purge", "pause"))
REBORN = QueuePlan("reborn", {"visibility": 3.0}, operations=("delete",))
LINE = QueuePlan("line", {"visibility": 3.0, "ordering": "fifo"}, grouped=True, operations=("purge", "pause"))
DEAD = QueuePlan("dead", {"visibility": 3.0}, fed=False)
SPENT = QueuePlan(
    "spent", {"visibility": 1.5, "max_attempts": 2, "dead_letter": "dead"}, operations=("redrive",)
)
OPERATED = ((BRIEF,), (SWEPT,), (BROOM,), (LINE,), (DEAD, SPENT), (REBORN,))
"""Queues to which more is done than to send, receive and settle."""

FAULTS = (
    "kill",
    "power",
    "blackout",
    "boundary",
    "isolate",
    "halves",
    "oneway",
    "bridge",
    "reset",
    "flap",
    "slow",
    "pause",
    "slowdisk",
    "eio",
    "flip",
    "clock",
)


def draw_plan(rng: random.Random, faults: tuple[str, ...] = FAULTS) -> Plan:
    """Few kinds of faults at a time, so that they meet."""
    nodes = rng.choice((1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 7))
    replicas = rng.choice((2, 3, 3, 3, 3, 5))
    write_quorum = rng.randint(1, replicas) if rng.random() < 0.2 else min(2, replicas)
    kinds = rng.choice((0, 1, 1, 2, 2, 2, 3))
    return Plan(
        nodes=nodes,
        replicas=replicas,
        write_quorum=write_quorum,
        queues=tuple(rng.sample(QUEUES, rng.choice((1, 1, 2)))),
        producers=rng.choice((1, 2, 3)),
        consumers=rng.choice((1, 2, 3)),
        seconds=rng.choice((8.0, 12.0, 16.0)),
        faults=tuple(rng.sample(faults, min(kinds, len(faults)))),
        rate=rng.choice((0.2, 0.4, 0.8)),
    )


def draw_harsh(seed: int) -> Plan:
    """Many kinds of faults, and often, in clusters that can bear few."""
    rng = random.Random(seed * 7 + 1)
    plan = draw_plan(rng, FAULTS)
    kinds = tuple(rng.sample(FAULTS, 4))
    return plan._replace(faults=kinds, rate=1.2, seconds=16.0, nodes=rng.choice((2, 3, 3, 4, 5)))


def draw_late_plan(rng: random.Random) -> Plan:
    """Disks are read in threads that tell late what they found, while somebody is away, or comes back."""
    queues = rng.choice(((PLAIN,), (WIDE,), (PLAIN,), (GROUPS,)))
    faults = rng.choice((("isolate", "kill"), ("kill",), ("isolate",), ("halves", "kill")))
    late = rng.choice((0.05, 0.3, 1.0, 2.0))
    return Plan(queues=queues, faults=faults, rate=1.0, seconds=8.0, consumers=5, late=late)


MORE_FAULTS = ("leap", "restart", "rolling", "standstill")
"""What the older seeds do not know."""


def draw_full_plan(rng: random.Random) -> Plan:
    """As `draw_plan`, and operators are at work, too, and more can go wrong."""
    plan = draw_plan(rng)
    if rng.random() < 0.5:
        plan = plan._replace(faults=(rng.choice(MORE_FAULTS),))
    operated = rng.choice(OPERATED)
    return plan._replace(queues=(*operated, *plan.queues[: rng.choice((0, 0, 1))]))


WIDER_FAULTS = ("full", "torn", "rust", "stall")
"""What only seeds of their own know: disks that are full, are cut off in a write, or rot; and pauses."""


def draw_wider_plan(rng: random.Random) -> Plan:
    """As `draw_plan` or `draw_full_plan`, with one or two of the wider faults, and at most two others."""
    plan = draw_full_plan(rng) if rng.random() < 0.3 else draw_plan(rng)
    wider = rng.sample(WIDER_FAULTS, rng.choice((1, 1, 2)))
    others = rng.sample((*FAULTS, *MORE_FAULTS[1:]), rng.choice((0, 1, 1, 2)))
    plan = plan._replace(faults=(*wider, *others), rate=rng.choice((0.4, 0.8, 1.2)))
    if "rust" in wider:  # all else that one disk forgets two others must know
        plan = plan._replace(nodes=max(3, plan.nodes), replicas=max(3, plan.replicas))
    return plan


def draw_further_plan(rng: random.Random) -> Plan:
    """As `draw_plan`, with what it does not draw: dedup ids; one copy of everything, or four, on several."""
    plan = draw_plan(rng)
    replicas = rng.choice((1, 4))
    nodes = rng.choice((2, 3, 5)) if replicas == 1 else rng.choice((4, 5, 6, 7))
    write_quorum = rng.randint(1, replicas)
    queues = rng.choice((plan.queues, (NAMED,), (NAMED, *plan.queues[:1])))
    return plan._replace(nodes=nodes, replicas=replicas, write_quorum=write_quorum, queues=queues)
