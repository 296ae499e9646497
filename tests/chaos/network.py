"""The links between nodes, as a test sees them: cut, mend, spoil.  `proxy` does the work."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Self

from tests.chaos.proxy import CLIENT, FINE, Trouble
from tests.processes import ROOT

PORT = 7367
CUT = Trouble(cut=True)


class Links(ABC):
    """The network of some nodes; use it in a `with` block, or close it.

    Arguments:
        names: of the nodes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def outside(self, name: str) -> str:
        """Return the address that everybody uses."""

    @abstractmethod
    def inside(self, name: str) -> str:
        """Return the address at which a node listens."""

    @abstractmethod
    def host(self, name: str) -> str:
        """Return the address from which a node dials."""

    def within(self, name: str) -> list[str]:
        """Return what is put before a command that a node runs."""
        return []

    @abstractmethod
    def close(self) -> None:
        """End it, once the nodes have ended."""

    @abstractmethod
    def spoil(
        self,
        sources: Iterable[str],
        targets: Iterable[str],
        *,
        tcp: Trouble | None = None,
        udp: Trouble | None = None,
    ) -> None:
        """Change the direction from each source to each target; what is None stays as it is."""

    def part(self, side: Iterable[str], other: Iterable[str]) -> None:
        """Cut both directions between two sides."""
        side, other = list(side), list(other)
        self.spoil(side, other, tcp=CUT, udp=CUT)
        self.spoil(other, side, tcp=CUT, udp=CUT)

    def mend(self) -> None:
        """Make all links as they should be."""
        ends = [*self.names, CLIENT]
        self.spoil(ends, ends, tcp=FINE, udp=FINE)


class Network(Links):
    """Loopback addresses for some nodes, with a proxy between them.

    Arguments:
        names: of the nodes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(names)
        rng = random.SystemRandom()
        # Every run has a piece of 127.0.0.0/8 of its own, so that runs beside one another do not meet.
        self._net = f"127.{rng.randrange(64, 250)}.{rng.randrange(1, 250)}"
        ends = {
            name: ((f"{self._net}.{100 + n}", PORT), (f"{self._net}.{10 + n}", PORT))
            for n, name in enumerate(self.names)
        }
        self._ends = ends
        self._troubles: dict[tuple[str, str], tuple[Trouble, Trouble]] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._tell({"ends": ends}, "ready")

    def outside(self, name: str) -> str:
        """Return the address that everybody uses."""
        host, port = self._ends[name][0]
        return f"{host}:{port}"

    def inside(self, name: str) -> str:
        """Return the address at which a node listens."""
        host, port = self._ends[name][1]
        return f"{host}:{port}"

    def host(self, name: str) -> str:
        """Return the address from which a node dials."""
        return self._ends[name][1][0]

    def close(self) -> None:
        """End the proxy."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    # --- changing ------------------------------------------------------------------------------------

    def spoil(
        self,
        sources: Iterable[str],
        targets: Iterable[str],
        *,
        tcp: Trouble | None = None,
        udp: Trouble | None = None,
    ) -> None:
        """Change the direction from each source to each target; what is None stays as it is."""
        orders: list[dict[str, Any]] = []
        targets = list(targets)
        for a in sources:
            for b in targets:
                if a == b:
                    continue
                old = self._troubles.get((a, b), (FINE, FINE))
                new = (old[0] if tcp is None else tcp, old[1] if udp is None else udp)
                self._troubles[a, b] = new
                orders.append({"from": a, "to": b, "tcp": asdict(new[0]), "udp": asdict(new[1])})
        self._tell(orders, "done")

    def _tell(self, order: Any, answer: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline().strip().decode()
        if line != answer:
            raise RuntimeError(f"the proxy has ended: {line!r}")


def possible() -> bool:
    """Whether this machine has more than one loopback address."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.64.1.10", 0))
        except OSError:
            return False
    return True
