"""Commands that start fast: arguments, the environment, suggestions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from cli import commands
from cli.lean import environment_name, global_options
from tests.cli.program import Dmq


def below(command: Any, ctx: Any) -> list[tuple[Any, Any]]:
    """Return a command and every command below it, with a context each."""
    found = [(command, ctx)]
    for name in command.list_commands(ctx) if hasattr(command, "list_commands") else ():
        inner = command.get_command(ctx, name)
        found += below(inner, typer.Context(inner, parent=ctx, info_name=name))
    return found


def tree() -> list[tuple[Any, Any]]:
    root: Any = typer.main.get_command(commands.app)
    return below(root, typer.Context(root, info_name="dmq"))


def test_every_command_has_help_with_an_example_and_takes_the_global_options() -> None:
    for command, ctx in tree():
        text = ctx.get_help()
        assert len(text.split("\n\n")[1].strip()) > 10, ctx.command_path
        if not hasattr(command, "table"):
            assert text.count(ctx.command_path) >= 2, f"{ctx.command_path} has no example"
        if ctx.parent is not None:
            assert [p.name for p in global_options(ctx, command)] == [
                "nodes",
                "json",
                "timeout",
                "quiet",
                "token_file",
                "no_direct",
            ]


def test_every_option_has_one_name_in_the_environment() -> None:
    for command, ctx in tree():
        names = [environment_name(p) for p in command.get_params(ctx)]
        options = [p for p in command.get_params(ctx) if p.param_type_name == "option"]
        found = [n for n in names if n]
        assert len(found) == len(set(found)), ctx.command_path
        assert len(found) >= len(options) - 2, "only --help and --version have none"
        assert all(n.startswith("DMQ_") for n in found)
    assert environment_name(next(p for p in tree()[0][0].params if p.name == "nodes")) == "DMQ_NODES"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["sned"], "there is no command 'sned'; did you mean dmq send?"),
        (["queue", "crate"], "there is no command 'crate'; did you mean dmq queue create?"),
        (["xyzzy"], "there is no command 'xyzzy'; all commands are shown by: dmq --help"),
        (["send"], "QUEUE is missing; see: dmq send --help"),
        (["send", "q", "--lnies"], "there is no option --lnies; did you mean --lines?"),
        (["send", "q", "--delay"], "option '--delay' requires an argument"),
        (["queue", "show", "a", "b"], "'b' is one argument too many; see: dmq queue show --help"),
        (["node", "status", "--json=1"], "option '--json' does not take a value"),
    ],
)
def test_a_mistake_is_one_line_with_what_was_meant(offline: Dmq, args: list[str], sentence: str) -> None:
    ran = offline(*args)
    assert ran.code == 2
    assert ran.out == ""
    assert sentence in ran.err
    assert ran.err.startswith("dmq: ")
    assert ran.err.count("\n") == 1
    told = offline("--json", *args) if "--json=1" not in args else ran
    assert "--json=1" in args or sentence in told.error["message"]


def test_without_a_command_there_is_help(offline: Dmq) -> None:
    ran = offline()
    assert ran.code == 0
    assert "Commands:" in ran.out
    assert offline("--help").out == ran.out
    ran = offline("queue")
    assert (ran.code, ran.out) == (2, "")
    assert "create" in ran.err


def test_flags_and_lists_in_the_environment(dmq: Dmq, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMQ_LINES", "true")
    monkeypatch.setenv("DMQ_HEADER", "a=1,b=2")
    assert dmq("send", queue, stdin=b"one\ntwo\n").out.count("\n") == 2
    monkeypatch.setenv("DMQ_NUMBER", "2")
    rows = dmq("receive", queue, "--json").rows
    assert [row["body"] for row in rows] == ["one", "two"]
    assert rows[0]["attributes"] == {"a": "1", "b": "2"}
    monkeypatch.setenv("DMQ_LINES", "perhaps")
    ran = dmq("send", queue, "x")
    assert ran.code == 2
    assert "DMQ_LINES is 'perhaps'; set it to 1 or 0" in ran.err


def test_global_options_before_and_after_the_command(dmq: Dmq, queue: str) -> None:
    before = dmq("--json", "queue", "show", queue).rows
    between = dmq("queue", "--json", "show", queue).rows
    after = dmq("queue", "show", queue, "--json").rows
    assert before == between == after


def test_what_follows_two_dashes_is_no_option(dmq: Dmq, queue: str) -> None:
    assert dmq("send", queue, "--", "--json").code == 0
    assert dmq("receive", queue).out == "--json"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["send", "q\udcff", "x"], "QUEUE is b'q\\xff'"),
        (["send", "q", "x", "-H", "k=\udcff"], "--header is b'k=\\xff'"),
        (["send", "q", "x", "-H", "a=b", "-H", "\udcff=v"], "--header is b'\\xff=v'"),
        (["send", "q", "x", "--group", "\udcff"], "--group is b'\\xff'"),
        (["send", "q", "x", "--dedup-id", "\udcff"], "--dedup-id is b'\\xff'"),
        (["queue", "list", "\udcff"], "PREFIX is b'\\xff'"),
        (["queue", "create", "\udcff"], "NAME is b'\\xff'"),
        (["queue", "list", "--node", "\udcff:1"], "--node is b'\\xff:1'"),
        (["ack", "\udcff"], "RECEIPT is b'\\xff'"),
    ],
)
def test_what_is_not_text_is_told_before_a_node_is_asked(offline: Dmq, args: list[str], what: str) -> None:
    ran = offline(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"dmq: {what}, which is not UTF-8; give it as text\n"


def test_what_is_not_text_in_the_environment(offline: Dmq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMQ_GROUP", "\udcff")
    ran = offline("send", "q", "x")
    assert (ran.code, ran.err) == (2, "dmq: --group is b'\\xff', which is not UTF-8; give it as text\n")


def test_names_of_files_need_not_be_text(offline: Dmq, place: Path) -> None:
    ran = offline("send", "q", "--file", "none\udcff")
    assert ran.code == 2
    assert "cannot read none" in ran.err
