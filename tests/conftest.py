"""Settings shared by all tests: how many examples and seeds, and from which source of chance."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

# `make torture SEEDS=n` raises the runs of seeded campaigns and the examples of property tests in step: n
# counts runs of the swarm of whole nodes; the other campaigns take their share of it. So a test does not fix
# `max_examples`; one whose examples are costly takes a fraction of them:
# `@settings(max_examples=settings().max_examples // 4)`.
TORTURE = int(os.environ.get("DMQ_TORTURE_SEEDS", "0"))
SEEDS = TORTURE or 300
EXAMPLES = max(2, SEEDS // 5)
SHARE = 1 / 15
"""What a campaign runs of the seeds if it does not say otherwise by `@pytest.mark.share(...)`; `few` says
how many are enough for `make test`."""
SHARD = 100
"""A torture is cut into tests of so many seeds (times the share), which run on several processors."""
SMALLEST = 20
"""Seeds that a test runs at least, for it says what must have happened in some of them."""

settings.register_profile("local", deadline=None, max_examples=EXAMPLES)
settings.register_profile("ci", deadline=None, max_examples=EXAMPLES, derandomize=True, print_blob=True)
settings.register_profile("torture", deadline=None, max_examples=EXAMPLES, print_blob=True)
settings.load_profile("torture" if TORTURE else "ci" if os.environ.get("CI") else "local")


def names_of(mark: pytest.Mark) -> list[str]:
    """Return the names of the arguments that a test is parametrized with."""
    names = mark.args[0]
    return [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes `seeds` a range of them: few in `make test`, many shards in `make torture`."""
    own = {name for mark in metafunc.definition.iter_markers("parametrize") for name in names_of(mark)}
    if "seeds" not in metafunc.fixturenames or "seeds" in own:
        return
    mark = metafunc.definition.get_closest_marker("share")
    share = mark.args[0] if mark is not None else SHARE
    count = max(1, round(SEEDS * share))
    if mark is not None and not TORTURE:
        count = min(count, mark.kwargs.get("few", count))
    size = max(SMALLEST, round(SHARD * share)) if TORTURE else count
    shards = [range(first, min(first + size, count)) for first in range(0, count, size)]
    metafunc.parametrize("seeds", shards, ids=[f"{shard.start}-{shard.stop - 1}" for shard in shards])


@pytest.fixture
def torture() -> bool:
    """Whether this is `make torture`, where tests may take minutes."""
    return bool(TORTURE)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives as long as the tests do: modules, and the tests collected."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses `seeds`, so that `make torture` finds it; those with the most come first.

    One that takes minutes and comes last is waited for with all processors but one idle.
    """
    for item in items:
        if "seeds" in getattr(item, "fixturenames", ()):
            item.add_marker("torture")
    items.sort(key=_seeds_of, reverse=True)


def _seeds_of(item: pytest.Item) -> int:
    """Return how many seeds a test runs, 0 if they are few."""
    spec = getattr(item, "callspec", None)
    seeds = spec.params.get("seeds") if spec is not None else None
    return len(seeds) if isinstance(seeds, range) and len(seeds) > SHARD else 0
