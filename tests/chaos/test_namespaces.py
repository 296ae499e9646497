"""Nodes on networks of their own: directions are cut, of one protocol or of both, and mended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.namespaces import NAMED, Namespaces, possible
from tests.chaos.network import CUT, PORT
from tests.chaos.proxy import CLIENT, FINE, Trouble

pytestmark = pytest.mark.skipif(not possible(), reason="needs root, ip, and namespaces")
ECHO = f"""
import socket, threading
udp = socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", {PORT}))
tcp = socket.create_server(("0.0.0.0", {PORT}))
def datagrams():
    while True:
        udp.sendto(*udp.recvfrom(100))
threading.Thread(target=datagrams, daemon=True).start()
print("ready", flush=True)
stream, _ = tcp.accept()
while data := stream.recv(100):
    stream.sendall(data)
"""


@pytest.fixture
def spaces() -> Iterator[Namespaces]:
    with Namespaces(["n1", "n2"]) as found:
        yield found


@pytest.fixture
def echo(spaces: Namespaces) -> Iterator[tuple[str, int]]:
    command = [*spaces.within("n1"), sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield spaces.host("n1"), PORT
        process.kill()


def answered(end: socket.socket, seconds: float) -> bool:
    end.settimeout(seconds)
    try:
        return end.recv(100) == b"x"
    except TimeoutError:
        return False


def test_each_direction_and_protocol_is_cut_and_mended_by_itself(
    spaces: Namespaces, echo: tuple[str, int]
) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.create_connection(echo, 5) as tcp:
        udp.connect(echo)
        for end in (udp, tcp):
            end.send(b"x")
            assert answered(end, 5)
        spaces.spoil(["n1"], [CLIENT], udp=CUT)
        udp.send(b"x")
        tcp.send(b"x")
        assert answered(tcp, 5)
        assert not answered(udp, 0.2)
        spaces.spoil(["n1"], [CLIENT], udp=FINE)
        spaces.spoil([CLIENT], ["n1"], tcp=CUT)
        udp.send(b"x")
        tcp.send(b"x")
        assert answered(udp, 5)
        assert not answered(tcp, 0.2)
        spaces.mend()
        assert answered(tcp, 10), "what TCP sent meanwhile is sent again"


def test_packets_are_not_delayed_here(spaces: Namespaces) -> None:
    with pytest.raises(ValueError, match="only cut"):
        spaces.spoil(["n1"], ["n2"], tcp=Trouble(delay=1))


def test_nothing_is_left_behind() -> None:
    before = sorted(p.name for p in Path("/run/netns").glob(f"{NAMED}-{os.getpid()}-*"))
    with Namespaces(["n1"]):
        assert len(list(Path("/run/netns").glob(f"{NAMED}-{os.getpid()}-*"))) == len(before) + 2
    assert sorted(p.name for p in Path("/run/netns").glob(f"{NAMED}-{os.getpid()}-*")) == before
