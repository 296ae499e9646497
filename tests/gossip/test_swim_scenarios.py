"""Whole clusters in the simulated world."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gossip.config import SwimConfig
from gossip.effects import Joined, Refused, Twin
from gossip.messages import ClusterId, Status, first_incarnation
from tests.gossip import scenarios
from tests.gossip.world import CLUSTER, Network, World, address_of, node_id

ROOT = Path(__file__).parents[2]
ALL = [
    scenarios.death,
    scenarios.quiet,
    scenarios.news,
    scenarios.split,
    scenarios.accused,
    scenarios.asleep,
    scenarios.strangers,
    scenarios.swarm,
]


@pytest.mark.share(1 / 15, few=10)
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: str(scenario.__name__))
def test_scenario(scenario: Callable[[int], None], seeds: range) -> None:
    for seed in seeds:
        try:
            scenario(seed)
        except AssertionError as error:
            error.add_note(f"seed {seed} of {scenario.__name__}")
            raise


@pytest.mark.torture
@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_a_split_of_an_hour_is_over_within_ten_seconds(count: int, *, torture: bool) -> None:
    # An hour of many is long to simulate, so those between the smallest and the largest take ten minutes.
    world = World(count)
    names = world.cluster(count)
    world.split(names[: count // 2], names[count // 2 :])
    world.run(3600 if count == 3 or (count == 7 and torture) else 600)
    assert not world.agreed()
    world.heal()
    assert world.until(world.agreed, scenarios.REMET), world.views()
    assert world.until(lambda: False, 20) is False
    assert world.agreed()


# --- coming and going ------------------------------------------------------------------------------------


def test_a_stopped_member_is_dead_at_once_and_may_come_back() -> None:
    world = World(1)
    world.cluster(5)
    world.stop("n2")
    assert world.until(lambda: world.all_see("n2", Status.DEAD), 0.3)
    world.run(30)
    world.start("n2")
    assert world.until(world.agreed, 3), world.views()


def test_one_that_left_is_not_dead_and_is_not_looked_for() -> None:
    world = World(1)
    world.cluster(5)
    world.leave("n2")
    assert world.until(lambda: world.all_see("n2", Status.LEFT), 0.3)
    world.run(60)
    assert world.all_see("n2", Status.LEFT)
    assert all(address_of("n2") not in node.swim.known_addresses() for node in world.nodes.values())
    assert world.deaths(["n2"]) == []


def test_a_restart_within_the_suspicion_is_no_death() -> None:
    world = World(1)
    world.cluster(3)
    world.crash("n1")
    world.run(0.4)
    world.start("n1")
    world.run(10)
    assert world.deaths(["n1"]) == []
    seen = world.nodes["n0"].swim.member(node_id("n1"))
    assert seen is not None
    assert seen[0].incarnation >= first_incarnation(2)


def test_a_forgotten_member_that_is_there_after_all_is_listed_again() -> None:
    world = World(1)
    world.cluster(3)
    world.act("n0", "forget", node_id("n1"))
    world.run(0.01)
    assert world.status("n0", "n1") is Status.LEFT
    assert world.until(world.agreed, 5)


def test_a_broken_connection_is_looked_into_at_once() -> None:
    world = World(1)
    world.cluster(7)
    world.run(3)
    world.crash("n1")
    world.act("n0", "probe_now", node_id("n1"))
    assert world.until(lambda: world.status("n0", "n1") is Status.SUSPECT, 0.6)
    assert world.until(lambda: world.all_see("n1", Status.DEAD), 3.5), world.views()


def test_a_member_without_udp_is_kept_alive_by_exchanges() -> None:
    world = World(1)
    world.cluster(3)
    world.cut_udp = lambda sender, receiver: address_of("n1") in (sender, receiver)
    world.run(60)
    assert world.deaths() == []


# --- founding and joining --------------------------------------------------------------------------------


def founded(world: World) -> list[str]:
    return [name for _, name, event in world.events if isinstance(event, Joined) and event.founded]


def test_a_node_without_seeds_founds_at_once_and_others_join_it() -> None:
    world = World(1)
    world.start("a")
    world.run(0.1)
    assert founded(world) == ["a"]
    for name in ("b", "c"):
        world.start(name, seeds=["a"])
    assert world.until(world.agreed, 3), world.views()
    assert founded(world) == ["a"]
    assert len({node.swim.cluster for node in world.nodes.values()}) == 1


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_three_nodes_with_the_same_seeds_found_one_cluster(order: str) -> None:
    world = World(1)
    for name in order:
        world.start(name, seeds=["a", "b", "c"])
        world.run(2.5)
    assert world.until(world.agreed, 5), world.views()
    assert founded(world) == ["a"]


def test_without_a_majority_of_the_seeds_nobody_founds() -> None:
    world = World(1)
    world.start("a", seeds=["a", "b", "c"])
    world.run(60)
    assert founded(world) == []
    world.start("c", seeds=["a", "b", "c"])
    assert world.until(world.agreed, 5), world.views()


def test_the_first_seed_joins_again_after_it_lost_its_disk() -> None:
    world = World(1)
    for name in "abc":
        world.start(name, seeds=["a", "b", "c"])
    assert world.until(world.agreed, 5)
    cluster = world.nodes["b"].swim.cluster
    world.crash("a")
    del world.disks["a"]
    world.run(20)
    world.start("a", seeds=["a", "b", "c"], id=node_id("a once more"))
    assert world.until(lambda: world.nodes["a"].swim.cluster == cluster, 5)
    assert founded(world) == ["a"]


def test_a_node_without_a_cluster_is_not_drawn_into_one_that_calls_it() -> None:
    world = World(1)
    world.cluster(3)
    world.crash("n2")
    world.run(10)
    world.start("n2", cluster=ClusterId(b""), known=(), seeds=["elsewhere"], id=node_id("newcomer"))
    world.run(30)
    assert world.nodes["n2"].swim.cluster == b""
    assert all(m.id != node_id("newcomer") for m, _ in world.nodes["n0"].swim.members())


def refusals(world: World, name: str) -> list[str]:
    return [e.sentence for _, who, e in world.events if who == name and isinstance(e, Refused)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cluster_name": "other"}, "'other'"),
        ({"cluster": ClusterId(b"x" * 16)}, "join"),
        ({"lowest": 7, "highest": 9}, "versions 7 to 9"),
        ({"key": b"secret"}, "key"),
    ],
)
def test_strangers_are_refused_with_one_sentence_once(given: dict[str, object], words: str) -> None:
    world = World(1)
    world.cluster(2)
    world.start("s", seeds=["n0"], **given)
    world.run(30)
    assert len(refusals(world, "s")) == 1
    assert words in refusals(world, "s")[0]
    assert len(world.nodes["n0"].swim.members()) == 2
    assert len(world.nodes["s"].swim.members()) == 1


def test_nodes_with_the_same_key_meet() -> None:
    world = World(1)
    for name in "ab":
        world.start(name, cluster=CLUSTER, seeds=["a"], key=b"k" * 32)
    assert world.until(world.agreed, 3)


def test_two_processes_with_one_id_are_told() -> None:
    world = World(1)
    world.cluster(3)
    world.start("twin", cluster=CLUSTER, seeds=["n0"], id=node_id("n1"), incarnation=first_incarnation(1))
    world.run(10)
    told = [name for _, name, event in world.events if isinstance(event, Twin)]
    assert "twin" in told or "n1" in told
    assert len(told) == len(set(told))


# --- the world itself ------------------------------------------------------------------------------------


def traced(seed: int) -> str:
    world = World(seed, network=Network(loss=0.1, duplicated=0.1, late=0.1))
    names = world.cluster(5)
    world.run(5)
    world.split(names[:2], names[2:])
    world.run(30)
    world.heal()
    world.crash("n4")
    world.run(30)
    return world.digest()


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    program = "from tests.gossip.test_swim_scenarios import traced; print(traced(7))"
    digests = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in (1, 2)
    ]
    assert digests == [traced(7)] * 2
    assert traced(8) != traced(7)


def test_the_whole_cluster_can_be_as_large_as_fifty() -> None:
    world = World(1, SwimConfig.lan(), Network(loss=0.01))
    world.cluster(50)
    world.run(3)
    world.crash("n7")
    assert world.until(lambda: world.all_see("n7", Status.DEAD), 8)
    assert {seen.member for seen in world.deaths()} == {"n7"}
