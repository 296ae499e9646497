"""What runs have shown, as the table of dmq-guarantees(7): python -m tests.chaos.figures RUNS.NDJSON..."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.campaign import Outcome
from tests.chaos.page import Sum, sums, text


def read(paths: Iterable[Path]) -> list[Outcome]:
    """Return the outcomes that campaigns have left in files `runs.ndjson`."""
    return [Outcome(**json.loads(line)) for path in paths for line in path.read_text().splitlines()]


def row(kind: str, total: Sum) -> str:
    """Return one line of the table, in mdoc."""
    wrong = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in total.wrong.items()) or "nothing"
    counts = total.counts
    cells = (kind, total.runs, sum(total.faults.values()), counts["stored"], counts["unknown"])
    return ".It " + " Ta ".join(str(cell) for cell in (*cells, counts["repeated"], wrong))


def table(outcomes: list[Outcome]) -> str:
    """Return the table."""
    return "\n".join(row(kind, total) for kind, total in sums(outcomes).items()) + "\n"


if __name__ == "__main__":
    found = read(map(Path, sys.argv[1:]))
    sys.stdout.write(table(found) + "\n" + text(found))
