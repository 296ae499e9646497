"""What a node may be set to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.addresses import split_address
from dmqnode.config import NodeConfig, host_port
from dmqnode.errors import UsageError

NOWHERE = Path("/nowhere")


def test_no_setting_is_needed() -> None:
    config = NodeConfig(data=NOWHERE)
    assert (config.listen, config.replicas, config.write_quorum) == ("127.0.0.1:7367", 3, 2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("replicas", 0),
        ("replicas", 8),
        ("replicas", 2.0),
        ("replicas", True),
        ("write_quorum", 0),
        ("write_quorum", 4),
        ("dead_after", 9.9),
        ("dead_after", float("nan")),
        ("dead_after", float("inf")),
        ("dead_after", "600"),
        ("memory_limit", (64 << 20) - 1),
        ("memory_limit", "512MiB"),
        ("disk_reserve", -1),
        ("max_connections", 0),
        ("max_frame", 1000),
        ("max_frame", 1 << 40),
        ("credit", 1000),
        ("keepalive", 0.0),
        ("keepalive", -1),
        ("log_format", "xml"),
        ("name", "a b"),
        ("name", "a\nready"),
        ("name", "x" * 64),
        ("name", 7),
        ("zone", "é"),
        ("weight", 0),
        ("weight", 0.009),
        ("weight", 101.0),
        ("weight", float("nan")),
        ("weight", True),
        ("weight", "2"),
        ("cluster", ""),
        ("listen", "localhost"),
        ("join", ("127.0.0.1:0",)),
        ("join", ("127.0.0.1",)),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(setting: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        NodeConfig(data=NOWHERE, **{setting: value})
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert setting in sentence or str(value) in sentence or str(value[0]) in sentence


@pytest.mark.parametrize(
    ("address", "split"),
    [
        ("127.0.0.1:7367", ("127.0.0.1", 7367)),
        ("[::1]:1", ("::1", 1)),
        ("a.example:0", ("a.example", 0)),
        ("a.example.:1", ("a.example.", 1)),
        ("bücher.example:1", ("bücher.example", 1)),
    ],
)
def test_an_address_is_split(address: str, split: tuple[str, int]) -> None:
    assert host_port(address) == split


@given(
    st.sampled_from(
        ["", ":", ":1", "h", "h:", "h:x", "h:-1", "h:65536", "h:1.0", "h:٣", "h h:1", "h\x00:1", "h:9999999"]
    )
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT; write for example"):
        host_port(address)


@pytest.mark.parametrize("host", ["h..x", ".x", 64 * "x", "x." + 64 * "ü", "ü..x"])
@pytest.mark.parametrize("split", [host_port, split_address])
def test_what_no_host_can_be_called_is_refused(split: Callable[[str], object], host: str) -> None:
    with pytest.raises(UsageError, match="is no name of a host; write 1 to 63 characters"):
        split(f"{host}:1")
