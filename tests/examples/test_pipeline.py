"""The example pipeline: real files, a worker and the node killed, every line right in the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "examples" / "pipeline.sh"
DEADLINE = 120.0


def start(directory: Path, files: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(directory),
        "DMQ_DEMO_LIMIT": str(files),
        "DMQ_NODES": "127.0.0.1:1",  # somebody's own, which the demo leaves alone
    }
    return subprocess.Popen(
        [PIPELINE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def processes_in(directory: Path) -> list[str]:
    """Return the command lines of processes that speak of a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found


def gone(directory: Path) -> bool:
    """Wait until nothing is left in a directory, and nobody who uses it."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not any(directory.iterdir()) and not processes_in(directory):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_every_file_has_its_digest_once(tmp_path: Path) -> None:
    demo = start(tmp_path, 300)
    out, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 0, out
    assert "demo: all 300 lines are what sha256sum says" in out
    assert "killing a worker" in out
    assert "killing the node" in out
    assert re.search(r"(?m)^.*\bfour\b.*\balive\b", out), out
    assert gone(tmp_path), processes_in(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    demo = start(tmp_path, 5000)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "workers compute" in line:
            break
    demo.send_signal(number)
    out, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 128 + number, out
    assert gone(tmp_path), processes_in(tmp_path)
