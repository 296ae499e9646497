"""Reads the manual pages as their source has them: sections, list items, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

MAN = Path(__file__).parent.parent / "man"


@dataclass(slots=True)
class Section:
    """What stands under one heading: `sub` is empty directly below a section's own."""

    title: str
    sub: str
    lines: list[str] = field(default_factory=list)

    @property
    def items(self) -> list[str]:
        """What follows `.It` in each list item."""
        return [line[4:] for line in self.lines if line.startswith(".It ")]

    @property
    def text(self) -> str:
        """Everything, in one line."""
        return " ".join(line.removeprefix(".") for line in self.lines)


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One page."""

    path: Path
    sections: tuple[Section, ...]

    @property
    def name(self) -> str:
        return self.path.name.rpartition(".")[0]

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def section(self, title: str) -> list[Section]:
        """Return a section with all that is below it.

        Errors: AssertionError if there is none.
        """
        found = [s for s in self.sections if s.title == title]
        assert found, f"{self.path.name} has no section {title}"
        return found

    def macros(self, name: str) -> set[str]:
        """Return the first argument of every use of a macro, `Ev` say."""
        return set(re.findall(rf"(?:^\.|(?<= )){name} (\S+)", self.source, re.MULTILINE))


@cache
def page(name: str) -> Page:
    """Read `man/NAME`, NAME with its section: `dmq.1`."""
    path = MAN / name
    sections = [Section("", "")]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(".Sh "):
            sections.append(Section(line[4:], ""))
        elif line.startswith(".Ss "):
            sections.append(Section(sections[-1].title, line[4:]))
        else:
            sections[-1].lines.append(line)
    return Page(path, tuple(sections))


def pages() -> Iterator[Page]:
    """Yield every page."""
    for path in sorted(MAN.iterdir()):
        yield page(path.name)


def values(item: str, macro: str) -> list[str]:
    """Return the arguments of `macro` in one list item: `Fl n , Fl -max Ar N` has the Fl n and -max."""
    return re.findall(rf"(?:^|(?<= )){macro} (\S+)", item)
