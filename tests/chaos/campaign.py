"""Runs of real nodes under faults, and what became of the messages."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.faults import CLASSES, DAMAGES, NEED_SHIM, PARTS
from tests.chaos.ledger import REFUSED, STORED, UNKNOWN, Ledger, judge
from tests.chaos.network import Links, Network
from tests.chaos.offline import differences
from tests.chaos.shim import compiler
from tests.chaos.site import Site
from tests.chaos.timeline import Timeline, draw_up
from tests.chaos.workload import QUEUES, Workload
from tests.processes import ROOT

QUIET = 1.0
"""Seconds in which the last writes of a cluster that has nothing to do get to all copies."""
REPEATS_NOTHING = ("none", "rolling", "join", "leave")
"""Classes in which nothing is delivered twice where they are all that happens (P4)."""
LATE = 15.0
"""Seconds within which copies are alike at the latest, after another start."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    kind: str
    """A fault class, whose faults follow one another until the time is over; or the name of a round."""
    round: tuple[str, ...] = ()
    """Classes, one fault of each; then that is all."""
    seed: int
    nodes: int = 3
    duration: float = 12.0
    """Seconds of load, of which the first is without faults; of a round what it takes."""
    rate: float = 200.0
    tree: Path = ROOT
    """Of the program."""
    program: bool = True
    """Whether `dmq send` and `dmq receive` take part."""
    patience: float = 60.0
    network: type[Links] = Network


@dataclass
class Outcome:
    """What a run showed."""

    kind: str
    seed: int
    nodes: int
    network: str = ""
    """What stood between nodes."""
    seconds: float = 0.0
    broken: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Where copies were not alike at first."""
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of a round: per class what came of the sends that began meanwhile."""
    timeline: Timeline | None = None
    told: dict[str, Any] = field(default_factory=dict)
    """What nodes said of their queues when something was stuck."""

    def line(self) -> str:
        """Return it in one line."""
        counts = " ".join(f"{name} {n}" for name, n in self.counts.items())
        wrong = "; ".join(f"{kind}: {found[0]} ({len(found)})" for kind, found in self.broken.items())
        what = f"{self.kind} seed {self.seed}, {self.nodes} nodes, {self.network}, {self.seconds:.0f} s"
        what += f" ({', '.join(self.parts)})" if self.parts else ""
        return f"{what}: {counts}: {wrong or 'ok'}"

    def fields(self) -> dict[str, Any]:
        """Return it without the timeline."""
        return {k: v for k, v in asdict(self).items() if k not in ("timeline", "told")}


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
    outcome = Outcome(plan.kind, plan.seed, plan.nodes, plan.network.__name__.lower())
    try:
        with Site(
            directory / "site", plan.nodes, tree=plan.tree, patience=plan.patience, network=plan.network
        ) as site:
            try:
                _run(plan, site, outcome)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                outcome.broken["stuck"] = [str(error)]
                outcome.told = site.explain(QUEUES)
                outcome.parts = {kind: {} for kind in plan.round}
            if outcome.broken and kept is not None:
                site.keep(kept)
                (kept / "ledger.json").write_text(json.dumps(asdict(site.load.ledger)))
                (kept / "told.json").write_text(json.dumps(outcome.told, indent=1, default=str))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    outcome.seconds = time.monotonic() - began
    return outcome


def _run(plan: Plan, site: Site, outcome: Outcome) -> None:
    ledger = Ledger()
    addresses = [node.address for node in site.nodes]
    site.load = load = Workload(addresses, ledger, plan.seed, rate=plan.rate, program=plan.program)
    load.create()
    began = time.monotonic()
    with load:
        spans = _go_round(plan, site) if plan.round else _strike(plan, site, began)
        unwell = site.heal()
        with site.long_after():
            stuck = load.end(plan.patience)
    if stuck or unwell:
        outcome.told = site.explain(QUEUES)
    verdict = judge(ledger, clocks=site.clocks)
    verdict.stuck += stuck
    verdict.counters += unwell or site.heal(mended=True)
    if site.set_aside and not set(DAMAGES) & {plan.kind, *plan.round}:
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
    outcome.parts = {kind: _share(ledger, *span) for kind, span in spans.items()}
    outcome.timeline = draw_up(began, ledger, site.events)


def _compare(site: Site, quiet: float) -> list[str]:
    """End all nodes after a time of quiet, and compare their copies."""
    time.sleep(quiet)
    for node in site.nodes:
        node.process.kill()
    for node in site.nodes:
        node.kill()
    return differences({node.name: node.data for node in site.nodes})


Spans = dict[str, tuple[float, float]]
"""Per class of a round from when to when it was its turn."""


def _share(ledger: Ledger, began: float, ended: float) -> dict[str, int]:
    """Count what came of the sends that began in a time."""
    found = Counter(send.outcome for send in ledger.sends if began <= send.began < ended)
    return {"stored": found[STORED], "refused": found[REFUSED], "unknown": found[UNKNOWN]}


def _strike(plan: Plan, site: Site, began: float) -> Spans:
    """Do what the class does, again and again."""
    rng = random.Random(f"{plan.kind} {plan.seed}")
    fault = {**CLASSES, **PARTS}[plan.kind]
    time.sleep(1)
    while (left := began + plan.duration - time.monotonic()) > 0:
        if fault is None:
            time.sleep(left)
            break
        fault(site, rng)
        time.sleep(rng.uniform(0.2, 2.0))
    return {}


def _go_round(plan: Plan, site: Site) -> Spans:
    """Do what each class of a round does, one after the other."""
    rng = random.Random(f"{plan.kind} {plan.seed}")
    spans = {}
    time.sleep(1)
    for kind in plan.round:
        began = time.monotonic()
        fault = CLASSES[kind]
        if fault is None:
            time.sleep(3)
        else:
            fault(site, rng)
        # Now and then the next comes before everything has recovered.
        time.sleep(rng.choice((0.3, 1.0, 3.0)))
        spans[kind] = began, time.monotonic()
    return spans
