"""What a node takes of its machine."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from dmqnode.resources import SPARE_FILES, give_memory_back, keep_memory_together, resident_memory


def test_resident_memory_grows_with_what_is_held() -> None:
    before = resident_memory()
    held = bytearray(b"x") * (64 << 20)
    assert 60 << 20 < resident_memory() - before < 80 << 20
    del held


def test_memory_can_be_given_back_at_any_time() -> None:
    keep_memory_together()
    give_memory_back()


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
