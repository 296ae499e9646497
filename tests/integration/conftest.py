"""Nodes in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

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
