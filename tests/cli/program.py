"""The program as tests see it: what a run gives, and the program in a process of its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

DMQ = Path(sys.executable).parent / "dmq"
DEADLINE = 30.0


class Ran(NamedTuple):
    """What one run of the program gave."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Standard output as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The error told as JSON."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return found


Dmq = Callable[..., Ran]
"""`dmq("send", "q", stdin=b"…")`: runs the program in this process."""
Start = Callable[..., "Process"]
"""`process("send", "q")`: starts the program in a process of its own."""
Counts = Callable[[str], tuple[int, int, int]]
"""`counts("q")`: how many messages are ready, delayed, in flight."""


class Process:
    """The program in a process of its own.

    Arguments:
        args: of the program.
        options: of `subprocess.Popen`; its output goes into pipes.
    """

    def __init__(self, *args: object, **options: Any) -> None:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.popen = subprocess.Popen([DMQ, *map(str, args)], **{**pipes, **options})

    def end(self) -> Ran:
        """Wait until it ends."""
        out, err = self.popen.communicate(timeout=DEADLINE)
        return Ran(self.popen.returncode, (out or b"").decode(), (err or b"").decode())

    def line(self) -> str:
        """Return its next line of output."""
        assert isinstance(self.popen.stdout, io.BufferedReader)
        return self.popen.stdout.readline().decode()


def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Look again until `condition` holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.02)
