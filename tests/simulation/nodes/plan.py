"""What one run of whole nodes is like."""

from __future__ import annotations

import random
from typing import NamedTuple


class Plan(NamedTuple):
    """Everything that is drawn."""

    nodes: int = 3
    replicas: int = 3
    write_quorum: int = 2
    dead_after: float = 600.0
    founding: str = "seeds"
    """How it begins: "seeds" (all are empty and have the same seeds), "names" (the same, and these are not
    what the nodes take for their addresses) or "one" (one founds, others join)."""
    producers: int = 2
    consumers: int = 2
    seconds: float = 12.0
    """How long faults and work go on."""
    faults: tuple[str, ...] = ()
    """One behind the other, those of `trouble`."""
    chores: bool = False
    """Whether there are queues of every kind, and operators."""
    labours: bool = False
    """Whether there is even more; see `labours`."""
    edge: str = ""
    """The kind of effect at which nodes die by "boundary", if that is not drawn; see `edges`."""


SHORT = (
    "kill",
    "power",
    "blackout",
    "stop",
    "pause",
    "isolate",
    "halves",
    "ring",
    "bridge",
    "oneway",
    "udp",
    "tcp",
    "flap",
    "lossy",
    "slow",
    "slowdisk",
    "clock",
)
LONG = ("long_pause", "long_split", "absent")
"""Longer than `dead_after`."""
CHANGES = ("join", "leave", "destroy", "replace", "restore", "twin", "stranger", "versions", "damage")
WIDER = ("clients", "full", "eio", "rot", "torn", "wipe")
"""What only seeds of their own draw: each further drawing would change what all others mean."""
EDGES = ("boundary", "forget", "strangers")
"""The same of a third kind."""
FORMING = ("burn", "straggle", "bereave")
"""What takes most homes of a partition, so that others are formed (M4); only large plans draw it."""
UNDRAWN = ("astray", "relapse")
"""Drawn by few plans, which are for it."""
FAULTS = SHORT + LONG + CHANGES + WIDER + EDGES + FORMING + UNDRAWN
HOUR = 0.01
"""How many of those seeds have a cut of an hour, which costs half a minute; the first hundred have none."""


def draw_plan(rng: random.Random) -> Plan:
    """Few faults, so that they meet; now and then a long one, or a change of the members."""
    nodes = rng.choice((2, 3, 3, 3, 3, 4, 5))
    faults = rng.sample(SHORT, rng.choice((1, 2, 2, 3)))
    if rng.random() < 0.6:
        faults.insert(rng.randint(0, len(faults)), rng.choice(LONG + CHANGES))
    return Plan(
        nodes=nodes,
        replicas=rng.choice((2, 3, 3, 3)) if nodes > 2 else 2,
        dead_after=20.0 if set(faults) & set(LONG) else rng.choice((20.0, 600.0)),
        founding=rng.choice(("seeds", "one")),
        producers=rng.choice((1, 2)),
        consumers=rng.choice((1, 2, 3)),
        faults=tuple(faults),
    )


def draw_wider_plan(rng: random.Random) -> Plan:
    """One or two of the wider faults, with what else can go wrong for a short time."""
    nodes = rng.choice((2, 3, 3, 3, 4, 5))
    wider = rng.sample(WIDER, rng.choice((1, 1, 2)))
    if "rot" in wider and "wipe" in wider:
        wider.remove("wipe")  # they can have the last two copies of something
    faults = wider + rng.sample(SHORT, rng.choice((0, 1, 1, 2)))
    rng.shuffle(faults)
    if rng.random() < HOUR:
        faults = ["hour", *faults[:1]]
    return Plan(
        nodes=nodes,
        replicas=rng.choice((2, 3, 3, 3)) if nodes > 2 else 2,
        dead_after=rng.choice((600.0, 7200.0)),
        founding=rng.choice(("seeds", "one")),
        producers=rng.choice((1, 2)),
        consumers=rng.choice((1, 2, 3)),
        faults=tuple(faults),
    )


BESIDE = ("join", "leave", "destroy", "forget", "kill", "isolate", "halves", "stop", "pause", "tcp", "lossy")
"""What goes wrong beside a death at an effect."""


def draw_edges_plan(rng: random.Random) -> Plan:
    """Deaths at an effect, mostly one that something else brings about; strangers, and the forgotten."""
    faults = ["boundary", rng.choice(BESIDE)]
    if rng.random() < 0.4:
        faults += ["boundary", rng.choice(BESIDE)]
    elif rng.random() < 0.4:
        faults.insert(rng.randint(0, 2), rng.choice(("strangers", "forget")))
    nodes = rng.choice((2, 3, 3, 3, 4, 5))
    return Plan(
        nodes=nodes,
        replicas=rng.choice((2, 3, 3, 3)) if nodes > 2 else 2,
        dead_after=rng.choice((20.0, 600.0)) if "forget" not in faults else 60.0,
        founding=rng.choice(("seeds", "one")),
        producers=rng.choice((1, 2)),
        consumers=rng.choice((1, 2, 3)),
        faults=tuple(faults),
        chores=rng.random() < 0.3,
    )


MOVING = (*LONG, "astray", "join", "leave", "halves", "isolate")
"""What changes who has the one copy of something, and lets its disk live."""


def draw_single_plan(rng: random.Random) -> Plan:
    """One copy of everything: whoever has it leads alone, and is forgotten like others."""
    plan = draw_plan(rng)
    faults = (rng.choice(SHORT), rng.choice(MOVING))
    dead_after = 20.0 if faults[1] in (*LONG, "astray") else plan.dead_after
    return plan._replace(
        nodes=max(3, plan.nodes), replicas=1, write_quorum=1, faults=faults, dead_after=dead_after
    )


def draw_chores_plan(rng: random.Random) -> Plan:
    """As `draw_plan`, of the first two faults at most, with queues of every kind."""
    plan = draw_plan(rng)
    return plan._replace(chores=True, faults=plan.faults[:2], consumers=rng.choice((2, 3)))


def draw_relapse_plan(rng: random.Random) -> Plan:
    """A node to which all members are strangers, and what else can go wrong for a short time."""
    faults = ["relapse", *rng.sample(SHORT, rng.choice((1, 1, 2)))]
    rng.shuffle(faults)
    return Plan(
        nodes=rng.choice((3, 3, 4, 5)),
        replicas=rng.choice((2, 3, 3)),
        dead_after=rng.choice((60.0, 600.0)),
        founding=rng.choice(("seeds", "one")),
        producers=rng.choice((1, 2)),
        consumers=rng.choice((1, 2, 3)),
        seconds=6.0,
        faults=tuple(faults),
    )


ALONE = (
    "kill",
    "power",
    "blackout",
    "stop",
    "pause",
    "slowdisk",
    "clock",
    "torn",
    "full",
    "eio",
    "join",
    "join",
)
"""What can go wrong with a node that has nobody."""
MANY = (*LONG, "join", "leave", "destroy", "replace", "forget", "wipe", "twin", "versions", "boundary")
"""What changes who is a member, or who has a copy."""


def draw_large_plan(rng: random.Random) -> Plan:
    """One to seven nodes, any number of copies and of those that are waited for, and all that clients do.

    In three of ten most homes are destroyed, of three or of five.
    """
    nodes = rng.choice((1, 2, 3, 4, 5, 6, 6, 7, 7))
    replicas = rng.choice((1, 2, 3, 3, 4, 5, 5))
    faults = rng.sample(SHORT, rng.choice((0, 1, 1, 2)))
    if rng.random() < 0.3:
        nodes, replicas = rng.choice(((3, 3), (5, 3), (6, 3), (5, 5), (7, 5), (7, 5)))
        faults.insert(rng.randint(0, len(faults)), rng.choice(FORMING) if nodes > 3 else "burn")
    elif nodes == 1:
        faults = [rng.choice(ALONE), rng.choice(ALONE)]
    elif replicas == 1:
        nodes = max(3, nodes)
        faults = [rng.choice(SHORT), rng.choice(MOVING)]
    elif rng.random() < 0.7:
        faults.insert(rng.randint(0, len(faults)), rng.choice(MANY))
    soon = set(faults) & {*LONG, *FORMING, "astray"}
    return Plan(
        nodes=nodes,
        replicas=replicas,
        write_quorum=rng.randint(1, replicas),
        dead_after=20.0 if soon else 60.0 if "forget" in faults else rng.choice((20.0, 600.0)),
        founding=rng.choice(("seeds", "one")),
        producers=rng.choice((1, 2)),
        consumers=rng.choice((2, 3)),
        seconds=rng.choice((6.0, 12.0)),
        faults=tuple(faults),
        labours=True,
    )
