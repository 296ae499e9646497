"""The manual pages say what the program does: every command, flag and exit code, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import commands, configuration, failures, options
from cli.lean import environment_name
from dmqnode.config import NodeConfig
from tests.mdoc import MAN, Page, page, pages, values

ROOT = MAN.parent
ANYWHERE = {"-h", "--help"}
"""Flags that every command has; `dmq.1` says so once."""
NOT_OURS = {"DMQ_ATTR_<NAME>", "NO_COLOR"}
"""Variables whose names the source does not have as they are: one is made, one is read by rich."""

# --- the pages themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(MAN.iterdir()), ids=lambda path: path.name)
def test_mandoc_has_no_complaint(path: Path) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed (on Debian: apt-get install mandoc)")
    run = subprocess.run(
        [mandoc, "-T", "lint", "-W", "warning", path], capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 0, run.stdout
    assert not run.stdout


def test_pages_are_named_like_their_files() -> None:
    for found in pages():
        name, _, number = found.path.name.rpartition(".")
        assert f".Dt {name.upper()} {number}\n" in found.source, found.path.name
        assert f".Nm {name}\n.Nd " in found.source, found.path.name


def test_pages_refer_to_pages_that_exist() -> None:
    for found in pages():
        for name, number in re.findall(r"Xr (\S+) (\d)", found.source):
            assert (MAN / f"{name}.{number}").is_file(), f"{found.path.name} refers to {name}({number})"


def test_pages_speak_of_source_files_that_exist() -> None:
    for found in pages():
        for name in found.macros("Pa"):
            if name.partition("/")[0] in ("cli", "dmqnode", "gossip", "storage", "tests", "man"):
                assert (ROOT / name).exists(), f"{found.path.name} speaks of {name}"


def test_every_page_is_found_from_the_first() -> None:
    listed = set(re.findall(r"Xr (\S+ \d)", page("dmq.1").source))
    there = {found.path.name.replace(".", " ").replace("dmq toml", "dmq.toml") for found in pages()}
    assert there - listed == {"dmq 1"}


# --- commands and flags ----------------------------------------------------------------------------------


def tree(command: Any, context: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below `command`, with its full name; a group only if it has flags of its own."""
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    for child in command.list_commands(context):
        yield from tree(command.get_command(context, child), context, f"{name} {child}")


def program() -> dict[str, Any]:
    """Return the program's commands by their full names, `dmq` itself among them."""
    root = typer.main.get_command(commands.app)
    with root.make_context("dmq", [], resilient_parsing=True) as context:
        return {"dmq": root, **dict(tree(root, context, "dmq"))}


def flags_of(command: Any) -> set[str]:
    """Return the flags that a command defines itself."""
    options = [p for p in command.params if p.param_type_name == "option"]
    return {flag for p in options for flag in (*p.opts, *p.secondary_opts)} - ANYWHERE


def documented(found: Page) -> Iterator[tuple[str, set[str]]]:
    """Yield the commands that a page of section 1 describes, each with its flags."""
    of_page = found.name.replace("-", " ")
    described: dict[str, set[str]] = {}
    for section in found.sections:
        name = section.sub if section.sub.startswith("dmq ") else of_page
        described.setdefault(name, set()).update(
            f"-{flag}" for item in section.items for flag in values(item, "Fl")
        )
    yield from described.items()


def all_documented() -> dict[str, set[str]]:
    described: dict[str, set[str]] = {}
    for found in pages():
        if found.path.suffix == ".1":
            for name, flags in documented(found):
                described.setdefault(name, set()).update(flags)
    return described


def test_every_command_is_described_and_no_other() -> None:
    groups = {"dmq node", "dmq queue", "dmq cluster"}
    assert sorted(set(all_documented()) - groups) == sorted(program())


@pytest.mark.parametrize("name", program())
def test_every_flag_is_described_and_no_other(name: str) -> None:
    assert sorted(all_documented().get(name, set()) - ANYWHERE) == sorted(flags_of(program()[name]))


def test_examples_use_flags_that_exist() -> None:
    """What a page or the README tells to type, the program takes."""
    known = program()
    common = flags_of(known["dmq"]) | ANYWHERE
    wrong = []
    for path in (*sorted(MAN.iterdir()), ROOT / "README.md"):
        text = path.read_text(encoding="utf-8").replace("\\e\n", " ").replace("\\\n", " ")
        text = re.sub(r"'[^'\n]*'|\$\([^)\n]*\)", "…", text)
        for line in re.findall(r"(?:^|\$ |\.Dl \$ |&& )(dmq [a-z][^|#>\n]*)", text, re.MULTILINE):
            words = line.split()
            name = " ".join(words[:3]) if " ".join(words[:3]) in known else " ".join(words[:2])
            if name not in known:
                wrong.append(f"{path.name}: there is no command {name!r}: {line}")
                continue
            used = {w.partition("=")[0] for w in words if re.fullmatch(r"--?[a-zA-Z][a-z-]*(=.*)?", w)}
            if unknown := used - flags_of(known[name]) - common:
                wrong.append(f"{path.name}: {name} has no {unknown}: {line}")
    assert not wrong, "\n".join(["", *wrong])


# --- exit codes and environment --------------------------------------------------------------------------


def test_every_exit_code_is_described_and_no_other() -> None:
    (section,) = page("dmq.1").section("EXIT STATUS")
    described = [int(code) for item in section.items for code in values(item, "Sy")]
    codes = {
        v for k, v in vars(failures).items() if k.isupper() and isinstance(v, int) and k != "MAX_FAILURES"
    }
    assert described == sorted(codes | {130, 143})


def test_variables_that_pages_speak_of_exist() -> None:
    options = [p for command in program().values() for p in command.params]
    known = {environment_name(p) for p in options}
    source = "".join(p.read_text() for folder in ("cli", "dmqnode") for p in (ROOT / folder).rglob("*.py"))
    for found in pages():
        for name in found.macros("Ev") - NOT_OURS:
            assert name in known or f'"{name}"' in source, f"{found.path.name}: nothing reads {name}"


def test_variables_that_the_program_reads_are_described() -> None:
    special = {
        p.envvar for command in program().values() for p in command.params if getattr(p, "envvar", None)
    }
    source = "".join(p.read_text() for p in (ROOT / "cli").rglob("*.py"))
    read = set(re.findall(r'"((?:DMQ|XDG)_[A-Z_]+|NO_COLOR)"', source))
    described = set().union(*(found.macros("Ev") for found in pages()))
    assert special | read <= described | {environment_name(p) for p in program()["dmq"].params}


# --- configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", configuration.KEYS)
def test_every_key_of_the_configuration_is_described_and_no_other(section: str) -> None:
    (found,) = page("dmq.toml.5").section(section.upper())
    assert [key for item in found.items for key in values(item, "Cm")] == list(configuration.KEYS[section])


def test_every_setting_of_a_node_can_be_configured() -> None:
    assert sorted(configuration.KEYS["node"]) == sorted(f.name for f in fields(NodeConfig))


def test_defaults_are_the_ones_that_are_described() -> None:
    (found,) = page("dmq.toml.5").section("NODE")
    numbers = {"dead_after": options.duration, "keepalive": options.duration}
    known = {f.name: f.default for f in fields(NodeConfig) if type(f.default) in (int, float)}
    items = re.split(r"^\.It Cm ", "\n".join(found.lines), flags=re.MULTILINE)[1:]
    described = {item.split()[0]: re.search(r"Default: (\w+)", item) for item in items}
    assert known == {
        name: numbers.get(name, options.size)(name, default[1])
        for name, default in described.items()
        if default is not None and name in known
    }


def test_the_example_of_a_configuration_is_one(tmp_path: Path) -> None:
    (found,) = page("dmq.toml.5").section("EXAMPLES")
    file = tmp_path / "dmq.toml"
    file.write_text("\n".join(line for line in found.lines if not line.startswith(".")))
    for section in configuration.KEYS:
        assert configuration.read_section(section, file)
