"""Clients that are `dmq send`, `receive`, `ack`, `nack`: each command is a process, and some are killed."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.chaos.ledger import (
    ACKED,
    KILLED,
    REFUSED,
    STORED,
    UNKNOWN,
    Ack,
    Call,
    Delivery,
    Ledger,
    Nack,
    Send,
    make_body,
    read_body,
    stale,
)  # fmt: skip
from tests.processes import ROOT

REFUSALS = (6, 7, 9)
"""How it exits when certainly nothing was done: not reached, refused, a limit."""
STALE_RECEIPT, PARTLY = 4, 10
NEVER = (1, 2, 5)
"""How it exits for what no fault explains: failed, misused, not allowed."""
GIVEN_BACK = 0.5
"""Seconds for which `dmq nack` gives back."""

Choose = Callable[[random.Random, str, int], tuple[str, str, float, str]]
"""Chooses what to send: key, queue, delay in seconds, group."""


class Came(NamedTuple):
    """One line of `dmq receive --json`."""

    key: str
    receipt: str


class ProgramClients:
    """Runs the program against nodes, and writes down what it says.

    Arguments:
        addresses: of the nodes.
        ledger: where everything is written down.
        seed: for what is done.
        timeout: of each command, in seconds.
        visibility: of what is received, in seconds.
    """

    def __init__(
        self, addresses: Sequence[str], ledger: Ledger, seed: int, timeout: float, visibility: float
    ) -> None:
        self.killed_holding = 0
        """How many were killed between a delivery and its ack."""
        self._addresses = addresses
        self._ledger = ledger
        self._seed = seed
        self._timeout = timeout
        self._visibility = visibility

    # --- sending -------------------------------------------------------------------------------------

    def send(self, number: int, producing: threading.Event, breath: float, choose: Choose) -> None:
        """Send until `producing` is cleared; `breath`: seconds between two commands at most."""
        rng = random.Random(f"{self._seed} {number}")
        count = 0
        while producing.is_set():
            key, queue, delay, group = choose(rng, "cli", count)
            count += 1
            keys = [key] if queue != "plain" else [f"{key}.{n}" for n in range(rng.choice((1, 3)))]
            delay = round(delay, 3)
            options = [*(["--lines"] if len(keys) > 1 else []), *(["--group", group] if group else [])]
            options += ["--delay", f"{round(delay * 1000)}ms"] if delay else []
            began = time.monotonic()
            lines = b"\n".join(make_body(key, 20) for key in keys)
            code, out, _ = self._run(rng, ["send", queue, *options], lines)
            ended, ids = time.monotonic(), out.decode().split()
            rest = STORED if code == 0 else REFUSED if code in REFUSALS and not ids else UNKNOWN
            if code == 0 and len(ids) != len(keys):
                self._wrong(f"dmq send ended with 0 and {len(ids)} ids for {len(keys)} messages")
            if code in (*NEVER, STALE_RECEIPT):
                self._wrong(f"dmq send ended with {code}")
            for n, key in enumerate(keys):
                outcome, id_ = (STORED, ids[n]) if n < len(ids) else (rest, "")
                self._ledger.sends.append(Send(key, queue, began, ended, outcome, delay, group, id_))
            time.sleep(breath * rng.uniform(0.3, 0.8))

    # --- receiving -----------------------------------------------------------------------------------

    def receive(
        self, number: int, running: threading.Event, breath: float, sins: Callable[[], float]
    ) -> None:
        """Receive until `running` is cleared.

        Arguments:
            number: of this client.
            running: until when.
            breath: seconds between two commands at most.
            sins: how often to be killed before the ack, and to give back.
        """
        rng = random.Random(f"{self._seed} {number}")
        while running.is_set():
            queue = rng.choices(("plain", "later", "orders", "work", "dead"), (5, 2, 3, 1, 1))[0]
            careless = sins()
            if rng.random() < 10 * careless:
                self._killed(rng, queue)
            elif rng.random() < 0.5:
                self._at_once(rng, queue)
            else:
                self._by_hand(rng, queue, back=rng.random() < max(careless, 0.1) and bool(careless))
            time.sleep(min(breath, 0.1 / careless if careless else breath) * rng.uniform(0.3, 1.0))

    def _at_once(self, rng: random.Random, queue: str) -> None:
        """Let `dmq receive` ack what it has printed."""
        began = time.monotonic()
        code, out, _ = self._run(rng, self._command(queue, 40), b"")
        for came in self._take(queue, began, out, code):
            self._settled(came, queue, began, ACKED if code == 0 else UNKNOWN)

    def _killed(self, rng: random.Random, queue: str) -> None:
        """Kill `dmq receive` when it has printed something, or waited in vain: most often before its ack."""
        began = time.monotonic()
        _, out, _ = self._run(rng, self._command(queue, 40), b"", kill=True)
        found = self._take(queue, began, out, None)
        self.killed_holding += bool(found)
        for came in found:
            self._settled(came, queue, began, KILLED)

    def _by_hand(self, rng: random.Random, queue: str, *, back: bool) -> None:
        """Receive with --keep, then `dmq ack`, or `dmq nack`, the receipts."""
        began = time.monotonic()
        code, out, _ = self._run(rng, [*self._command(queue, 5), "--keep"], b"")
        found = self._take(queue, began, out, code)
        poison = [came for came in found if queue == "work" and came.key.startswith("poison")]
        returned = found if back and queue != "work" else poison
        kept = [came for came in found if came not in returned]
        if kept:
            began = time.monotonic()
            code, _, said = self._run(rng, ["ack", *(came.receipt for came in kept)], b"")
            outcome = (
                ACKED if code == 0 else stale(said) if code == STALE_RECEIPT
                else f"refused: exit {code}" if code in REFUSALS else UNKNOWN
            )  # fmt: skip
            self._note("dmq ack", queue, began, code)
            for came in kept:
                self._settled(came, queue, began, outcome)
        if returned:
            for came in returned:
                self._settled(came, queue, time.monotonic(), "back")
            began = time.monotonic()
            receipts = [came.receipt for came in returned]
            code, _, _ = self._run(rng, ["nack", "--delay", f"{GIVEN_BACK}s", *receipts], b"")
            self._note("dmq nack", queue, began, code)
            outcome = "done" if code == 0 else f"exit {code}"
            for came in returned:
                self._ledger.nacks.append(Nack(came.key, queue, began, time.monotonic(), outcome, GIVEN_BACK))

    def _command(self, queue: str, count: int) -> list[str]:
        options = ["-n", str(count), "--wait", "300ms", "--json", "--visibility", f"{self._visibility:g}s"]
        return ["receive", queue, *options]

    def _take(self, queue: str, began: float, out: bytes, code: int | None) -> list[Came]:
        """Write down what came with a command that ended with `code`, None: it was killed."""
        ended = time.monotonic()
        self._note("dmq receive", queue, began, code)
        found = []
        for line in out.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue
            told: dict[str, Any] = json.loads(line)
            key, intact = read_body(told["body"].encode())
            self._ledger.deliveries.append(
                Delivery(key, queue, told["id"], began, ended, told["attempt"], intact)
            )
            found.append(Came(key, told["receipt"]))
        return found

    # --- in general ----------------------------------------------------------------------------------

    def _settled(self, came: Came, queue: str, began: float, outcome: str) -> None:
        self._ledger.acks.append(Ack(came.key, queue, began, time.monotonic(), outcome))

    def _note(self, name: str, queue: str, began: float, code: int | None) -> None:
        if code in NEVER or (code == STALE_RECEIPT and name == "dmq receive"):
            self._wrong(f"{name} ended with {code}")
        outcome = (
            "killed" if code is None else "done" if code == 0 else "empty" if code == 3 else f"exit {code}"
        )
        self._ledger.calls.append(Call(name, queue, began, time.monotonic(), outcome))

    def _wrong(self, what: str) -> None:
        self._ledger.errors.append(what)

    def _run(
        self, rng: random.Random, args: list[str], data: bytes, kill: bool = False
    ) -> tuple[int, bytes, str]:
        nodes = ",".join(rng.sample(self._addresses, len(self._addresses)))
        env = {"DMQ_NODES": nodes, "PYTHONPATH": str(ROOT), "DMQ_TIMEOUT": f"{self._timeout:g}s"}
        command = [sys.executable, "-c", "from cli.main import main; main()", *args]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, env={**os.environ, **env}, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe
        ) as process:
            if kill:
                assert process.stdout is not None
                waiting = select.poll()  # select() knows but 1024 files, and strangers open thousands
                waiting.register(process.stdout, select.POLLIN)
                waiting.poll(1500)
                process.send_signal(signal.SIGKILL)
            out, said = process.communicate(data)
            return process.returncode, out, said.decode(errors="replace")
