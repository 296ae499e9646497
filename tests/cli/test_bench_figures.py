"""What a benchmark measures, without measuring anything."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.bench_figures import (
    FRESH,
    Latencies,
    Measured,
    bars,
    cpu_seconds,
    processes,
    resident_bytes,
    spread,
)
from dmqnode.errors import UsageError


def latencies(*seconds: float) -> Latencies:
    found = Latencies()
    for each in seconds:
        found.add(each)
    return found


def measured(name: str, messages: int, *seconds: float) -> Measured:
    return Measured(name, messages, 100, 10, 2.0, "message", latencies(*seconds))


@given(st.lists(st.floats(1e-6, 1e3), min_size=1), st.floats(0.0, 1.0))
def test_percentiles_are_right_to_one_percent(seconds: list[float], share: float) -> None:
    found = latencies(*seconds)
    rank = max(1, -(-len(seconds) * share // 1))
    true = sorted(seconds)[int(rank) - 1]
    assert found.percentile(share) == pytest.approx(true, rel=0.011)
    assert found.max == max(seconds)
    assert found.count == len(seconds)


def test_millions_of_latencies_take_the_memory_of_few() -> None:
    found, chance = Latencies(), random.Random(1)
    for _ in range(FRESH * 2):
        found.add(chance.lognormvariate(-7, 1))
    assert not found._fresh
    assert len(found._counts) < 2500
    assert found.count == FRESH * 2


def test_none_and_the_shortest() -> None:
    assert latencies().figures() == dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"), 0.0)
    assert latencies(0.0, -1.0).percentile(1.0) <= 1e-6


def test_report_has_rates_and_costs() -> None:
    found = measured("stream", 400_000, 0.001)
    found.cpu, found.memory = 2.0, 3 << 20
    report = found.report()
    assert report["per_second"] == 200_000
    assert report["mib_per_second"] == pytest.approx(19.073)
    assert report["cpu_seconds_per_100k"] == 0.5
    assert report["resident_mib"] == 3.0
    assert measured("stream", 0).report()["cpu_seconds_per_100k"] is None


def test_processes_are_those_that_are_there() -> None:
    assert processes([f"{os.getpid()},{os.getppid()}"]) == [os.getpid(), os.getppid()]
    assert cpu_seconds([os.getpid()]) > 0
    assert resident_bytes([os.getpid()]) > 1 << 20
    for wrong in ("x", "0", str(2**22 + 1)):
        with pytest.raises(UsageError, match="there is no process"):
            processes([wrong])


def test_bars_are_as_long_as_the_rate() -> None:
    slow, fast = bars([measured("send1", 25), measured("stream", 100)], 40)
    assert fast == "stream  " + "█" * 40 + " 50/s"
    assert slow == "send1   " + "█" * 10 + " 12/s"
    assert bars([measured("send1", 0)], 40) == ["send1    0/s"]
    (tiny, _) = bars([measured("send1", 1), measured("stream", 10_000)], 40)
    assert tiny == "send1   ▏ 0/s"


def test_spread_has_a_scale_and_a_row_each() -> None:
    scale, one, two = spread([measured("send1", 3, 0.0011, 0.0012, 0.09), measured("drain", 1, 0.02)])
    assert scale == "        |1ms        |10ms       |100ms"
    assert one.startswith("send1   █")
    assert two[scale.index("|10ms") + 3] == "█"
    assert spread([measured("send1", 0)]) == []
