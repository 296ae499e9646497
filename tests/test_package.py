"""What is built and installed: the wheel has the program, its types and its manual, and no tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dmqnode.version import VERSION

ROOT = Path(__file__).parent.parent
PACKAGES = ("cli", "dmqnode", "gossip", "storage")
pytestmark = pytest.mark.slow


def run(*command: object) -> str:
    """Run a command in the source's directory; return what it prints."""
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(target: str, folder: Path) -> Path:
    """Build a wheel or a source archive, with what is installed and no network."""
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_every_module_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    extra = f"dmq-{VERSION}."
    ours = {n for n in names if not n.startswith(extra)}
    there = {
        p.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for p in (ROOT / package).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert ours == there


def test_every_package_says_that_it_is_typed(wheel: Path) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_the_program_and_its_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"dmq-{VERSION}.dist-info/entry_points.txt").decode()
        metadata = archive.read(f"dmq-{VERSION}.dist-info/METADATA").decode()
    assert "dmq = cli.main:main" in entry_points
    assert f"\nVersion: {VERSION}\n" in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_the_manual_is_installed_where_man_looks(wheel: Path, tmp_path: Path) -> None:
    run(
        *(
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-warn-script-location",
        ),
        *("--no-index", "--no-deps", "--no-compile", "--ignore-installed", "--root-user-action=ignore"),
        *("--prefix", tmp_path, wheel),
    )
    pages = {f"man{p.suffix[1:]}/{p.name}" for p in (ROOT / "man").iterdir()}
    manual = tmp_path / "share" / "man"
    assert {p.relative_to(manual).as_posix() for p in manual.rglob("*") if p.is_file()} == pages
    if (man := shutil.which("man")) is not None:
        for page in ("dmq", "dmq-send", "dmq.toml", "dmq-protocol"):
            assert str(tmp_path) in run(man, "-M", manual, "-w", page)


def test_the_source_archive_has_what_is_needed_to_work_on_it(tmp_path: Path) -> None:
    archive = build("sdist", tmp_path)
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    wanted = {"Makefile", "hatch_build.py", ".ci/run", ".ci/venv", "README.md", "LICENSE", "CONTRIBUTING.md"}
    wanted |= {"tests/test_package.py", "man/dmq.1", "typings/plyvel.pyi"}
    assert wanted <= names
    assert not {n for n in names if n.startswith((".venv", ".git/", ".mypy_cache"))}
