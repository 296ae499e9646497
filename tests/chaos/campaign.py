"""Runs of real nodes under faults, and what became of the messages."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.faults import CLASSES, NEED_SHIM, PARTS
from tests.chaos.ledger import Ledger, judge
from tests.chaos.offline import differences
from tests.chaos.shim import compiler
from tests.chaos.site import Site
from tests.chaos.timeline import Timeline, draw_up
from tests.chaos.workload import Workload
from tests.processes import ROOT

QUIET = 1.0
"""Seconds in which the last writes of a cluster that has nothing to do get to all copies."""
DAMAGES = ("damage", "damage+kill", "power", "power-all", "disk-fails", "short")
"""Classes after which something may be kept aside: files are damaged, or end in noise."""
REPEATS_NOTHING = ("none", "rolling")
"""Classes in which nothing is delivered twice (P4)."""
LATE = 15.0
"""Seconds within which copies are alike at the latest, after another start."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    kind: str
    """A fault class."""
    seed: int
    nodes: int = 3
    duration: float = 12.0
    """Seconds of load, of which the first is without faults."""
    rate: float = 200.0
    tree: Path = ROOT
    """Of the program."""
    program: bool = True
    """Whether `dmq send` and `dmq receive` take part."""
    patience: float = 60.0


@dataclass
class Outcome:
    """What a run showed."""

    kind: str
    seed: int
    nodes: int
    seconds: float = 0.0
    broken: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Where copies were not alike at first."""
    timeline: Timeline | None = None

    def line(self) -> str:
        """Return it in one line."""
        counts = " ".join(f"{name} {n}" for name, n in self.counts.items())
        wrong = "; ".join(f"{kind}: {found[0]} ({len(found)})" for kind, found in self.broken.items())
        what = f"{self.kind} seed {self.seed}, {self.nodes} nodes, {self.seconds:.0f} s"
        return f"{what}: {counts}: {wrong or 'ok'}"

    def fields(self) -> dict[str, Any]:
        """Return it without the timeline."""
        return {k: v for k, v in asdict(self).items() if k != "timeline"}


def possible(kind: str) -> bool:
    """Whether this machine can do a class of faults."""
    return kind not in NEED_SHIM or compiler() is not None


def run(plan: Plan, kept: Path | None = None) -> Outcome:
    """Do one run.

    Arguments:
        plan: what to do.
        kept: where logs and stores go if something is wrong.
    """
    directory = Path(tempfile.mkdtemp(prefix="dmq-chaos."))
    began = time.monotonic()
    outcome = Outcome(plan.kind, plan.seed, plan.nodes)
    try:
        with Site(directory / "site", plan.nodes, tree=plan.tree, patience=plan.patience) as site:
            try:
                _run(plan, site, outcome)
            except AssertionError as error:
                outcome.broken["stuck"] = [f"a node does not start: {error}"]
            if outcome.broken and kept is not None:
                site.keep(kept)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    outcome.seconds = time.monotonic() - began
    return outcome


def _run(plan: Plan, site: Site, outcome: Outcome) -> None:
    ledger = Ledger()
    addresses = [node.address for node in site.nodes]
    load = Workload(addresses, ledger, plan.seed, rate=plan.rate, program=plan.program)
    load.create()
    began = time.monotonic()
    with load:
        _strike(plan, site, began)
        unwell = site.heal()
        load.producing.clear()
        load.sinning = False
        stuck = load.drain(plan.patience)
    verdict = judge(ledger, clock_error=site.clock_error)
    verdict.stuck += stuck
    verdict.counters += unwell or site.heal()
    if site.set_aside and plan.kind not in DAMAGES:
        verdict.counters.append(f"{site.set_aside} set aside, and nothing was damaged")
    first = _compare(site, QUIET)
    if first:
        # What one side learns only when it asks again, it has learnt after a restart and a while.
        site.heal()
        verdict.unlike += _compare(site, LATE)
    outcome.broken = verdict.broken
    if plan.kind in REPEATS_NOTHING and verdict.repeated:
        outcome.broken["repeated"] = [f"{verdict.repeated} deliveries"]
    outcome.counts = {name: getattr(verdict, name) for name in verdict.COUNTED}
    outcome.counts["set_aside"] = site.set_aside
    outcome.counts["alike_late"] = bool(first) and not verdict.unlike
    outcome.notes = first
    for event in site.events:
        outcome.faults[event.name] = outcome.faults.get(event.name, 0) + 1
    outcome.timeline = draw_up(began, ledger, site.events)


def _compare(site: Site, quiet: float) -> list[str]:
    """End all nodes after a time of quiet, and compare their copies."""
    time.sleep(quiet)
    for node in site.nodes:
        node.process.kill()
    for node in site.nodes:
        node.kill()
    return differences({node.name: node.data for node in site.nodes})


def _strike(plan: Plan, site: Site, began: float) -> None:
    """Do what the class does, again and again."""
    rng = random.Random(f"{plan.kind} {plan.seed}")
    fault = {**CLASSES, **PARTS}[plan.kind]
    time.sleep(1)
    while (left := began + plan.duration - time.monotonic()) > 0:
        if fault is None:
            time.sleep(left)
            return
        fault(site, rng)
        time.sleep(rng.uniform(0.2, 2.0))
