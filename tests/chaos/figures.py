"""What runs have shown, as the table of dmq-guarantees(7): python -m tests.chaos.figures RUNS.NDJSON..."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.campaign import Outcome
from tests.chaos.faults import CLASSES
from tests.chaos.page import Sum, sums, text


def read(paths: Iterable[Path]) -> list[Outcome]:
    """Return the outcomes that campaigns have left in files `runs.ndjson`."""
    return [Outcome(**json.loads(line)) for path in paths for line in path.read_text().splitlines()]


def row(kind: str, total: Sum) -> str:
    """Return one line of the table, in mdoc."""
    wrong = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in total.found.items())
    counts = total.counts
    cells = (kind, total.runs, counts["stored"], counts["unknown"], wrong or "nothing")
    return ".It " + " Ta ".join(str(cell) for cell in cells)


def table(outcomes: list[Outcome]) -> str:
    """Return the table: the classes that there are, in their order."""
    # Where the nodes did not even find one another no class had its turn.
    found = sums([o for o in outcomes if not o.parts or any(o.parts.values())])
    return "\n".join(row(kind, found[kind]) for kind in CLASSES if kind in found) + "\n"


if __name__ == "__main__":
    found = read(map(Path, sys.argv[1:]))
    sys.stdout.write(table(found) + "\n" + text(found))
