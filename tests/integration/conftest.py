"""Nodes in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import until_healthy
from tests.processes import NodeProcess, running_node


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes with `start_node(**settings)`, each with a directory of its own; they end with the test."""
    with ExitStack() as nodes:
        count = 0

        def start(**settings: Any) -> NodeProcess:
            nonlocal count
            count += 1
            return nodes.enter_context(running_node(tmp_path / f"node-{count}", **settings))

        yield start


@pytest.fixture
def three(start_node: Callable[..., NodeProcess]) -> list[NodeProcess]:
    """Three nodes, the second and third of which have joined the first."""
    first = start_node(name="n1")
    second = start_node(name="n2", join=[first.address])
    third = start_node(name="n3", join=[first.address, second.address])
    nodes = [first, second, third]
    until_healthy(second, members=3)
    return nodes
