"""Builds with one line sabotaged, which the campaign must find out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT

PACKAGES = ("cli", "dmqnode", "gossip", "storage")


class Planted(NamedTuple):
    """One bug."""

    file: str
    line: str
    instead: str
    kind: str
    """The class of faults that finds it."""
    shows: tuple[str, ...]
    """As one of these."""


PLANTED = {
    "answers before the sync": Planted(
        "storage/committer.py",
        "self._store.write(group.batch, sync=group.sync)",
        "self._store.write(group.batch, sync=False)",
        "power-all",
        ("lost", "disorder", "resurrected", "unlike"),
    ),
    "keeps acks in memory": Planted(
        "dmqnode/partition.py",
        "            if log.dead.unsaved:",
        "            if False and log.dead.unsaved:",
        "kill-all",
        ("resurrected", "lost", "stuck"),
    ),
    "delivers a group side by side": Planted(
        "dmqnode/groups.py",
        "if group in self._parked and group not in self._busy:",
        "if group in self._parked:",
        "none",
        ("disorder",),
    ),
    "delivers before it is due": Planted(
        "dmqnode/partition.py",
        "self.due.pop_due(now.wall)",
        "self.due.pop_due(now.wall + 2000)",
        "none",
        ("early",),
    ),
    "does not know a repeated send": Planted(
        "dmqnode/dedup.py",
        "return None if known is None else known.runs.get(sequence) or known.kept.get(sequence)",
        "return None",
        "partition",
        ("doubled",),
    ),
    "keeps what it took in for others": Planted(
        "dmqnode/debts.py",
        "        for partition in list(self._owed):",
        "        for partition in ():",
        "kill-one",
        ("lost", "counters", "unlike"),
    ),
    "spoils what it copies": Planted(
        "dmqnode/copies.py",
        "            ops.put(copy.keys.prefix + key, record)",
        '            ops.put(copy.keys.prefix + key, record[:-1] + b"?" if key[:1] == b"b" else record)',
        "kill-one",
        ("wrong_body", "unlike"),
    ),
}


def plant(name: str, directory: Path) -> Path:
    """Copy the program to where its line is sabotaged; return that directory."""
    bug = PLANTED[name]
    for package in PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = directory / bug.file
    source = path.read_text()
    assert source.count(bug.line) == 1, f"{bug.file} has not one line {bug.line!r}"
    path.write_text(source.replace(bug.line, bug.instead))
    return directory
