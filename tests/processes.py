"""Real node processes for tests: started on a free port, ended by their ids, come what may."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 30.0
"""Seconds within which a process does what it was asked to, on a busy machine."""
START = """
import json, sys
from pathlib import Path
from dmqnode.config import NodeConfig
from dmqnode.errors import DMQError, UsageError
from dmqnode.process import serve
from storage.errors import StorageError
settings = json.loads(sys.argv[1])
settings |= {k: Path(settings[k]) for k in ("data", "tokens") if k in settings}
try:
    sys.exit(serve(NodeConfig(**settings)))
except (DMQError, StorageError) as error:
    print(f"dmq: {error}", file=sys.stderr)
    sys.exit(2 if isinstance(error, UsageError) else 1)
"""


class NodeProcess:
    """One node in a process of its own.

    Arguments:
        directory: for its data and its log.
        settings: of `NodeConfig`; `listen` is 127.0.0.1:0 unless given.
        options: of `subprocess.Popen`.
    """

    deadline = DEADLINE

    def __init__(
        self, directory: Path, settings: dict[str, Any], options: dict[str, Any] | None = None
    ) -> None:
        self.data = Path(settings.get("data", directory / "data"))
        self.log_path = directory / "log"
        self._settings = {"data": str(self.data), "listen": "127.0.0.1:0", **settings}
        self._options = options or {}
        self.address = ""
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        """Start the process without waiting until it serves."""
        with self.log_path.open("ab") as log:
            options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": log, **self._options}
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, json.dumps(self._settings)], cwd=ROOT, **options
            )

    def wait_ready(self) -> None:
        """Wait for the line that says where the node serves."""
        if self.process.stdout is None:
            return
        line = _read_line(self.process.stdout.fileno(), self.deadline)
        if not line.startswith("ready "):
            self.kill()
            raise AssertionError(f"the node did not start; stdout: {line!r}, log: {self.log}")
        self.address = line.split()[2]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What the node has logged so far, in all its runs."""
        return self.log_path.read_text()

    def memory(self) -> int:
        """Return the bytes of anonymous resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(x.split()[1]) * 1024 for x in status.splitlines() if x.startswith("RssAnon"))

    def kill(self) -> None:
        """End it with SIGKILL; nothing happens if it has ended."""
        self.process.kill()
        self._reap()

    def stop(self, signal_: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, and return its exit code."""
        self.process.send_signal(signal_)
        return self._reap()

    def wait(self) -> int:
        """Return the exit code of a process that ends by itself."""
        return self._reap()

    def restart(self, **settings: Any) -> None:
        """Start again after `kill` or `stop`, at the same address, perhaps with changed settings."""
        self.begin_again(**settings)
        self.wait_ready()

    def begin_again(self, **settings: Any) -> None:
        """Start again without waiting until it serves."""
        self._settings = {**self._settings, "listen": self.address, **settings}
        self.begin()

    def _reap(self) -> int:
        try:
            return self.process.wait(self.deadline)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextmanager
def running_node(directory: Path, **settings: Any) -> Iterator[NodeProcess]:
    """Run a node for as long as the block lasts; it is killed at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    node = NodeProcess(directory, settings)
    try:
        yield node
    except BaseException:
        print(node.log[-4000:])
        raise
    finally:
        node.kill()


def start_to_fail(directory: Path, **settings: Any) -> tuple[int, str]:
    """Start a node that cannot start; return its exit code and what it printed on stderr."""
    settings = {"data": str(directory), "listen": "127.0.0.1:0", **settings}
    done = subprocess.run(
        [sys.executable, "-c", START, json.dumps(settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stdout == "", done.stdout
    return done.returncode, done.stderr


def _read_line(file: int, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(file, 1) if ready else b""
        if not data:
            break
        line += data
    return line.decode()
