"""Who may import whom: the layers of the source, read from its text.

    cli  →  dmqnode  →  gossip, storage        the last two are leaves

Every module of `dmqnode` and `gossip` has its line in the table below.  A new module gets one, under the
kind that it is; the kinds say what it may import.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("cli", "dmqnode", "gossip", "storage")

MAY_IMPORT = {"cli": {"dmqnode"}, "dmqnode": {"gossip", "storage"}, "gossip": set(), "storage": set()}
"""Which of our other packages a package may import."""

CLIENT_LIBRARIES = {"trio", "cbor2"}
LIBRARIES = {
    "cli": {"typer", "click", "rich", "trio"},
    "dmqnode": CLIENT_LIBRARIES,
    "gossip": {"trio", "cbor2"},
    "storage": {"trio", "plyvel", "crc32c"},
}
"""Which libraries a package may import besides the standard library."""

OUTSIDE = {
    "trio",
    "time",
    "secrets",
    "socket",
    "os",
    "threading",
    "subprocess",
    "signal",
    "resource",
}
"""What a core leaves to its shell: clocks, threads, and everything that waits or opens.  Its chance is a
`random.Random` that it is given."""

MODULES = {
    "dmqnode": {
        # What an application gets with `import dmqnode`.  Imports nothing of ours but itself.
        "client core": """
            addresses asking batch calls checks connection deadlines durations errors ids lanes leaders link
            messages outcomes outgoing questions received route routes sequences turns version wire
        """,
        "client shell": "__init__ background blocking client consuming introduction line pump",
        # Decide, and are told the time.  Import cores, client cores, and of the storage its values only.
        # First what a node does by itself, then its part in a cluster.
        "core": """
            appends broker browse buffers clock config counters dedup deliveries duetimes effects elsewhere
            exhausted groups holds keys loading log moves partition queue queues ranges readahead reads ready
            reclaiming records space entering expiry numbering pending registry reports sends settling
            spreading surroundings upkeep

            acquaintances repeats following greetings overview walls peerlink
            answers asks candidates catalog cluster clustering comparing copies copying crossings debts
            explaining fanout fetching filling forgetting founding frontend gathering grants growing hearing
            homesets hosted hosting hybridclock lease_effects lease_states leaseclock leases leaving looking
            mender mending merging missing news orphans owing pacing peer_messages placement polls port
            renewals requests roster shards shortcut smallrows standing strays streams striking takeover
            taking whereabouts
        """,
        # Act: sockets, disks, signals, files.
        "shell": """
            addressbook amnesia belonging disk doors gossiping joining logs machine membership node peer
            peers process resources session sockets tokens unmended
        """,
    },
    "gossip": {
        "core": """
            __init__ agenda awareness beliefs codec config effects errors exchange meeting members messages
            outbox probing rumours suspicion swim
        """,
        "shell": "driver transport",
    },
}
KINDS = {
    package: {module: kind for kind, names in kinds.items() for module in names.split()}
    for package, kinds in MODULES.items()
}
VALUES_OF_STORAGE = {"storage.ops"}
"""The module of the storage that cores may use: what a write is, not how it is done."""


class Import(NamedTuple):
    """One imported module, and where."""

    module: str
    line: int


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Return everything that a file imports, wherever in it, by the full names of modules."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if is_module(name)]
            found += [Import(name, node.lineno) for name in modules or [str(node.module)]]
    return tuple(found)


def is_module(name: str) -> bool:
    return (ROOT / (name.replace(".", "/") + ".py")).is_file()


def modules(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def complain(wrong: list[str]) -> None:
    assert not wrong, "\n".join(["", *wrong])


def kind_of(module: str) -> str | None:
    """Return the kind of one of our modules by its full name, None for what has none."""
    package, _, name = module.partition(".")
    return KINDS.get(package, {}).get(name or "__init__")


def test_packages_import_only_what_is_below_them() -> None:
    wrong = []
    for path in modules(*PACKAGES):
        package = path.relative_to(ROOT).parts[0]
        for module, line in imports(path):
            other = module.partition(".")[0]
            if other in PACKAGES and other != package and other not in MAY_IMPORT[package]:
                wrong.append(f"{named(path)}:{line}: {package} imports {module}")
    complain(wrong)


def test_packages_use_only_their_libraries() -> None:
    wrong = []
    for path in modules(*PACKAGES):
        package = path.relative_to(ROOT).parts[0]
        for module, line in imports(path):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in PACKAGES and top not in LIBRARIES[package]:
                wrong.append(f"{named(path)}:{line}: {package} does not use {top}")
    complain(wrong)


@pytest.mark.parametrize("package", MODULES)
def test_every_module_is_of_exactly_one_kind(package: str) -> None:
    listed = sorted(" ".join(MODULES[package].values()).split())
    assert listed == sorted(set(listed)), "a module is listed twice"
    there = {".".join(p.relative_to(ROOT / package).with_suffix("").parts) for p in modules(package)}
    assert not there - set(listed), f"give them a kind in MODULES[{package!r}]: {sorted(there - set(listed))}"
    assert not set(listed) - there, f"MODULES[{package!r}] names what is gone: {sorted(set(listed) - there)}"


def acts(node: ast.AST) -> str | None:
    """Return what a piece of code does that a core leaves to its shell, None if nothing."""
    match node:
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            return "awaits"
        case ast.Call(func=ast.Name(id="open")):
            return "opens a file"
        case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today"):
            return "reads the clock"
        case ast.Attribute(value=ast.Name(id="random"), attr=attr) if attr != "Random":
            return "draws from everybody's chance"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr="Random")):
            return "makes chance of its own"
    return None


def test_cores_are_pure() -> None:
    wrong = []
    for path in modules(*MODULES):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if kind_of(module) not in ("core", "client core"):
            continue
        for name, line in imports(path):
            if name.partition(".")[0] in OUTSIDE:
                wrong.append(f"{named(path)}:{line}: a core imports {name}")
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.stmt | ast.expr)]
        wrong += [f"{named(path)}:{n.lineno}: a core {what}" for n in nodes if (what := acts(n)) is not None]
    complain(wrong)


ALLOWED = {
    "client core": {"client core"},
    "client shell": {"client core", "client shell"},
    "core": {"client core", "core"},
    "shell": {"client core", "core", "shell"},
}


def test_kinds_import_only_the_kinds_below_them() -> None:
    wrong = []
    for path in modules(*MODULES):
        kind = kind_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if kind is None:
            continue  # test_every_module_is_of_exactly_one_kind says so
        for name, line in imports(path):
            other = kind_of(name)
            if other is not None and other not in ALLOWED[kind]:
                wrong.append(f"{named(path)}:{line}: a {kind} imports {name}, a {other}")
            elif kind.startswith("client") and name.partition(".")[0] in ("storage", "gossip"):
                wrong.append(f"{named(path)}:{line}: the client half imports {name}")
            elif kind == "core" and name.startswith("storage") and name not in VALUES_OF_STORAGE:
                wrong.append(f"{named(path)}:{line}: a core imports {name}")
    complain(wrong)


CLIENT_ONLY = """
import sys
import dmqnode
dmqnode.connect_sync, dmqnode.DMQError
assert "trio" not in sys.modules, "the blocking client loads trio"
dmqnode.connect
import cli, storage, gossip
assert (cli.MINE, storage.MINE, gossip.MINE) == (1, 2, 3), "dmqnode brought its own"
ours = {"plyvel", "crc32c", "typer", "rich", "click"} & set(sys.modules)
assert not ours, f"import dmqnode loads {ours}"
import dmqnode.errors
loaded = sorted(m for m in sys.modules if m.startswith("dmqnode."))
print(*loaded)
"""


def test_the_client_half_lives_with_modules_of_the_same_names(tmp_path: Path) -> None:
    """An application may have its own `cli.py`, `storage.py` and `gossip.py`."""
    for number, name in enumerate(("cli", "storage", "gossip"), 1):
        (tmp_path / f"{name}.py").write_text(f"MINE = {number}\n")
    (tmp_path / "application.py").write_text(CLIENT_ONLY)
    run = subprocess.run(
        [sys.executable, "application.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for module in run.stdout.split():
        assert str(kind_of(module)).startswith("client"), f"import dmqnode loads {module}"


ONE_SHOT = """
import sys
import cli.main, cli.running, cli.commands, cli.send, cli.receive, cli.settle, cli.queues
from dmqnode.blocking import connect_sync
slow = {"trio", "rich", "plyvel", "asyncio", "pydantic"} & set(sys.modules)
assert not slow, f"a command that asks once loads {slow}"
"""


def test_commands_that_ask_once_load_nothing_slow() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ONE_SHOT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
