"""Global options, and what the text of an option means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import commands
from cli.options import Shared, duration, number, pairs, shared, size
from dmqnode.errors import UsageError


def resolve(*args: str) -> Shared:
    """Return the global options that a command gets."""
    root: Any = typer.main.get_command(commands.app)
    with root.make_context("dmq", [*args]) as ctx:
        name, command, rest = root.resolve_command(ctx, [*args][-2:] if args[-1:] == ("q",) else ["top"])
        with command.make_context(name, rest, parent=ctx) as inner:
            return shared(inner)


def test_flags_go_before_the_environment_before_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("top").nodes == ("127.0.0.1:7367",)
    (place / "dmq.toml").write_text('[client]\nnodes = ["file:1", "file:2"]\ntimeout = 7\n')
    assert resolve("top").nodes == ("file:1", "file:2")
    assert resolve("top").timeout == 7
    monkeypatch.setenv("DMQ_NODES", "env:1, env:2")
    monkeypatch.setenv("DMQ_TIMEOUT", "8s")
    assert resolve("top").nodes == ("env:1", "env:2")
    assert resolve("top").timeout == 8
    assert resolve("--node", "flag:1", "--node", "flag:2", "--timeout", "9s", "top").nodes == (
        "flag:1",
        "flag:2",
    )
    assert resolve("--timeout", "9s", "top").timeout == 9


def test_flags_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not resolve("top").json
    monkeypatch.setenv("DMQ_JSON", "1")
    monkeypatch.setenv("DMQ_QUIET", "yes")
    assert resolve("top").json
    assert resolve("top").quiet
    assert resolve("top").direct
    assert not resolve("--no-direct", "top").direct
    monkeypatch.setenv("DMQ_NO_DIRECT", "1")
    assert not resolve("top").direct
    monkeypatch.setenv("DMQ_JSON", "maybe")
    with pytest.raises(UsageError, match="DMQ_JSON is 'maybe'; set it to 1 or 0"):
        resolve("top")


def test_the_token_comes_from_a_file_or_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place / "token"
    file.write_text("from-the-file\n")
    assert resolve("top").token is None
    (place / "dmq.toml").write_text('[client]\ntoken_file = "token"\n')
    assert resolve("top").token == "from-the-file"
    monkeypatch.setenv("DMQ_TOKEN", "from-the-environment")
    assert resolve("top").token == "from-the-environment"
    assert resolve("--token-file", str(file), "top").token == "from-the-file"
    with pytest.raises(UsageError, match="cannot read the token file"):
        resolve("--token-file", "none", "top")
    file.write_text("two words")
    with pytest.raises(UsageError, match="must hold one token"):
        resolve("--token-file", str(file), "top")
    with pytest.raises(UsageError, match="--token-file: there is no home directory for '~nosuchuser/x'"):
        resolve("--token-file", "~nosuchuser/x", "top")
    monkeypatch.setenv("DMQ_TOKEN", os.fsdecode(b"secret\xff"))
    with pytest.raises(UsageError, match="DMQ_TOKEN is not UTF-8") as caught:
        resolve("top")
    assert "secret" not in str(caught.value)


def test_a_time_out_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--timeout is 0 s"):
        resolve("--timeout", "0s", "top")


def test_values_say_which_flag_is_wrong() -> None:
    assert duration("--wait", "1m30s") == 90
    assert size("--size", "1KiB") == 1024
    assert number("-n", "12") == 12
    with pytest.raises(UsageError, match="--wait: 'soon' is not a duration"):
        duration("--wait", "soon")
    with pytest.raises(UsageError, match="--size: 'big' is not a size"):
        size("--size", "big")
    for text in ("0", "-1", "--5", "-" + "9" * 5000, "x", "1.5", "", "٣"):
        with pytest.raises(UsageError, match=r"-n: '.*' is not a whole number from 1 on"):
            number("-n", text)
    for text in ("2147483649", "9" * 5000):
        with pytest.raises(UsageError, match=r"^-n: [0-9]{10,20} is too much; it may be 2147483648 at most"):
            number("-n", text)
    assert number("-n", "2147483648") == 2**31


def test_attributes() -> None:
    assert pairs("-H", None) is None
    assert pairs("-H", ["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for text in ("a", "=1"):
        with pytest.raises(UsageError, match="is not KEY=VALUE"):
            pairs("-H", [text])
