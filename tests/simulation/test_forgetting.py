"""Queues that were deleted stay so whatever goes wrong, also once it is forgotten that they were."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Container, Iterable

import pytest

from dmqnode import forgetting
from dmqnode.catalog import Catalog
from dmqnode.ids import QueueId
from tests.simulation.plan import FAULTS, PLAIN, REBORN, draw_plan
from tests.simulation.summary import WRONG
from tests.simulation.world import World

Patch = pytest.MonkeyPatch
SOON = {"KEPT": 0, "AGE": 1.0, "SETTLED": 4.0, "AGAIN": 0.5, "PATIENCE": 4.0}
"""So long forgetting takes here: nothing is under way for four seconds, and all happens within a run."""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: Patch) -> Counter[str]:
    """Have nodes forget soon; return how often they do."""
    for name, value in SOON.items():
        monkeypatch.setattr(forgetting, name, value)
    counts: Counter[str] = Counter()
    forget = Catalog.forget

    def counted(self: Catalog, queues: Iterable[QueueId], kept: Container[QueueId]) -> None:
        ids = list(queues)
        counts["forgotten"] += sum(queue in self.deletions for queue in ids)
        forget(self, ids, kept)

    monkeypatch.setattr(Catalog, "forget", counted)
    return counts


@pytest.mark.share(1 / 12, few=4)
def test_what_is_deleted_stays_deleted(seeds: range, forgotten: Counter[str]) -> None:
    summary: Counter[str] = Counter()
    for seed in seeds:
        queues = (REBORN,) if seed % 2 else (REBORN, PLAIN)
        plan = draw_plan(random.Random(seed * 17 + 5), FAULTS)._replace(queues=queues)
        summary.update(World(seed, plan).run().ledger.summary())
    assert forgotten["forgotten"] > 4 * len(seeds), forgotten
    assert not any(summary[word] for word in WRONG), summary
