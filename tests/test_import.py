"""`import dmqnode` costs little, and every name that it offers is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dmqnode


def test_every_name_is_there() -> None:
    for name in dmqnode.__all__:
        assert getattr(dmqnode, name) is not None
    assert set(dir(dmqnode)) == set(dmqnode.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dmqnode.nonsense


def test_nothing_is_loaded_before_it_is_used() -> None:
    ours = "('dmqnode', 'trio', 'cbor2')"
    code = f"import sys, dmqnode; print(*sorted(m for m in sys.modules if m.startswith({ours})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["dmqnode", "dmqnode.version"]
