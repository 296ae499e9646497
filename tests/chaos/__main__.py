"""`make torture-real`: python -m tests.chaos --runs 3 --classes kill,pause --out build/torture-real"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.chaos.campaign import Outcome, Plan, network_for, possible, run
from tests.chaos.faults import CLASSES, GROUPS, PARTS
from tests.chaos.network import possible as network_possible
from tests.chaos.page import page, text


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Real nodes under faults; what became of their messages.")
    parser.add_argument("--duration", type=float, default=12.0, help="seconds of load in a run (12)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each class (3)")
    parser.add_argument("--nodes", type=int, default=0, help="nodes of a run; 3 to 7 in turn by default")
    parser.add_argument("--classes", default="", help=f"of {', '.join(CLASSES)}, with commas; all by default")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next has the next (1)")
    parser.add_argument("--rate", type=float, default=200.0, help="messages per second (200)")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds until all must be well (120)")
    parser.add_argument(
        "--round", type=int, default=0, help="classes that follow one another in one cluster; 0: one each (0)"
    )
    parser.add_argument(
        "--network", choices=("namespaces", "proxy", "auto"), default="auto",
        help="what stands between nodes: namespaces need root, only the proxy delays; auto: what is possible",
    )  # fmt: skip
    parser.add_argument(
        "--search", action="store_true", help="repeat a round in which something is wrong class by class"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/torture-real"), help="directory of the report"
    )
    return parser.parse_args()


def plans(args: argparse.Namespace, classes: list[str]) -> Iterator[Plan]:
    """Give what to run, one after the other."""
    for seed in range(args.seed, args.seed + args.runs):
        plan = Plan(
            kind="", seed=seed, nodes=args.nodes or 3 + seed % 5, duration=args.duration, rate=args.rate,
            patience=args.patience,
        )  # fmt: skip
        if not args.round:
            yield from (replace(plan, kind=kind) for kind in classes)
            continue
        for group, members in GROUPS.items():
            shuffled = [kind for kind in members if kind in classes]
            random.Random(f"{group} {seed}").shuffle(shuffled)
            count = -(-len(shuffled) // args.round)
            for n in range(count):
                yield replace(plan, kind=f"{group}-{n + 1}", round=tuple(shuffled[n::count]))


def main() -> int:
    """Do all runs; write the report after each, so that an interrupted campaign has one, too."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and end all nodes
    classes = [name for name in args.classes.split(",") if name] or list(CLASSES)
    if unknown := [name for name in classes if name not in CLASSES | PARTS]:
        print(f"there are no classes {unknown}; there are {', '.join(CLASSES)}", file=sys.stderr)
        return 2
    if not network_possible():
        print("this machine has one loopback address only; the proxy needs 127.0.0.0/8", file=sys.stderr)
        return 2
    skipped = [name for name in classes if not possible(name)]
    classes = [name for name in classes if name not in skipped]
    args.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    began = time.monotonic()
    ahead = deque(plans(args, classes))
    while ahead:
        plan = ahead.popleft()
        plan = replace(plan, network=network_for(plan.kinds, args.network))
        outcome = run(plan, args.out / f"{plan.kind}-{plan.seed}")
        outcomes.append(outcome)
        print(outcome.line(), flush=True)
        with (args.out / "runs.ndjson").open("a") as file:
            file.write(json.dumps(outcome.fields()) + "\n")
        if outcome.broken and args.search:
            ahead.extendleft(replace(plan, kind=kind, round=()) for kind in reversed(plan.round))
        _write(args.out, outcomes, skipped, time.monotonic() - began)
    print((args.out / "report.txt").read_text(), end="")
    return 1 if any(outcome.broken for outcome in outcomes) else 0


def _write(out: Path, outcomes: list[Outcome], skipped: list[str], seconds: float) -> None:
    report = text(outcomes) + f"{len(outcomes)} runs in {seconds:.0f} s\n"
    if skipped:
        report += f"not run, for want of a C compiler or of root: {', '.join(skipped)}\n"
    (out / "report.txt").write_text(report)
    title = f"Real nodes under faults: {len(outcomes)} runs, {time.strftime('%Y-%m-%d %H:%M')}"
    (out / "report.html").write_text(page(outcomes, title))


if __name__ == "__main__":
    sys.exit(main())
