"""The program that measures membership, for a moment: it runs, and what it prints can be."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import ROOT


def test_the_figures_of_three_members() -> None:
    command = [sys.executable, "benchmarks/gossip.py", "--members", "3", "--loss", "0", "--loss", "0.1"]
    ran = subprocess.run(
        [*command, "--quiet", "36", "--crashes", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    head, *lines = ran.stdout.splitlines()
    assert head.split()[:2] == ["members", "loss"]
    assert [line.split()[:2] for line in lines] == [["3", "0%"], ["3", "10%"]]
    for line in lines:
        first, _, every, _, spread, false, _, hours, _, per_second = line.split()[2:]
        # A death is found by a probe in its round, and a suspicion that lasts a while.
        assert 0.5 < float(first) <= float(every) < 10.0
        assert float(spread) < 1.0
        assert (false, hours) == ("0", "0.03")
        assert 50 < float(per_second) < 5000
