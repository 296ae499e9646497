"""The examples of three hosts and of three pods form a cluster, with their own values (but other ports)."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli import configuration
from cli.node import node_config
from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ROOT / "examples" / "systemd" / "dmq.toml"
PODS = ROOT / "examples" / "kubernetes" / "statefulset.yaml"
DEADLINE = 30.0


def variables(pod: str) -> dict[str, str]:
    """Return the environment that a pod's container has by the example."""
    text = PODS.read_text()
    plain = dict(re.findall(r"\{name: (DMQ_\w+), value: \"?([^\"}]+)\"?\}", text))
    assert len(plain) == text.count("{name: DMQ_")
    assert re.search(r"- name: POD\n +valueFrom: \{fieldRef: \{fieldPath: metadata.name\}\}", text)
    return {name: value.replace("$(POD)", pod) for name, value in plain.items()}


def for_host(number: int) -> str:
    """Return the configuration of a host, changed as the example says."""
    text = HOSTS.read_text()
    return re.sub(r'(?m)^(advertise = "dmq|zone = "rack)-1', rf"\1-{number}", text)


Command = tuple[list[str], dict[str, str]]


def host(number: int, here: Callable[[str], str], directory: Path) -> Command:
    file = directory / "dmq.toml"
    file.write_text(here(for_host(number)))
    return ["--config", str(file), "--data", str(directory / "data"), "--name", f"dmq-{number}"], {}


def pod(number: int, here: Callable[[str], str], directory: Path) -> Command:
    found = variables(f"dmq-{number - 1}")
    return [], {name: here(value).replace("/data", str(directory / "data")) for name, value in found.items()}


def test_every_node_is_listed_as_it_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        file = tmp_path / "dmq.toml"
        file.write_text(for_host(number))
        config = node_config({}, file)
        assert config.advertise == config.join[number - 1]
        assert configuration.read_section("client", file)
        pod = variables(f"dmq-{number - 1}")
        assert pod["DMQ_ADVERTISE"] == pod["DMQ_JOIN"].split(",")[number - 1]


def test_the_probe_uses_no_variable() -> None:
    """Those of a probe are not replaced by what a pod's fields give."""
    (command,) = re.findall(r"exec: \{command: \[(.*)\]\}", PODS.read_text())
    assert command == "dmq, node, status, --quiet"


@pytest.mark.slow
@pytest.mark.parametrize("command", [host, pod])
def test_three_of_them_form_a_cluster(command: Callable[..., Command], tmp_path: Path) -> None:
    ports = []
    for _ in range(3):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            ports.append(taken.getsockname()[1])
    with ExitStack() as nodes:
        for number, port in enumerate(ports, 1):

            def here(text: str, port: int = port) -> str:
                names = re.sub(
                    r"dmq-(\d)(\.example\.net|\.dmq-nodes):7367",
                    lambda m: f"localhost:{ports[int(m[1]) - (m[2] != '.dmq-nodes')]}",
                    text,
                )
                return names.replace("0.0.0.0:7367", f"0.0.0.0:{port}")

            directory = tmp_path / str(number)
            directory.mkdir()
            options, environment = command(number, here, directory)
            log = nodes.enter_context((directory / "log").open("w"))
            process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "node", "start", *options],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            nodes.callback(process.wait)
            nodes.callback(process.kill)
        addresses = {f"localhost:{port}" for port in ports}
        assert members(sorted(addresses)) == addresses, (tmp_path / "1" / "log").read_text()[-2000:]


def members(addresses: list[str]) -> set[str]:
    """Return where the members are that are alive, once there are three, or too late."""
    found: set[str] = set()
    deadline = time.monotonic() + DEADLINE
    while len(found) < 3 and time.monotonic() < deadline:
        try:
            with connect_sync(*addresses, timeout=2) as client:
                found = {m["address"] for m in client.members()["members"] if m["state"] == "alive"}
        except DMQError:
            pass
        time.sleep(0.1)
    return found
