"""What a node takes of its machine."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from dmqnode.resources import (
    BUSY_PERIODS,
    QUIET,
    SPARE_FILES,
    SPARE_MEMORY,
    Spare,
    give_memory_back,
    keep_memory_together,
    resident_memory,
)


def test_resident_memory_grows_with_what_is_held() -> None:
    before = resident_memory()
    held = bytearray(b"x") * (64 << 20)
    assert 60 << 20 < resident_memory() - before < 80 << 20
    del held


def test_memory_can_be_given_back_at_any_time() -> None:
    keep_memory_together()
    give_memory_back()


def test_memory_is_given_back_when_it_has_grown_and_is_quiet_or_has_been_busy_for_long() -> None:
    spare, held, writes = Spare(), 40 << 20, 0
    assert spare.grown(held, writes)
    spare.kept(held)
    assert not spare.grown(held + SPARE_MEMORY - 1, writes)
    assert spare.grown(held + SPARE_MEMORY, writes)
    spare.kept(held + SPARE_MEMORY)  # it was all in use
    assert not spare.grown(held + SPARE_MEMORY, writes)
    assert not spare.grown(held, writes)
    found = []
    for _ in range(2 * BUSY_PERIODS):
        writes += QUIET
        found.append(spare.grown(held + SPARE_MEMORY, writes))
    assert found == [*[False] * (BUSY_PERIODS - 1), True] * 2


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed"),
    [
        (100, 300 + SPARE_FILES, 200, 200),
        (100, 150 + SPARE_FILES, 200, 150),
        (100, 100, 200, 1),
    ],
)
def test_connections_are_limited_by_open_files(soft: int, hard: int, wanted: int, allowed: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this host allows too few open files")
    program = (
        "import resource; from dmqnode.resources import raise_file_limit;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
        f"print(raise_file_limit({wanted}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == allowed
