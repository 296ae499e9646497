"""dmq beside other brokers, the same work on the same machine: python benchmarks/compare.py [PEER]...

Each broker runs as three nodes on loopback and answers once a majority has the message on disk (see `peers`).
They take turns, one part of the work after the other, so that what else the machine does hits all alike; of
each figure the median of the rounds is told, and how it stands to that of each peer.

    send1     one client, one message under way       p50 and p99 in ms
    send64    one client, 64 messages under way       messages per second
    deliver   from send to a receiver that waits      p50 and p99 in ms
    stream    one client, as fast as it can           messages per second
    drain     the same, received and acked            messages per second
    cpu       of the three nodes, stream and drain    seconds per 100,000 messages
    memory    of the three nodes with all waiting     MiB

    python benchmarks/compare.py                      whatever is installed of nats, rabbitmq, redis
    python benchmarks/compare.py nats --sizes 100,1024,16384 --waiting 1000000 --chart compare.svg
    python benchmarks/compare.py nats compiled        beside both dmq's own path in C++, see `compiled_broker`

Each client is what its project offers for Python; dmq's drain asks for 4000 messages at once, the others' for
256 (FETCH).  Memory is looked at once, of all brokers one after the other.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from brokers import Broker, cpu_seconds, resident_mib
from chart import Bars, chart
from compiled_broker import Compiled
from peers import Nats, Rabbit, Redis
from trio_broker import Dmq

PEERS: dict[str, type[Broker]] = {"nats": Nats, "rabbitmq": Rabbit, "redis": Redis}
NAMED: dict[str, type[Broker]] = {**PEERS, "compiled": Compiled}
"""What can be asked for by its name, with what is no peer: dmq's own path without an interpreter."""
LESS_IS_BETTER = ("ms", "s", "MiB")
WANTED = {
    "send1 p50": 0.75,
    "send64": 3.0,
    "deliver p50": 0.75,
    "deliver p99": 0.75,
    "stream": 10.0,
    "drain": 20.0,
    "cpu": 0.1,
    "memory": 1.0,
    "stream 1024 B": 3.0,
    "drain 1024 B": 3.0,
    "stream 16384 B": 3.0,
    "drain 16384 B": 3.0,
}
"""What dmq is to reach, as a multiple of NATS's figure."""

SETTLED = 10.0
"""Seconds after which a broker's memory is that of a broker with which messages wait."""

Figures = dict[str, dict[str, list[float]]]
"""Name of a figure -> broker -> what each round gave."""


class Comparison:
    """Brokers that run, and what they gave so far.

    Arguments:
        brokers: started.
        rounds: of each part.
        seconds: that each part takes which sends one by one.
    """

    def __init__(self, brokers: list[Broker], rounds: int, seconds: float) -> None:
        self.figures: Figures = {}
        self.units: dict[str, str] = {}
        self._brokers = brokers
        self._rounds = rounds
        self._seconds = seconds

    def single(self, body: bytes) -> None:
        """Messages one by one."""
        for broker, _ in self._turns():
            _, taken = broker.singles(1, self._seconds, body)
            self._percentiles(broker, "send1", taken)
            rate, many = broker.singles(64, self._seconds, body)
            self._add(broker, "send64", rate, "/s")
            self._add(broker, "send64 p50", percentile(many, 0.5) * 1e3, "ms")
            broker.drain(len(taken) + len(many) + broker.first_sends * 2)
            self._percentiles(broker, "deliver", broker.delivery(self._seconds, body))

    def bulk(self, size: int, messages: int, suffix: str = "") -> None:
        """Many messages sent, then received and acked."""
        body = os.urandom(size)
        for broker, _ in self._turns():
            begun = cpu_seconds(broker.pids)
            self._add(broker, f"stream{suffix}", broker.stream(messages, body), "/s")
            self._add(broker, f"drain{suffix}", broker.drain(messages), "/s")
            used = (cpu_seconds(broker.pids) - begun) / messages * 100_000
            self._add(broker, f"cpu{suffix}", used, "s")

    def waiting(self, messages: int, body: bytes) -> None:
        """So many messages wait."""
        for broker in self._brokers:
            broker.stream(messages, body)
            time.sleep(SETTLED)  # what was needed to take them in is not what they need
            self._add(broker, "memory", resident_mib(broker.pids), "MiB")

    def _turns(self) -> list[tuple[Broker, int]]:
        return [(broker, n) for n in range(self._rounds) for broker in self._brokers]

    def _percentiles(self, broker: Broker, name: str, taken: list[float]) -> None:
        for part in (50, 99):
            self._add(broker, f"{name} p{part}", percentile(taken, part / 100) * 1e3, "ms")

    def _add(self, broker: Broker, name: str, value: float, unit: str) -> None:
        self.units[name] = unit
        self.figures.setdefault(name, {}).setdefault(broker.name, []).append(value)
        gc.collect()

    def medians(self) -> dict[str, dict[str, float]]:
        """Return each figure by broker."""
        return {
            name: {broker: statistics.median(values) for broker, values in found.items()}
            for name, found in self.figures.items()
        }


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of them, 0 … 1, do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def table(medians: dict[str, dict[str, float]], units: dict[str, str], names: list[str]) -> list[str]:
    """Return the lines of a table: a figure each, a broker a column, and the ratios to those behind dmq."""
    peers = names[1:]
    heads = [*names, *(f"to {peer}" for peer in peers), *(["wanted"] if "nats" in peers else [])]
    lines = [f"{'':16}" + "".join(f"{head:>12}" for head in heads)]
    for name, found in medians.items():
        unit = units[name]
        cells = [f"{found[n]:,.{0 if unit in ('/s', 'MiB') else 2}f}" if n in found else "-" for n in names]
        line = f"{name:16}" + "".join(f"{cell:>12}" for cell in cells)
        for peer in peers:
            line += f"{found['dmq'] / found[peer]:>11,.2f}×" if peer in found else f"{'-':>12}"
        if "nats" in peers:
            sign = "≤" if unit in LESS_IS_BETTER else "≥"
            line += f"{f'{sign} {WANTED[name]:g}×' if name in WANTED else '':>12}"
        lines.append(f"{line}  {unit}")
    return lines


def bars(medians: dict[str, dict[str, float]], units: dict[str, str]) -> list[Bars]:
    """Return what a chart shows: a group of bars for each figure, of brokers that somebody can run."""
    shown = [
        name for name in ("stream", "drain", "send64", "send1 p50", "deliver p50", "cpu") if name in medians
    ]
    words = {"/s": "messages/s", "ms": "ms", "s": "CPU s per 100,000"}
    brokers = {name: {b: v for b, v in medians[name].items() if b != Compiled.name} for name in shown}
    return [Bars(name, words[units[name]], brokers[name], units[name] != "/s") for name in shown]


def chosen(names: list[str]) -> dict[str, Callable[[Path], Broker]]:
    """Return dmq and the peers that are to be compared, as far as they are installed."""
    out: dict[str, Callable[[Path], Broker]] = {"dmq": Dmq}
    for name in names or PEERS:
        if lacking := NAMED[name].missing():
            if names:
                raise SystemExit(f"compare: {name} needs {lacking}")
            print(f"{name} is left out: it needs {lacking}", file=sys.stderr)
        else:
            out[name] = NAMED[name]
    return out


def tell(comparison: Comparison, as_json: bool, drawn: Path | None) -> None:
    """Print what was measured, and draw it."""
    medians = comparison.medians()
    if as_json:
        for name, found in comparison.figures.items():
            unit = comparison.units[name]
            print(json.dumps({"figure": name, "unit": unit, "medians": medians[name], "rounds": found}))
    else:
        names = list(dict.fromkeys(broker for found in medians.values() for broker in found))
        print("\n".join(table(medians, comparison.units, names)), flush=True)
    if drawn:
        drawn.write_text(chart("dmq beside other brokers", bars(medians, comparison.units)))


def main() -> None:
    parser = argparse.ArgumentParser(description="dmq beside other brokers, on this machine.")
    parser.add_argument("peers", nargs="*", help=f"some of {', '.join(NAMED)}; none: the installed")
    parser.add_argument("--alone", action="store_true", help="dmq only")
    parser.add_argument("--rounds", type=int, default=5, help="of each part; the median is told (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each part that sends one by one (1)")
    parser.add_argument("--messages", type=int, default=200_000, help="of each part that sends many (200000)")
    parser.add_argument("--sizes", default="100", help="bytes of a body, several with commas (100)")
    parser.add_argument("--waiting", type=int, default=0, help="messages that wait, for the memory (none)")
    parser.add_argument("--parts", default="single,bulk", help="of single, bulk (both)")
    parser.add_argument("--json", action="store_true", help="a JSON line for each figure")
    parser.add_argument("--chart", type=Path, help="an SVG file to draw")
    parser.add_argument("--directory", type=Path, help="for the nodes' data (a temporary one)")
    args = parser.parse_args()
    if wrong := [name for name in args.peers if name not in NAMED]:
        parser.error(f"there is no {wrong[0]!r}; there are {', '.join(NAMED)}")
    makers = {"dmq": Dmq} if args.alone else chosen(args.peers)
    sizes = [int(size) for size in args.sizes.split(",")]
    with (
        tempfile.TemporaryDirectory(prefix="dmq-compare-", dir=args.directory) as directory,
        ExitStack() as ends,
    ):
        brokers = []
        for name, make in makers.items():
            broker = make(Path(directory) / name)
            ends.callback(broker.stop)
            broker.start()
            brokers.append(broker)
        comparison = Comparison(brokers, args.rounds, args.seconds)
        # However one of them fails, what was measured before is told.
        ends.callback(lambda: tell(comparison, args.json, args.chart))
        if "single" in args.parts:
            comparison.single(os.urandom(sizes[0]))
        for size in sizes if "bulk" in args.parts else ():
            fewer = round(args.messages / math.sqrt(max(1, size / sizes[0])))
            comparison.bulk(size, fewer, "" if size == sizes[0] else f" {size} B")
        if args.waiting:
            comparison.waiting(args.waiting, os.urandom(sizes[0]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
