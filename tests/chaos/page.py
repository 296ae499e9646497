"""The report of a campaign: text, and one page of HTML that needs nothing else."""

from __future__ import annotations

import html
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.campaign import Outcome
from tests.chaos.timeline import STEP, Timeline

WIDTH, HEIGHT, LATENCY, BAR = 1000, 120, 60, 14
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; width: 100% } td, th { padding: 2px 8px; border-bottom: 1px solid #ddd }
td + td, th + th { text-align: right } td:last-child, th:last-child { text-align: left }
.bad { color: #b00020; font-weight: 600 } details { margin: .6em 0 } summary { cursor: pointer }
svg { width: 100%; height: auto; background: #fafafa } svg text { font: 10px system-ui, sans-serif }
pre { white-space: pre-wrap }
"""
LEGEND = (
    "Upper picture, messages per second: <b style='color:#1f77b4'>stored</b>, "
    "<b style='color:#2ca02c'>received</b>, <b style='color:#d62728'>delivered again</b>. "
    "Lower picture: the longest send that ended then, up to 6 s. Bars: faults."
)


@dataclass
class Sum:
    """All runs of one class."""

    runs: int = 0
    broken: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    """Per kind of harm, how often it was done."""
    found: Counter[str] = field(default_factory=Counter)
    """Per kind of harm, in how many runs."""


def sums(outcomes: Sequence[Outcome]) -> dict[str, Sum]:
    """Add up what runs of each class showed."""
    found: dict[str, Sum] = defaultdict(Sum)
    for outcome in outcomes:
        # What is wrong after a round is laid at the door of each of its classes.
        for name, counts in outcome.parts.items() or ((outcome.kind, outcome.counts),):
            kind = found[name]
            kind.runs += 1
            kind.broken += bool(outcome.broken)
            kind.counts.update(counts)
            kind.faults.update({name: 1} if outcome.parts else outcome.faults)
            kind.wrong.update({name: len(what) for name, what in outcome.broken.items()})
            kind.found.update(list(outcome.broken))
    return dict(found)


def text(outcomes: Sequence[Outcome]) -> str:
    """Return the report as text: a line per class, then what is wrong, run by run."""
    lines = []
    for kind, total in sums(outcomes).items():
        counts = " ".join(f"{name} {n}" for name, n in total.counts.items())
        faults = ", ".join(f"{name} {n}" for name, n in sorted(total.faults.items()))
        wrong = ", ".join(f"{name} {n}" for name, n in total.wrong.items()) or "nothing"
        lines.append(f"{kind}: {total.runs} runs, {total.broken} with something wrong ({wrong})")
        lines += [f"    {counts}", f"    faults: {faults or 'none'}"]
    for outcome in outcomes:
        for name, found in outcome.broken.items():
            lines.append(f"{outcome.kind} seed {outcome.seed}, {outcome.nodes} nodes: {name}:")
            lines += [f"    {what}" for what in found[:20]]
    lines.append(f"all together: {_listed(whole(outcomes))}")
    return "\n".join(lines) + "\n"


def whole(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Add up what is counted of whole runs, rounds among them."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.counts)
        total.update({f"{name}, named": n for name, n in outcome.named.items()})
    return total


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def page(outcomes: Sequence[Outcome], title: str) -> str:
    """Return the report as HTML."""
    rows = []
    for kind, total in sums(outcomes).items():
        wrong = ", ".join(f"{name} {n}" for name, n in total.wrong.items())
        counts = "".join(_cell(total.counts, name) for name in COLUMNS)
        faults = ", ".join(f"{html.escape(name)} {n}" for name, n in sorted(total.faults.items()))
        verdict = f"<span class=bad>{html.escape(wrong)}</span>" if wrong else "nothing"
        rows.append(
            f"<tr><td>{html.escape(kind)}<td>{total.runs}<td>{total.broken}{counts}<td>{verdict}<td>{faults}"
        )
    heads = "".join(f"<th>{name}" for name in COLUMNS)
    table = f"<table><tr><th>class<th>runs<th>broken{heads}<th>wrong<th>faults{''.join(rows)}</table>"
    together = f"<p>All together: {html.escape(_listed(whole(outcomes)))}</p>"
    pictures = "".join(_section(outcome) for outcome in outcomes)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{table}{together}<p>{LEGEND}</p>{pictures}</html>\n"
    )


COLUMNS = ("stored", "refused", "unknown", "recovered", "delivered", "repeated", "set_aside", "alike_late")


def _cell(counts: Counter[str], name: str) -> str:
    # Of a class of a round only what became of its sends is known.
    return f"<td>{counts[name]:,}" if name in counts else "<td>–"


def _section(outcome: Outcome) -> str:
    line = html.escape(outcome.line())
    marked = f"<span class=bad>{line}</span>" if outcome.broken else line
    wrong = "\n".join(f"{name}: {what}" for name, found in outcome.broken.items() for what in found[:20])
    shown = f"<pre>{html.escape(wrong)}</pre>" if wrong else ""
    picture = draw(outcome.timeline) if outcome.timeline is not None else ""
    return f"<details{' open' if wrong else ''}><summary>{marked}</summary>{shown}{picture}</details>"


def draw(timeline: Timeline) -> str:
    """Return a run as a picture (SVG)."""
    columns = max(1, len(timeline.stored))
    wide = WIDTH / columns
    most = max([1, *timeline.stored, *timeline.received])
    lanes = _lanes(timeline)
    low = HEIGHT + 10 + LATENCY
    height = low + 10 + BAR * max(1, len(lanes)) + 16
    parts = [f"<svg viewBox='0 0 {WIDTH} {height}' xmlns='http://www.w3.org/2000/svg'>"]
    for series, colour in (
        (timeline.stored, "#1f77b4"),
        (timeline.received, "#2ca02c"),
        (timeline.repeated, "#d62728"),
    ):
        points = " ".join(
            f"{(n + 0.5) * wide:.1f},{HEIGHT - HEIGHT * v / most:.1f}" for n, v in enumerate(series)
        )
        parts.append(f"<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{points}'/>")
    for n, seconds in enumerate(timeline.latency):
        size = LATENCY * min(1.0, seconds / 6.0)
        at = f"x='{n * wide:.1f}' y='{low - size:.1f}' width='{wide:.1f}' height='{size:.1f}'"
        parts.append(f"<rect {at} fill='#999'/>")
    for row, lane in enumerate(lanes):
        y = low + 10 + BAR * row
        for name, detail, began, ended in lane:
            x, width = began / STEP * wide, max(2.0, (ended - began) / STEP * wide)
            label = html.escape(f"{name} {detail}".strip(), quote=True)
            parts.append(
                f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{BAR - 2}' fill='#f4a261'/>"
                f"<text x='{x + 2:.1f}' y='{y + BAR - 4}'>{label}</text>"
            )
    parts += [
        f"<text x='{second / STEP * wide:.1f}' y='{height - 3}'>{second} s</text>"
        for second in range(0, int(columns * STEP) + 1, 5)
    ]
    parts.append(f"<text x='2' y='10'>{most / STEP:.0f}/s</text></svg>")
    return "".join(parts)


def _lanes(timeline: Timeline) -> list[list[tuple[str, str, float, float]]]:
    """Put faults below one another where their bars or names would meet."""
    lanes: list[list[tuple[str, str, float, float]]] = []
    scale = max(1, len(timeline.stored)) * STEP / WIDTH
    for fault in sorted(timeline.faults, key=lambda f: f[2]):
        for lane in lanes:
            name, detail, began, ended = lane[-1]
            label = began + 5.5 * (len(name) + len(detail) + 2) * scale
            if max(ended, label) <= fault[2]:
                lane.append(fault)
                break
        else:
            lanes.append([fault])
    return lanes
