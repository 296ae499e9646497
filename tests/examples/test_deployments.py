"""The examples of three hosts and of three pods form a cluster, with their own values (but other ports)."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import configuration
from cli.node import node_config
from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "examples" / "systemd" / "dmq.service"
HOSTS = ROOT / "examples" / "systemd" / "dmq.toml"
PODS = ROOT / "examples" / "kubernetes" / "statefulset.yaml"
DEADLINE = 30.0


def pods() -> dict[str, Any]:
    """Return the objects of the example, by kind and name."""
    found = {f"{o['kind']} {o['metadata']['name']}": o for o in yaml.safe_load_all(PODS.read_text())}
    assert len(found) == 4
    return found


def container() -> dict[str, Any]:
    """Return the one container of a pod."""
    (found,) = pods()["StatefulSet dmq"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def variables(pod: str) -> dict[str, str]:
    """Return the environment that a pod's container has by the example."""
    given = {variable["name"]: variable for variable in container()["env"]}
    assert given.pop("POD")["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    return {name: variable["value"].replace("$(POD)", pod) for name, variable in given.items()}


def service() -> configparser.SectionProxy:
    """Return what the unit says of the process."""
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.read(UNIT)
    return unit["Service"]


def for_host(number: int) -> str:
    """Return the configuration of a host, changed as the example says."""
    text = HOSTS.read_text()
    return re.sub(r'(?m)^(advertise = "dmq|zone = "rack)-1', rf"\1-{number}", text)


Command = tuple[list[str], dict[str, str]]


def host(number: int, here: Callable[[str], str], directory: Path) -> Command:
    file = directory / "dmq.toml"
    file.write_text(here(for_host(number)))
    program, *command = shlex.split(service()["ExecStart"])
    assert Path(program).name == "dmq"
    places = {"/etc/dmq/dmq.toml": str(file), "/var/lib/dmq": str(directory / "data")}
    return [*(places.get(word, word) for word in command), "--name", f"dmq-{number}"], {}


def pod(number: int, here: Callable[[str], str], directory: Path) -> Command:
    found = variables(f"dmq-{number - 1}")
    program, *command = container()["command"]
    assert program == "dmq"
    return command, {
        name: here(value).replace("/data", str(directory / "data")) for name, value in found.items()
    }


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
    probes = [probe for name, probe in container().items() if name.endswith("Probe")]
    commands = [probe["exec"]["command"] for probe in probes if "exec" in probe]
    assert commands == [["dmq", "node", "status", "--quiet"]]


def test_services_and_disks_are_those_of_the_pods() -> None:
    objects = pods()
    spec = objects["StatefulSet dmq"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert objects[f"Service {spec['serviceName']}"]["spec"]["clusterIP"] == "None"
    for name in ("Service dmq-nodes", "Service dmq"):
        assert objects[name]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget dmq"]["spec"]["selector"]["matchLabels"] == labels
    assert spec["selector"]["matchLabels"] == labels
    (disk,) = spec["volumeClaimTemplates"]
    (mount,) = container()["volumeMounts"]
    assert disk["metadata"]["name"] == mount["name"]
    assert variables("dmq-0")["DMQ_DATA"] == mount["mountPath"]


def test_the_unit_keeps_its_data_and_has_time_to_hand_over() -> None:
    found = service()
    words = shlex.split(found["ExecStart"])
    assert words[words.index("--data") + 1] == f"/var/lib/{found['StateDirectory']}"
    assert found["KillSignal"] == "SIGTERM"
    assert int(found["TimeoutStopSec"]) >= 30
    assert found["Restart"] == "always"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/dmq", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if UNIT.name in line], done.stderr


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
                [sys.executable, "-m", "cli.main", *options],
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
