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

from dmqnode.errors import DMQError
from tests.chaos import namespaces, shim, smalldisk
from tests.chaos.faults import (
    BEYOND,
    CLASSES,
    DAMAGES,
    NEED_PROXY,
    NEED_SHIM,
    NEED_SMALL,
    PARTS,
    STEADY,
)  # fmt: skip
from tests.chaos.ledger import REFUSED, STORED, UNKNOWN, Ledger, judge
from tests.chaos.network import Links, Network
from tests.chaos.offline import differences
from tests.chaos.site import Site, at_once
from tests.chaos.timeline import Timeline, draw_up
from tests.chaos.workload import QUEUES, Workload
from tests.processes import ROOT

QUIET = 1.0
"""Seconds in which the last writes of a cluster that has nothing to do get to all copies."""
TROUBLES = (AssertionError, subprocess.TimeoutExpired, DMQError, OSError, RuntimeError)
"""What may end the faults of a run early: something does not get well, or cannot be done."""
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

    @property
    def kinds(self) -> frozenset[str]:
        """The classes whose faults there are."""
        return frozenset(self.round or (self.kind,))


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
    named: dict[str, int] = field(default_factory=dict)
    """Harm that came of more than is promised to be borne, and of which nodes said so."""
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
        what += f", named: {self.named}" if self.named else ""
        return f"{what}: {counts}: {wrong or 'ok'}"

    def fields(self) -> dict[str, Any]:
        """Return it without the timeline."""
        return {k: v for k, v in asdict(self).items() if k not in ("timeline", "told")}


def possible(kind: str) -> bool:
    """Whether this machine can do a class of faults."""
    if kind in NEED_SMALL:
        return smalldisk.possible()
    return kind not in NEED_SHIM or shim.built() is not None


def network_for(kinds: frozenset[str], wanted: str = "auto") -> type[Links]:
    """Choose what stands between nodes: a namespace for each where that is possible; only the proxy delays.

    Arguments:
        kinds: classes of faults.
        wanted: namespaces, proxy, or auto for what is possible.
    """
    apart = wanted == "namespaces" or (wanted == "auto" and namespaces.possible())
    return namespaces.Namespaces if apart and not NEED_PROXY & kinds else Network


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
            directory / "site", plan.nodes, tree=plan.tree, patience=plan.patience, network=plan.network,
            small=bool(plan.kinds & set(NEED_SMALL)),
        ) as site:  # fmt: skip
            try:
                _run(plan, site, outcome)
            except TROUBLES as error:
                outcome.broken["stuck"] = [str(error)]
                outcome.told = site.explain(QUEUES)
                outcome.parts = {kind: {} for kind in plan.round}
            if outcome.broken and kept is not None:
                site.keep(kept)
                (kept / "ledger.json").write_text(json.dumps(asdict(site.load.ledger)))
                (kept / "told.json").write_text(json.dumps(outcome.told, indent=1, default=str))
    except TROUBLES as error:
        outcome.broken.setdefault("stuck", []).append(f"at the start, or at the end: {error}")
        outcome.parts = outcome.parts or {kind: {} for kind in plan.round}
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
    spans: Spans = {}
    stuck = []
    with load:
        try:
            _go_round(plan, site, spans) if plan.round else _strike(plan, site, began)
        except TROUBLES as error:
            # What has become of the messages is to be seen all the same.
            stuck = [f"{site.events[-1].name if site.events else plan.kind}: {error}"]
        unwell = site.heal()
        with site.long_after():
            stuck += load.end(plan.patience)
    if stuck or unwell:
        outcome.told = site.explain(QUEUES)
    verdict = judge(ledger, clocks=site.clocks)
    verdict.stuck += stuck
    verdict.counters += unwell or site.heal(mended=True) or site.left_over(QUEUES)
    if site.set_aside and not plan.kinds & set(DAMAGES):
        verdict.counters.append(f"{site.set_aside} set aside, and nothing was damaged")
    if plan.kinds & set(BEYOND):
        outcome.named = verdict.excuse(*site.missing())
    damaged = "damage-all" in plan.kinds
    first = _compare(site, QUIET, damaged=damaged)
    if first:
        # What one side learns only when it asks again, it has learnt after a restart and a while.
        site.heal()
        verdict.unlike += _compare(site, LATE, damaged=damaged)
    outcome.broken = verdict.broken
    if plan.kinds <= set(STEADY) and verdict.too_soon:
        outcome.broken["repeated"] = [f"{verdict.too_soon} deliveries"]
    outcome.counts = {name: getattr(verdict, name) for name in verdict.COUNTED}
    outcome.counts["set_aside"] = site.set_aside
    outcome.counts["calls_failed"] = sum(call.outcome not in ("done", "empty") for call in ledger.calls)
    outcome.counts["alike_late"] = bool(first) and not verdict.unlike
    outcome.notes = first
    for event in site.events:
        outcome.faults[event.name] = outcome.faults.get(event.name, 0) + 1
    outcome.parts = {kind: _share(ledger, *span) for kind, span in spans.items()}
    outcome.timeline = draw_up(began, ledger, site.events)


def _compare(site: Site, quiet: float, *, damaged: bool) -> list[str]:
    """End all nodes after a time of quiet, and compare their copies."""
    time.sleep(quiet)
    at_once(site.nodes)
    return differences({node.name: node.data for node in site.nodes}, damaged=damaged)


Spans = dict[str, tuple[float, float]]
"""Per class of a round from when to when it was its turn."""


def _share(ledger: Ledger, began: float, ended: float) -> dict[str, int]:
    """Count what came of the sends that began in a time."""
    found = Counter(send.outcome for send in ledger.sends if began <= send.began < ended)
    return {"stored": found[STORED], "refused": found[REFUSED], "unknown": found[UNKNOWN]}


def _strike(plan: Plan, site: Site, began: float) -> None:
    """Do what the class of a run does, again and again."""
    rng = random.Random(f"{plan.kind} {plan.seed}")
    fault = {**CLASSES, **PARTS}[plan.kind]
    time.sleep(1)
    while (left := began + plan.duration - time.monotonic()) > 0:
        if fault is None:
            time.sleep(left)
            break
        fault(site, rng)
        time.sleep(rng.uniform(0.2, 2.0))


def _go_round(plan: Plan, site: Site, spans: Spans) -> None:
    """Do what each class of a round does, one after the other; note in `spans` when."""
    rng = random.Random(f"{plan.kind} {plan.seed}")
    time.sleep(1)
    for kind in plan.round:
        began = time.monotonic()
        fault = CLASSES[kind]
        try:
            if fault is None:
                time.sleep(3)
            else:
                fault(site, rng)
            # Now and then the next comes before everything has recovered.
            time.sleep(rng.choice((0.3, 1.0, 3.0)))
        finally:
            spans[kind] = began, time.monotonic()
