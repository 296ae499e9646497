"""What a benchmark measures: latencies, and what processes took."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmqnode.errors import UsageError

SHORTEST = 1e-6
"""Seconds; what is shorter counts as this."""
STEP = math.log(1.01)
"""Latencies within one percent of each other are one."""
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
FRESH = 200_000
"""Latencies kept as they are, until they are counted: so many that it is seldom while others are measured."""
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCKS = " ▁▂▃▄▅▆▇█"
CELLS_PER_DECADE = 12


class Latencies:
    """Any number of latencies in the memory of a few: counted by their logarithm."""

    def __init__(self) -> None:
        self._fresh: list[float] = []
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Take one."""
        # This is called while others are measured, so what takes time is left for later.
        self._fresh.append(seconds)
        if len(self._fresh) >= FRESH:
            self._count()

    def _count(self) -> None:
        fresh, self._fresh = self._fresh, []
        log = math.log
        self._counts.update(int(log(max(s, SHORTEST) / SHORTEST) / STEP) for s in fresh)
        self._max = max(self._max, *fresh, 0.0)

    @property
    def max(self) -> float:
        """The longest, in seconds; 0 for none."""
        self._count()
        return self._max

    @property
    def count(self) -> int:
        """How many there are."""
        self._count()
        return self._counts.total()

    def percentile(self, share: float) -> float:
        """Return the seconds that `share` of them, 0 … 1, do not exceed, to one percent; 0 for none."""
        left = max(1, math.ceil(self.count * share))
        for at in sorted(self._counts):
            left -= self._counts[at]
            if left <= 0:
                return min(self._max, SHORTEST * math.exp((at + 0.5) * STEP))
        return 0.0

    def figures(self) -> dict[str, float]:
        """Return the percentiles and the maximum in milliseconds."""
        found = {name: self.percentile(share) for name, share in PERCENTILES.items()}
        return {f"{name}_ms": round(s * 1e3, 3) for name, s in (*found.items(), ("max", self.max))}

    def cells(self) -> dict[int, int]:
        """Return how many there are by cell of a chart, with CELLS_PER_DECADE for each power of ten."""
        self._count()
        found: dict[int, int] = {}
        for at, count in self._counts.items():
            cell = math.floor((math.log10(SHORTEST) + at * STEP / math.log(10)) * CELLS_PER_DECADE)
            found[cell] = found.get(cell, 0) + count
        return found


# --- processes -------------------------------------------------------------------------------------------


def processes(texts: Sequence[str]) -> list[int]:
    """Return the process ids given with --pid.

    Errors: UsageError for one that is not there.
    """
    found = []
    for text in (piece for given in texts for piece in given.split(",")):
        if not text.isdecimal() or not Path("/proc", text, "stat").is_file():
            raise UsageError(f"--pid: there is no process {text!r} on this machine")
        found.append(int(text))
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes have taken so far; one that has ended counts for nothing."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of processes together."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        except OSError:
            continue
    return total


# --- one scenario ----------------------------------------------------------------------------------------


@dataclass
class Measured:
    """What one scenario gave.

    Arguments:
        scenario: its name.
        messages: how many it moved.
        size: bytes of a body.
        batch: messages of a request, at most.
        seconds: how long that took.
        of: what a latency is of, for people.
        latencies: of that.
        cpu: seconds of processor time that the named processes took, None where none was named.
        memory: bytes resident in them at the end.
    """

    scenario: str
    messages: int
    size: int
    batch: int
    seconds: float
    of: str
    latencies: Latencies
    cpu: float | None = None
    memory: int | None = None

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds if self.seconds else 0.0

    def report(self) -> dict[str, Any]:
        """Return the fields for --json."""
        cpu = None if self.cpu is None or not self.messages else round(self.cpu / self.messages * 1e5, 3)
        return {
            "scenario": self.scenario,
            "messages": self.messages,
            "size": self.size,
            "batch": self.batch,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.rate, 1),
            "mib_per_second": round(self.rate * self.size / 2**20, 3),
            "latency_of": self.of,
            **self.latencies.figures(),
            "cpu_seconds_per_100k": cpu,
            "resident_mib": None if self.memory is None else round(self.memory / 2**20, 1),
        }


# --- charts ----------------------------------------------------------------------------------------------


def bars(found: Sequence[Measured], width: int) -> list[str]:
    """Return a chart of throughput: one bar a scenario, the longest `width` wide."""
    most = max((m.rate for m in found), default=0.0) or 1.0
    lines = []
    for m in found:
        eighths = max(1, round(m.rate / most * width * 8)) if m.rate else 0
        bar = "█" * (eighths // 8) + "▏▎▍▌▋▊▉"[eighths % 8 - 1 : eighths % 8] * bool(eighths % 8)
        lines.append(f"{m.scenario:<8}{bar} {m.rate:,.0f}/s")
    return lines


def spread(found: Sequence[Measured]) -> list[str]:
    """Return a chart of latencies: one row a scenario, a scale of powers of ten above."""
    rows = [(m.scenario, m.latencies.cells()) for m in found if m.latencies.count]
    if not rows:
        return []
    low = min(min(cells) for _, cells in rows) // CELLS_PER_DECADE
    high = max(max(cells) for _, cells in rows) // CELLS_PER_DECADE + 1
    scale = "".join(_ten_to(n).ljust(CELLS_PER_DECADE) for n in range(low, high + 1))
    lines = [f"{'':<8}{scale}".rstrip()]
    for name, cells in rows:
        most = max(cells.values())
        marks = [
            BLOCKS[math.ceil(cells.get(at, 0) / most * (len(BLOCKS) - 1))]
            for at in range(low * CELLS_PER_DECADE, high * CELLS_PER_DECADE)
        ]
        lines.append(f"{name:<8}{''.join(marks)}".rstrip())
    return lines


def _ten_to(power: int) -> str:
    """Return a power of ten seconds as text: 10us, 1ms."""
    for unit, of in (("s", 0), ("ms", -3), ("us", -6)):
        if power >= of:
            return f"|{10 ** (power - of)}{unit}"
    return ""
