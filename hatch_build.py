"""Build hook: the manual pages travel with the wheel.

Every page `man/NAME.SECTION` is installed as `share/man/manSECTION/NAME.SECTION`, which is where `man` looks
beside the `bin` directory of an environment. There is no list to keep: a page is found by its name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = re.compile(r"[a-z][a-z0-9.-]*\.(?P<section>[1-9])")


def manual_pages(root: Path) -> dict[str, str]:
    """Where each page of `root/man` is installed: source path to path below the environment's prefix."""
    pages = {}
    for page in sorted((root / "man").glob("*")):
        if found := PAGE.fullmatch(page.name):
            pages[str(page)] = f"share/man/man{found['section']}/{page.name}"
    return pages


class ManualPages(BuildHookInterface):
    """Adds the manual pages to a wheel, editable ones included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build_data["shared_data"].update(manual_pages(Path(self.root)))
