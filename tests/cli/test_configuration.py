"""Configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.configuration import KEYS, path_of, read_section, xdg
from dmqnode.config import NodeConfig
from dmqnode.errors import UsageError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_no_file_is_no_setting() -> None:
    assert read_section("client") == {}


def test_the_nearer_file_goes_first_key_by_key(place: Path) -> None:
    write(place / "config/dmq/dmq.toml", '[client]\nnodes = ["far:1"]\ntimeout = "9s"\n')
    write(place / "dmq.toml", '[client]\nnodes = ["near:1"]\n')
    assert read_section("client") == {"nodes": ["near:1"], "timeout": "9s"}


def test_a_named_file_stands_for_all(place: Path) -> None:
    write(place / "dmq.toml", '[node]\nname = "near"\nzone = "z"\n')
    assert read_section("node", write(place / "mine.toml", '[node]\nname = "mine"\n')) == {"name": "mine"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[client]\nnods = []\n",
            r"dmq.toml: \[client\] has no key 'nods'; it has nodes, timeout, token_file",
        ),
        ("[clinet]\n", r"\[clinet\] is not known; there are \[client\] and \[node\]"),
        ("nodes = 1\n", r"\[nodes\] is not known"),
        ("[client\n", "is not TOML"),
        ("[client]\nnodes = [1]\n", "must be a list of texts"),
        ("[node]\nreplicas = true\n", "must be a text or a number"),
        ("[node]\nname = ['a']\n", "must be a text or a number"),
    ],
)
def test_a_mistake_is_one_sentence(place: Path, text: str, sentence: str) -> None:
    write(place / "dmq.toml", text)
    with pytest.raises(UsageError, match=sentence):
        read_section("client")


def test_a_named_file_must_be_there(place: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the configuration .*none\.toml: No such file"):
        read_section("node", place / "none.toml")


def test_every_setting_of_a_node_can_be_configured() -> None:
    fields: Any = NodeConfig.__dataclass_fields__
    assert set(KEYS["node"]) == set(fields)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of whom the system knows nothing, without HOME."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("XDG_CONFIG_HOME")


@pytest.mark.usefixtures("homeless")
def test_who_has_no_home_has_no_configuration_there(place: Path) -> None:
    assert read_section("client") == {}
    write(place / "dmq.toml", "[client]\ntimeout = 7\n")
    assert read_section("client") == {"timeout": 7}
    with pytest.raises(UsageError, match="you have no home directory; set HOME or XDG_CONFIG_HOME to"):
        xdg("XDG_CONFIG_HOME", ".config")


def test_homes_in_paths() -> None:
    assert path_of("--data", "~/x") == Path.home() / "x"
    with pytest.raises(UsageError, match="--data: there is no home directory for '~nosuchuser/x'"):
        path_of("--data", "~nosuchuser/x")
