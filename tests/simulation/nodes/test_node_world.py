"""Whole nodes under what can go wrong with processes, machines, networks and operators keep their promises.

A seed that fails is run again by `World(seed).run()`; what it raises tells the promise, the plan, and what
the nodes said to one another.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import trio

from dmqnode.node import Node
from dmqnode.pending import Pending
from dmqnode.roster import Roster, Rosters
from storage.committer import Committer
from tests.simulation.nodes.accounts import Broken
from tests.simulation.nodes.edges import EDGES
from tests.simulation.nodes.plan import (
    FAULTS,
    WIDER,
    Plan,
    draw_chores_plan,
    draw_edges_plan,
    draw_large_plan,
    draw_relapse_plan,
    draw_single_plan,
    draw_wider_plan,
)
from tests.simulation.nodes.world import World


@pytest.mark.share(1 / 15, few=15)
def test_promises_hold(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += World(seed).run().accounts.counts
    assert counts["acked"] > 100 * len(seeds)
    assert counts["faults"] > len(seeds), "nothing went wrong"


@pytest.mark.share(1 / 50, few=1)
def test_promises_hold_with_what_wider_seeds_draw(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += World(seed, draw_wider_plan(random.Random(seed))).run().accounts.counts
    assert counts["acked"] > 50 * len(seeds)
    assert counts["faults"] >= len(seeds), "nothing went wrong"
    missing = [kind for kind in WIDER if not counts[f"fault {kind}"]]
    assert len(seeds) < 20 or not missing, counts


@pytest.mark.share(1 / 75, few=1)
def test_promises_hold_with_queues_of_every_kind(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += World(seed, draw_chores_plan(random.Random(seed))).run().accounts.counts
    assert counts["acked"] > 30 * len(seeds)
    assert min(counts["moved"], counts["purges"] + 1) > len(seeds) // 2, counts


@pytest.mark.share(1 / 75, few=1)
def test_promises_hold_with_one_copy_of_everything(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += World(seed, draw_single_plan(random.Random(seed))).run().accounts.counts
    assert counts["acked"] > 50 * len(seeds)
    assert counts["faults"] > len(seeds), "nothing went wrong"


@pytest.mark.share(1 / 75, few=1)
def test_promises_hold_where_nodes_die_at_effects_and_clusters_meet(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += World(seed, draw_edges_plan(random.Random(seed))).run().accounts.counts
    assert counts["acked"] > 50 * len(seeds)
    met = {name for name in counts if name.startswith("edge ")}
    assert len(seeds) < 4 or len(met) > 1, counts


@pytest.mark.share(1 / 75, few=1)
def test_promises_hold_where_all_members_are_strangers_to_a_node(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += World(seed, draw_relapse_plan(random.Random(seed))).run().accounts.counts
    assert counts["acked"] > 50 * len(seeds)
    assert counts["fault relapse"] > 2 * len(seeds), "no disk went back to before the others came anew"


SHORTEST = 54
"""Where seeds begin that take little time: `make test` runs two."""


@pytest.mark.share(1 / 150, few=1)
def test_promises_hold_of_any_number_of_nodes_and_copies(seeds: range) -> None:
    counts: Counter[str] = Counter()
    for seed in range(SHORTEST + seeds.start, SHORTEST + seeds.stop):
        counts += World(seed, draw_large_plan(random.Random(seed))).run().accounts.counts
    assert counts["acked"] > 30 * len(seeds)
    assert min(counts["extended"], counts["ahead"]) > len(seeds), counts
    assert len(seeds) < 20 or counts["burned"], counts


@pytest.mark.torture
@pytest.mark.parametrize(("dead_after", "replicas"), [(7200.0, 3), (120.0, 2)])
def test_after_a_long_cut_all_see_all_soon(dead_after: float, replicas: int, *, torture: bool) -> None:
    if not torture:
        pytest.skip("takes long: make torture")
    plan = Plan(faults=("hour",), replicas=replicas, dead_after=dead_after)
    world = World(1, plan._replace(seconds=2.0, producers=1, consumers=1)).run()
    assert 0.0 < world.views_in <= 10.0


HITS = {"boundary": "fault boundary", "eio": "hit eio"}
"""Faults that are counted once they have hit, besides when they begin."""


NEVER_DRAWN = ("udp", "absent", "leave", "twin", "stranger", "boundary", "eio")
"""By the few seeds of `make test`, or not so that they are sure to hit."""


@pytest.mark.torture
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "straggle"])
def test_each_fault_happens(fault: str, *, torture: bool) -> None:
    """Every kind once, judged in full to the end."""
    if not torture and fault not in NEVER_DRAWN:
        pytest.skip("other seeds draw it: make torture")
    counts = World(7, Plan(faults=(fault,), seconds=4.0, dead_after=20.0)).run().accounts.counts
    assert counts[HITS.get(fault, "faults")] > 0


BRINGS = {
    "settle": ("join",),
    "roster": ("join",),
    "homes": ("leave", "join"),
    "move": ("leave", "join"),
    "hint": ("halves", "isolate", "halves"),
}
"""What brings about effects that are rare."""
MET_SOON = ("write, after it", "ship")
WITHIN = 12
"""Of so many first seeds one at least meets an edge of a kind."""


@pytest.mark.torture
@pytest.mark.parametrize("edge", EDGES)
def test_each_kind_of_edge_is_met(edge: str, *, torture: bool) -> None:
    if not torture and edge not in MET_SOON:
        pytest.skip("takes long: make torture")
    point = edge.split(",")[0]
    nodes = 4 if point in ("homes", "move", "hint") else 3
    plan = Plan(nodes=nodes, faults=("boundary", *BRINGS.get(point, ())), edge=point, seconds=2.0)
    met = (World(seed, plan).run().accounts.counts[f"edge {edge}"] for seed in range(1, WITHIN + 1))
    assert any(met)


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_run_in_which_nothing_happened_is_none(nodes: int) -> None:
    with pytest.raises(Broken, match=r"^P0 idle: "):
        World(1, Plan(nodes=nodes, replicas=nodes, write_quorum=1, producers=0, consumers=0)).run()


FOUND = {
    70: "what was stored twice over a day's step of a clock was acked once, and the other came again",
    64: "a home that was cut off when it became none, and later too, kept its copy",
    198: "a home believed another to lead, that had lost its lease, and nobody finished a change of homes",
}


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found(seed: int) -> None:
    World(seed).run()


def test_nodes_whose_seeds_are_names_that_are_not_their_addresses_found_one_cluster() -> None:
    for seed in range(4):
        World(seed, Plan(nodes=2 + seed % 3, replicas=2, founding="names", seconds=3.0)).run()


def sizes_of_lists(monkeypatch: pytest.MonkeyPatch, world: World) -> dict[int, float]:
    """Run a world whose nodes start together; return when somebody first knew a list of so many members."""
    world.starts, first, learn = (0.0, 0.01), {}, Rosters.learn

    def learned(rosters: Rosters, now: Any, roster: Roster) -> None:
        first.setdefault(len(roster.members), trio.current_time())
        learn(rosters, now, roster)

    with monkeypatch.context() as patch:
        patch.setattr(Rosters, "learn", learned)
        world.run()
    return first


@pytest.mark.parametrize("founding", ["seeds", "names", "one"])
def test_of_three_that_are_there_none_is_ever_one_of_two(
    founding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        assert 2 not in sizes_of_lists(monkeypatch, World(seed, Plan(founding=founding, seconds=1.0)))


def test_a_second_node_joins_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        plan = Plan(nodes=2, replicas=2, founding="one", seconds=1.0)
        assert sizes_of_lists(monkeypatch, World(seed, plan))[2] < 1.1


def test_nothing_is_delivered_twice_in_quiet_times() -> None:
    for nodes in (1, 3):
        counts = World(3, Plan(nodes=nodes, replicas=min(nodes, 3), write_quorum=1)).run().accounts.counts
        assert counts["duplicated"] == counts["unknown"] == counts["not stored"] == 0


def test_writes_are_made_by_the_loop_itself_and_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[bool] = Counter()
    at_once = Committer._at_once

    def told(committer: Committer[Any], group: Any) -> bool:
        found = at_once(committer, group)
        made[found] += 1
        return found

    monkeypatch.setattr(Committer, "_at_once", told)
    World(1, Plan(faults=("kill",), seconds=3.0)).run()
    assert min(made[True], made[False]) > 100


def test_of_two_releases_those_work_together_that_have_a_common_version() -> None:
    counts = World(1, Plan(faults=("versions",) * 4, dead_after=600.0)).run().accounts.counts
    assert counts["versions kept out"]
    assert counts["versions let in"]


def test_a_write_group_is_on_its_way_to_its_homes_before_this_disk_writes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped: Counter[bool] = Counter()
    write = Committer._write

    async def checked(self: Committer[Pending], group: Pending) -> None:
        node = self._shell
        assert isinstance(node, Node)
        if group.shipped:
            clustering = node.broker.clustering
            assert clustering is not None
            waiting = clustering.cluster.streams._outbox or clustering._sent or node.belonging.peers._written
            shipped[bool(waiting)] += 1
        await write(self, group)

    monkeypatch.setattr(Committer, "_write", checked)
    World(1, Plan(seconds=4.0)).run()
    assert not shipped[True]
    assert shipped[False] > 25


ALIKE = (
    ("kill", "halves", "stop", "join"),
    ("boundary", "eio", "torn", "clock", "boundary"),
    ("full", "rot", "boundary", "leave", "lossy"),
    ("boundary", "forget", "wipe", "clock"),
)


@pytest.mark.torture
def test_a_seed_runs_alike_in_every_process(*, torture: bool) -> None:
    plans = [Plan(faults=faults, seconds=8.0) for faults in (ALIKE if torture else ALIKE[1:2])]
    code = (
        "from tests.simulation.nodes.world import World\n"
        "from tests.simulation.nodes.plan import Plan\n"
        f"print([World(seed, plan).run().digest for seed, plan in enumerate({plans}, 1)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            timeout=600,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
