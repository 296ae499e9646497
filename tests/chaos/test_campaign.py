"""Real nodes under faults: nothing is lost; and sabotaged builds are found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.campaign import Plan, network_for, possible, run
from tests.chaos.network import possible as network_possible
from tests.chaos.page import page, text
from tests.chaos.planted import PLANTED, plant
from tests.processes import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not network_possible(), reason="one loopback address only"),
]
TRIES = 6


def test_nothing_is_lost_though_nodes_are_killed_cut_off_and_paused(tmp_path: Path) -> None:
    network = network_for(frozenset({"short"}))
    outcome = run(Plan(kind="short", seed=1, duration=2, rate=150, network=network), tmp_path)
    assert not outcome.broken, outcome.line()
    assert outcome.seconds < 180, "a short form"
    assert outcome.counts["stored"] > 100
    assert len(outcome.faults) == 4
    assert "<svg" in page([outcome], "A run")
    assert "short: 1 runs, 0 with something wrong" in text([outcome])


def caught(name: str, directory: Path, tries: int) -> bool:
    bug = PLANTED[name]
    if not possible(bug.kind):
        pytest.skip("no C compiler")
    tree = plant(name, directory / "tree")
    for seed in range(1, tries + 1):
        if set(run(planned(bug.kind, seed, tree)).broken) & set(bug.shows):
            return True
    return False


def planned(kind: str, seed: int, tree: Path) -> Plan:
    seconds = 5 if kind == "none" else 10
    return Plan(kind=kind, seed=seed, duration=seconds, tree=tree, patience=12, program=False)


@pytest.mark.torture
@pytest.mark.parametrize("kind", sorted({bug.kind for bug in PLANTED.values()}))
def test_a_sound_build_is_not_found_out(kind: str, tmp_path: Path, torture: bool) -> None:
    if not torture:
        pytest.skip("takes minutes: make torture")
    shown = {kind_ for bug in PLANTED.values() if bug.kind == kind for kind_ in bug.shows}
    for seed in range(1, TRIES + 1):
        outcome = run(planned(kind, seed, ROOT), tmp_path)
        assert not set(outcome.broken) & shown, outcome.line()


@pytest.mark.torture
@pytest.mark.parametrize("name", PLANTED)
def test_every_sabotaged_build_is_found_out(name: str, tmp_path: Path, torture: bool) -> None:
    if not torture:
        pytest.skip("takes minutes: make torture")
    assert caught(name, tmp_path, TRIES)
