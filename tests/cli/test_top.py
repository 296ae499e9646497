"""`dmq top`."""

from __future__ import annotations

import os
import pty
import select
import subprocess

import pytest

from tests.cli.program import DEADLINE, DMQ, Dmq


def test_once(dmq: Dmq, queue: str) -> None:
    dmq("send", queue, "--lines", "--quiet", stdin=b"x\n" * 100_000)
    ran = dmq("top", "--once")
    assert ran.code == 0
    assert "cluster dmq: 1 of 1 alive, healthy" in ran.out
    assert any(line.split()[:2] == [queue, "100000"] for line in ran.out.splitlines())
    found = dmq("top", "--json").rows[0]
    assert found["rates"]["sent"] > 0
    assert {"node", "rates", "members", "queues"} == set(found)


@pytest.mark.slow
def test_live_until_ctrl_c(dmq: Dmq, queue: str) -> None:
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    popen = subprocess.Popen(
        [DMQ, "top", "--interval", "100ms"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while seen.count(b"cluster dmq") < 3 and select.select([mine], [], [], DEADLINE)[0]:
        seen += os.read(mine, 1 << 16)
    popen.send_signal(2)
    while select.select([mine], [], [], DEADLINE)[0]:
        try:
            if not os.read(mine, 1 << 16):
                break
        except OSError:
            break
    os.close(mine)
    assert popen.communicate(timeout=DEADLINE)[1] == b""
    assert popen.returncode == 130
    assert b"QUEUE" in seen
