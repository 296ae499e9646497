"""Each node on a network of its own: a namespace of the kernel, and a router between them all.

    node n1 (198.18.x.10) ──┐
    node n2 (198.18.x.11) ──┼── router ── clients (198.18.x.2, where the test runs)
    node n3 (198.18.x.12) ──┘

A cut direction is a rule of the router that drops what comes from there and goes here, of TCP, of UDP, or of
both, without a word to anybody: what TCP sends meanwhile it sends again, later
and later.  Needs root and `ip`.  Packets cannot be delayed here; `proxy` does that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.chaos.network import PORT, Links
from tests.chaos.proxy import CLIENT, FINE, Trouble

NAMED = "dmq-chaos"
PRIORITY = 100
"""Of the rules that cut; those of the system come later."""
PROTOCOLS = ("tcp", "udp")


class Namespaces(Links):
    """Namespaces for some nodes.

    Arguments:
        names: of the nodes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(names)
        _sweep()
        self._cut: set[tuple[str, str, str]] = set()
        self._net = self._link = ""
        for number in range(512):
            self._link = f"dmqc{number}"
            self._net = f"198.{18 + number // 256}.{number % 256}"
            self._mark = f"{NAMED}-{os.getpid()}-{number}"
            self._router = f"{self._mark}-router"
            if _ip(f"link add {self._link} type veth peer name {self._link}r", check=False):
                break
        else:
            raise RuntimeError("there are 512 networks of this kind already")
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        router, gateway = self._router, f"{self._net}.1"
        _ip(
            f"netns add {router}",
            f"link set dev {self._link}r netns {router} name client",
            f"addr add {self._net}.2 peer {gateway} dev {self._link}",
            f"link set dev {self._link} up",
            f"route add {self._net}.0/24 via {gateway}",
        )
        links = [(CLIENT, f"{self._net}.2")]
        for name in self.names:
            space = self._space(name)
            _ip(
                f"netns add {space}",
                f"link add eth0 netns {space} type veth peer name {name} netns {router}",
            )
            links.append((name, self.host(name)))
            _inside(
                space,
                "link set dev lo up",
                f"addr add {self.host(name)} peer {gateway} dev eth0",
                "link set dev eth0 up",
                f"route add default via {gateway}",
            )
        _inside(router, "link set dev lo up")
        for device, address in links:
            _inside(router, f"addr add {gateway} peer {address} dev {device}", f"link set dev {device} up")
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        subprocess.run(["ip", "netns", "exec", router, "sh", "-c", forward], check=True)

    def _space(self, name: str) -> str:
        return f"{self._mark}-{name}"

    def outside(self, name: str) -> str:
        """Return the address that everybody uses."""
        return f"{self.host(name)}:{PORT}"

    def inside(self, name: str) -> str:
        """Return the address at which a node listens."""
        return self.outside(name)

    def host(self, name: str) -> str:
        """Return the address from which a node dials."""
        return f"{self._net}.{2 if name == CLIENT else 10 + self.names.index(name)}"

    def within(self, name: str) -> list[str]:
        """Return what is put before a command that a node runs."""
        return ["ip", "netns", "exec", self._space(name)]

    def close(self) -> None:
        """Remove everything."""
        _remove(self._mark)
        _ip(f"link del dev {self._link}", check=False)

    def spoil(
        self,
        sources: Iterable[str],
        targets: Iterable[str],
        *,
        tcp: Trouble | None = None,
        udp: Trouble | None = None,
    ) -> None:
        """Cut or mend the direction from each source to each target; what is None stays as it is."""
        orders, targets = [], list(targets)
        for a in sources:
            for b in targets:
                for protocol, trouble in zip(PROTOCOLS, (tcp, udp)):
                    if a == b or trouble is None:
                        continue
                    if not trouble.cut and trouble != FINE:
                        raise ValueError("namespaces only cut")
                    link = (a, b, protocol)
                    if trouble.cut == (link in self._cut):
                        continue
                    (self._cut.add if trouble.cut else self._cut.remove)(link)
                    rule = f"iif {a} to {self.host(b)} ipproto {protocol} blackhole"
                    orders.append(f"rule {'add' if trouble.cut else 'del'} pref {PRIORITY} {rule}")
        if orders:
            _inside(self._router, *orders)


def _ip(*orders: str, check: bool = True) -> bool:
    return _batch([], orders, check)


def _inside(space: str, *orders: str) -> None:
    _batch(["-n", space], orders, True)


def _batch(options: list[str], orders: tuple[str, ...], check: bool) -> bool:
    command = ["ip", *options, "-batch", "-"]
    done = subprocess.run(
        command, input="\n".join(orders) + "\n", text=True, capture_output=True, check=False
    )
    if done.returncode and check:
        raise RuntimeError(f"ip {orders}: {done.stderr}")
    return not done.returncode


def _remove(mark: str) -> None:
    """Delete all namespaces whose names begin so; with them go their links."""
    places = Path("/run/netns")
    for place in places.glob(f"{mark}-*") if places.exists() else ():
        subprocess.run(["ip", "netns", "del", place.name], capture_output=True, check=False)


def _sweep() -> None:
    """Remove what processes have left that were killed."""
    places = Path("/run/netns")
    for place in places.glob(f"{NAMED}-*-router") if places.exists() else ():
        process, number = place.name.removeprefix(f"{NAMED}-").split("-")[:2]
        if not Path(f"/proc/{process}").exists():
            _remove(f"{NAMED}-{process}-{number}")


@cache
def possible() -> bool:
    """Whether this machine has namespaces for us, and rules that cut."""
    if os.geteuid() or shutil.which("ip") is None:
        return False
    try:
        with Namespaces(["a"]) as probe:
            probe.part(["a"], [CLIENT])
    except (RuntimeError, subprocess.CalledProcessError):
        return False
    return True
