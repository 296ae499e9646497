"""Configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.configuration import KEYS, read_section
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
