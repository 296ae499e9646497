"""The example in Python: every order is packed once, the impossible one is put aside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import running_node

ORDERS = Path(__file__).resolve().parents[2] / "examples" / "orders.py"


def run(address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ORDERS, address], capture_output=True, text=True, timeout=60)


def test_orders_are_packed(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        done = run(node.address)
        assert done.returncode == 0, done.stderr
        assert "199 orders packed" in done.stdout
        assert 'not packed: {"number": 13' in done.stdout
        assert "dmq.attempts: 3" in done.stdout


def test_without_a_node_it_says_so() -> None:
    done = run("127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith("orders: ")
    assert "Traceback" not in done.stderr
