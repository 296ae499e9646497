"""Settings shared by all tests: how many examples and seeds, and from which source of chance."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# `make torture SEEDS=n` raises both the examples of property tests and the runs of seeded campaigns. A test
# therefore does not fix `max_examples`; one whose examples are costly takes a fraction:
# `@settings(max_examples=settings().max_examples // 4)`.
TORTURE = int(os.environ.get("DMQ_TORTURE_SEEDS", "0"))
EXAMPLES = TORTURE or 60
SEEDS = TORTURE or 20

settings.register_profile("local", deadline=None, max_examples=EXAMPLES)
settings.register_profile("ci", deadline=None, max_examples=EXAMPLES, derandomize=True, print_blob=True)
settings.register_profile("torture", deadline=None, max_examples=EXAMPLES, print_blob=True)
settings.load_profile("torture" if TORTURE else "ci" if os.environ.get("CI") else "local")


@pytest.fixture
def seeds() -> range:
    """The seeds a campaign runs through: few in `make test`, as many as asked for in `make torture`."""
    return range(SEEDS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses `seeds`, so that `make torture` finds it."""
    for item in items:
        if "seeds" in getattr(item, "fixturenames", ()):
            item.add_marker("torture")
