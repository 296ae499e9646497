"""House rules that can be read from the text: sizes, names, docstrings, where tests lie, how they wait."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("cli", "dmqnode", "gossip", "storage")
CODE = (*PACKAGES, "tests", "examples", "benchmarks")
WRITTEN = (*CODE, "man", "typings", ".ci")
FILE_LINES = 400
FUNCTION_LINES = 70
EMPTY_WORDS = {"manager", "handler", "util", "utils", "helper", "helpers", "common", "misc", "base"}
"""Words that say nothing of what a thing is about."""
POLL = 0.1
"""Seconds: the longest step of a loop that waits for a condition of another process."""
LEADS_OUTSIDE = re.compile(
    r"(?<![\w.:-])/(?:home|root|work|Users|srv|mnt)/\w|(?<![\w/.\"$)}])(?:\.\./)+\w[\w./-]*"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> Iterator[Path]:
    """Yield the Python files below `folders`."""
    for folder in folders:
        yield from sorted(p for p in (ROOT / folder).rglob("*.py") if "golden" not in p.parts)


@cache
def tree(path: Path) -> ast.Module:
    gc.disable()  # it would go through all trees for each one more
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()


@cache
def functions(path: Path) -> list[Function]:
    return [n for n in ast.walk(tree(path)) if isinstance(n, Function)]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def complain(wrong: list[str]) -> None:
    assert not wrong, "\n".join(["", *wrong])


# --- sizes -----------------------------------------------------------------------------------------------


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*CODE)}
    complain(
        [f"{named(p)}: {n} lines; {FILE_LINES} are allowed" for p, n in lengths.items() if n > FILE_LINES]
    )


def body_lines(function: Function) -> int:
    """Return how many lines a function takes, from `def` on, its docstring not counted."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_functions_are_short() -> None:
    complain(
        [
            f"{named(path)}:{f.lineno}: {f.name} has {lines} lines; {FUNCTION_LINES} are allowed"
            for path in sources(*CODE)
            for f in functions(path)
            if (lines := body_lines(f)) > FUNCTION_LINES
        ]
    )


# --- names and docstrings --------------------------------------------------------------------------------


def words(name: str) -> set[str]:
    """Split a name into its lower-case words: `FrameReader` and `frame_reader` are frame and reader.

    A test's name is a sentence, which may use any word.
    """
    if name.startswith("test_"):
        return set()
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def test_names_say_what_a_thing_is_about() -> None:
    wrong = []
    for path in sources(*CODE):
        if words(path.stem) & EMPTY_WORDS:
            wrong.append(f"{named(path)}: the file's name says nothing")
        wrong += [
            f"{named(path)}:{node.lineno}: the name {node.name} says nothing"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ClassDef | Function) and words(node.name) & EMPTY_WORDS
        ]
    complain(wrong)


def test_every_module_says_what_it_is() -> None:
    complain(
        [
            f"{named(path)}: no docstring"
            for path in sources(*CODE)
            if tree(path).body and not ast.get_docstring(tree(path))
        ]
    )


# --- tests -----------------------------------------------------------------------------------------------


def mirrored(path: Path) -> bool:
    """Whether tests/PACKAGE/test_MODULE.py, or …/test_MODULE_ASPECT.py, tests a module that exists."""
    package = ROOT / path.relative_to(ROOT / "tests").parent
    parts = path.stem.removeprefix("test_").split("_")
    candidates = ["_".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return any((package / f"{name}.py").is_file() or (package / name).is_dir() for name in candidates)


def test_tests_mirror_the_source() -> None:
    wrong = []
    for path in sources("tests"):
        inside = path.relative_to(ROOT / "tests").parts
        if len(inside) > 1 and path.name.startswith("test_") and inside[0] in PACKAGES and not mirrored(path):
            wrong.append(f"{named(path)}: there is no such module in {inside[0]}/")
        if path.name == "__init__.py":
            wrong.append(f"{named(path)}: tests are not a package")
    complain(wrong)


class Sleeps(ast.NodeVisitor):
    """Finds calls of time.sleep and trio.sleep, and whether they are steps of a loop."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.Call, str, bool]] = []
        self._loops = 0

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "trio.sleep", "sleep"):
            self.found.append((node, ast.unparse(node.func), self._loops > 0))
        loop = isinstance(node, ast.While | ast.For | ast.AsyncFor)
        self._loops += loop
        self.generic_visit(node)
        self._loops -= loop


def is_poll(call: ast.Call, *, in_loop: bool) -> bool:
    """Whether a sleep is the short step of a loop that looks again."""
    step = call.args[0] if call.args else None
    short = isinstance(step, ast.Constant) and isinstance(step.value, int | float) and step.value <= POLL
    return in_loop and short


def test_no_test_waits_for_a_wall_clock() -> None:
    """A test waits in virtual time, or looks again in short steps until a condition holds.

    Faults of real nodes, and the clients that work meanwhile, take real time.
    """
    wrong = []
    for path in sources("tests"):
        if path.parent.name == "chaos" and not path.name.startswith("test_"):
            continue
        text = path.read_text(encoding="utf-8")
        virtual = any(word in text for word in ("autojump_clock", "mock_clock", "MockClock"))
        sleeps = Sleeps()
        sleeps.visit(tree(path))
        for call, name, in_loop in sleeps.found:
            if not (is_poll(call, in_loop=in_loop) or (name == "trio.sleep" and virtual)):
                wrong.append(f"{named(path)}:{call.lineno}: {ast.unparse(call)} waits for a wall clock")
    complain(wrong)


# --- the whole tree --------------------------------------------------------------------------------------


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every file that people wrote, with its text."""
    top = [p for p in sorted(ROOT.iterdir()) if p.is_file() and p.name not in (".git", "LICENSE")]
    below = [p for folder in WRITTEN for p in sorted((ROOT / folder).rglob("*")) if p.is_file()]
    for path in (*top, *below):
        if "__pycache__" not in path.parts:
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_nothing_speaks_of_files_outside_of_this_tree() -> None:
    """Neither by an absolute path into somebody's home nor by one that climbs out of the tree."""
    wrong = []
    for path, text in texts():
        for number, line in enumerate(text.splitlines(), 1):
            named_paths = [match[0] for match in LEADS_OUTSIDE.finditer(line)]
            wrong += [
                f"{named(path)}:{number}: {other}"
                for other in named_paths
                if other.startswith("/") or not (path.parent / other).resolve().is_relative_to(ROOT)
            ]
    complain(wrong)
