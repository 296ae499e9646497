"""Bar charts as SVG, drawn by hand: no library, no script, legible on light and dark ground."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

COLOURS = ("#2b7a78", "#b8b8b8", "#d6a354", "#b5656b")
WIDTH, LABEL, BAR, GAP = 640, 150, 16, 26
TEXT = 'font-family="sans-serif" font-size="12" fill="#808080"'


class Bars(NamedTuple):
    """One group: a bar for each name, the longest of which fills the width."""

    title: str
    unit: str
    values: dict[str, float]
    less: bool
    """Whether shorter is better."""


def chart(title: str, groups: list[Bars]) -> str:
    """Return the text of an SVG file."""
    names = list(dict.fromkeys(name for group in groups for name in group.values))
    lines: list[str] = [f'<text x="0" y="16" {TEXT} font-weight="bold">{escape(title)}</text>']
    y = 30
    for group in groups:
        better = "shorter is better" if group.less else "longer is better"
        lines.append(
            f'<text x="0" y="{y + 12}" {TEXT}>{escape(f"{group.title}, {group.unit} ({better})")}</text>'
        )
        y += 20
        longest = max(group.values.values()) or 1.0
        for name, value in group.values.items():
            width = max(1.0, value / longest * (WIDTH - LABEL - 90))
            colour = COLOURS[names.index(name) % len(COLOURS)]
            shown = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
            lines += [
                f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end" {TEXT}>{escape(name)}</text>',
                f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR - 3}" fill="{colour}"/>',
                f'<text x="{LABEL + width + 6:.1f}" y="{y + 12}" {TEXT}>{shown}</text>',
            ]
            y += BAR
        y += GAP - BAR
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
    return "\n".join([head, *lines, "</svg>", ""])
