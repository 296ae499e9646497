"""`dmq node start` and `dmq node status`."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cli import options
from cli.node import leave, leaving, node_config
from dmqnode.config import NodeConfig
from dmqnode.errors import UsageError
from tests.cli.program import Dmq, Start


def test_a_first_node_needs_no_flag(place: Path) -> None:
    assert node_config({}, None) == NodeConfig(data=place / "state/dmq")


def test_flags_go_before_the_configuration(place: Path) -> None:
    (place / "dmq.toml").write_text(
        '[node]\nname = "file"\nreplicas = 5\nmemory_limit = "1GiB"\ndead_after = 60\njoin = ["a:1", "b:2"]\n'
        'data = "~/d"\ntokens = "tokens"\n'
    )
    found = node_config({"name": "flag", "write_quorum": "3"}, None)
    assert found == NodeConfig(
        data=Path.home() / "d",
        name="flag",
        replicas=5,
        write_quorum=3,
        memory_limit=1 << 30,
        dead_after=60,
        join=("a:1", "b:2"),
        tokens=Path("tokens"),
    )
    assert node_config({"join": ["c:3"]}, None).join == ("c:3",)
    (place / "other.toml").write_text('[node]\nzone = "z"\nweight = 2.5\n')
    assert node_config({}, place / "other.toml") == NodeConfig(data=place / "state/dmq", zone="z", weight=2.5)
    assert node_config({"weight": "2"}, place / "other.toml").weight == 2


def test_who_has_no_home_says_where_the_data_is(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("XDG_STATE_HOME")
    assert node_config({"data": "d"}, None).data == Path("d")
    with pytest.raises(UsageError, match="you have no home directory; set HOME or XDG_STATE_HOME"):
        node_config({}, None)


def test_a_configuration_in_a_home_that_nobody_has(offline: Dmq) -> None:
    ran = offline("node", "start", "--config", "~nosuchuser/x")
    assert ran.code == 2
    assert ran.err.startswith("dmq: --config: there is no home directory for '~nosuchuser/x'; ")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"replicas": "x"}, "--replicas: 'x' is not a whole number"),
        ({"dead_after": "x"}, "--dead-after: 'x' is not a duration"),
        ({"memory_limit": "x"}, "--memory-limit: 'x' is not a size"),
        ({"weight": "x"}, "--weight: 'x' is not a number"),
        ({"weight": "0"}, r"weight is 0.0; it must be within 0.01 and 100"),
        ({"weight": "inf"}, "weight is inf; it must be within"),
        ({"data": "~nosuchuser/x"}, "--data: there is no home directory for"),
        ({"tokens": "~nosuchuser/x"}, "--tokens: there is no home directory for"),
        ({"listen": "x"}, "'x' is not HOST:PORT"),
        ({"log_format": "x"}, "it is text or json"),
        ({"write_quorum": "9"}, "write_quorum is 9"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        node_config(given, None)


def test_node_is_no_option_of_a_start(offline: Dmq) -> None:
    ran = offline("node", "start", "--node", "127.0.0.1:1")
    assert ran.code == 2
    assert "listens on --listen" in ran.err


@pytest.mark.slow
def test_start_serve_and_stop(dmq: Dmq, process: Start, place: Path) -> None:
    node = process("node", "start", "--listen", "127.0.0.1:0", "--name", "mine", "--zone", "z")
    ready, name, address = node.line().split()
    assert (ready, name) == ("ready", "mine")
    assert (place / "state/dmq").is_dir()
    assert dmq("send", "q", "x", "--create", "--node", address).code == 0
    ran = process("node", "start", "--listen", "127.0.0.1:0").end()
    assert ran.code == 1, "its directory is in use"
    assert ran.err.splitlines()[-1].startswith("dmq: ")
    node.popen.send_signal(signal.SIGTERM)
    assert node.end().code == 0


@pytest.mark.slow
def test_a_port_in_use_is_one_sentence(dmq: Dmq, node: object, process: Start) -> None:
    address = dmq("node", "status", "--json").rows[0]["address"]
    ran = process("node", "start", "--listen", address).end()
    assert (ran.code, ran.out) == (1, "")
    assert address in ran.err.splitlines()[-1]


def test_status(dmq: Dmq) -> None:
    found = dmq("node", "status", "--json")
    assert found.code == 0
    assert found.rows[0]["serving"] is True
    fields = dict(line.split(maxsplit=1) for line in dmq("node", "status").out.splitlines())
    assert fields["name"] == "shared"
    assert fields["serving"] == "yes"
    assert dmq("node", "status", "--quiet").out == ""


def test_status_of_a_node_that_is_not_there(offline: Dmq) -> None:
    ran = offline("node", "status", "--node", "127.0.0.1:1", "--timeout", "100ms")
    assert ran.code == 6
    assert "127.0.0.1:1" in ran.err
    assert offline("node", "status", "--node", "127.0.0.1:1", "--wait", "200ms").code == 6


@pytest.mark.slow
def test_a_token_is_needed_where_there_are_tokens(
    dmq: Dmq, process: Start, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "tokens").write_text("me:correct-horse\n")
    (place / "dmq.toml").write_text('[node]\ntokens = "tokens"\n')
    node = process("node", "start", "--listen", "127.0.0.1:0")
    address = node.line().split()[2]
    ran = dmq("queue", "list", "--node", address, "--json")
    assert ran.code == 5
    assert ran.error["code"] == "not-authorized"
    monkeypatch.setenv("DMQ_TOKEN", "correct-horse")
    assert dmq("queue", "list", "--node", address).code == 0
    (place / "token").write_text("battery-staple\n")
    assert dmq("node", "status", "--node", address, "--token-file", "token").code == 5


def test_how_far_a_node_is_that_leaves() -> None:
    move = {"queue": "q", "partition": 0, "from": ["n1"], "to": ["n4"], "done": 1200, "of": 5000}
    moves = [move, {**move, "from": ["n2"]}, {**move, "of": None}]
    assert leaving("n1", {"homes": 2, "overview": {"moves": moves}}) == (
        "n1 still has 2 partitions; of what moves now 1,200 of 5,000 messages are copied"
    )
    assert leaving("n1", {"homes": 1, "overview": {"moves": []}}) == "n1 still has 1 partition"


class BegunAnew:
    """What `leave` asks a node that loses its data meanwhile and begins anew."""

    def __init__(self) -> None:
        self._ids = ["0a", "0a", "0b"]

    def status(self) -> dict[str, Any]:
        now = self._ids.pop(0)
        return {
            "node_id": now,
            "name": "n1",
            "homes": int(now == "0a"),
            "hints": 0,
            "overview": {"moves": []},
        }

    def members(self) -> dict[str, Any]:
        return {"members": [{"node_id": id_, "name": "n", "weight": 1.0} for id_ in ("0a", "0c")]}

    def retire(self, member: dict[str, Any]) -> None:
        assert member["node_id"] == "0a"


def test_a_node_that_begins_anew_meanwhile_has_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared:
        quiet = True
        nodes = ("h:1",)

        def client(self) -> nullcontext[BegunAnew]:
            return nullcontext(BegunAnew())

    monkeypatch.setattr(options, "shared", lambda ctx: Shared())
    with pytest.raises(UsageError, match="begun anew meanwhile, with another id; let it leave again"):
        leave(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "say which one is to leave: dmq node leave NAME"),
        (["nobody"], 'no member is called "nobody"; there are shared'),
        (["shared"], "shared is the last member of its cluster; stop it instead"),
    ],
)
def test_it_is_not_left_to_chance_who_leaves(dmq: Dmq, args: list[str], sentence: str) -> None:
    """Several nodes may be asked, and any of them tells where the one is that was named."""
    node = dmq("node", "status", "--json").rows[0]["address"]
    ran = dmq("node", "leave", *args, "--node", "127.0.0.1:1", "--node", node)
    assert (ran.code, sentence in ran.err) == (2, True), ran.err
