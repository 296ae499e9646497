"""The table of the manual, from what runs have left."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos.campaign import Outcome
from tests.chaos.figures import read, table


def test_each_class_of_a_round_had_a_run_and_what_is_wrong_is_said_of_all_of_them(tmp_path: Path) -> None:
    good = {"stored": 7, "refused": 1, "unknown": 2}
    outcomes = [
        Outcome("round-1", 1, 3, parts={"kill-one": good, "pause": good}),
        Outcome("round-1", 2, 3, parts={"kill-one": good}, broken={"lost": ["a", "b"]}),
        Outcome("pause", 1, 3, counts=good),
    ]
    path = tmp_path / "runs.ndjson"
    path.write_text("".join(json.dumps(outcome.fields()) + "\n" for outcome in outcomes))
    assert table(read([path])).splitlines() == [
        ".It kill-one Ta 2 Ta 14 Ta 4 Ta lost 1",
        ".It pause Ta 2 Ta 14 Ta 4 Ta nothing",
    ]
