"""What is raised where a promise is broken tells the story of the message concerned, and of no other."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from dmqnode.batch import encode, parse
from dmqnode.copying import encode_ops
from dmqnode.ids import LogId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.messages import Ack, Blob
from dmqnode.peer_messages import Entry, Ship, Taken
from dmqnode.ranges import RangeSet
from dmqnode.records import encode_batch
from storage.ops import WriteBatch
from tests.simulation import planted, planted_ops
from tests.simulation.concerning import Concern, Numbers, Written
from tests.simulation.plan import DEAD, PLAIN, SPENT, Plan
from tests.simulation.sent import Broken
from tests.simulation.world import World

Patch = pytest.MonkeyPatch
MESSAGE = re.compile(r"^message (\d+) of ", re.MULTILINE)
LINE = re.compile(r"^ *\d+\.\d{4} (\S+) \[([^]]*)\] (.*)$", re.MULTILINE)
"""A line that concerns a message: who, why, and what."""
SEND = re.compile(r"Send\(.* batch=batch([\d,]*)")
MOVING = Plan(queues=(DEAD, SPENT), rate=0.5, faults=("isolate",))


def broken(plant: Callable[[Patch], None], seed: int, plan: Plan | None, patch: Patch) -> str:
    with patch.context() as here:
        plant(here)
        with pytest.raises(Broken) as raised:
            World(seed, plan).run()
    return str(raised.value)


@pytest.mark.parametrize(
    ("plant", "seed", "plan", "promise", "tells"),
    [
        (planted.gaps_are_forgotten, 0, None, "P1", "stored as"),
        (planted.recent_sends_are_not_merged, 10, None, "P10", "dead"),
        (planted_ops.what_was_read_last_comes_first, 0, Plan(queues=(PLAIN,)), "P9", "its id"),
        (planted_ops.moves_are_not_recognised, 0, MOVING, "P10", "it waits"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_the_story_is_that_of_the_message(
    plant: Callable[[Patch], None], seed: int, plan: Plan | None, promise: str, tells: str, monkeypatch: Patch
) -> None:
    text = broken(plant, seed, plan, monkeypatch)
    assert text.startswith(f"{promise} ")
    found = MESSAGE.search(text)
    assert found is not None, "it names the message"
    lines = LINE.findall(text)
    reasons = [why for _, why, _ in lines]
    assert "its body" in reasons, "its send is told"
    assert any(tells in why for why in reasons)
    sends = [SEND.search(what) for _, _, what in lines]
    numbers = [{int(n or 0) for n in send[1].split(",")} for send in sends if send is not None]
    assert numbers
    assert all(int(found[1]) in of_line for of_line in numbers), "and nothing of another"


# --- what concerns a message -----------------------------------------------------------------------------

LOG, PARTITION = LogId(b"log" * 6 + b"ab"), PartitionId(b"partition0")
KEYS = PartitionKeys.of(PARTITION)
BODIES = [b"%06d " % n for n in range(10, 14)]


def shipped(ops: WriteBatch) -> tuple[object, ...]:
    return (1.0, "n1", "n2", Ship(True, [Entry(PARTITION, 1, 1, Blob(encode_ops(KEYS, ops, {}, {})))]))


def test_a_message_is_followed_from_the_write_on_that_brings_it() -> None:
    ops = WriteBatch()
    ops.put(KEYS.batch(LOG, 5), encode_batch(0, 0, parse(encode(BODIES, {}).blob)))
    concern, stranger = Concern(12, BODIES[2]), Concern(20, b"000020 ")
    assert concern.why((1.0, "n1", Written(ops))) == f"stored as {LOG.hex()}-7"
    assert concern.why(shipped(ops)) == f"stored as {LOG.hex()}-7"
    for first, count, its in ((6, 2, True), (5, 2, False), (8, 1, False)):
        line = (2.0, "c", "n1", Ack([(PARTITION, 1, LOG, first, count)]))
        assert bool(concern.why(line)) is its
        assert not stranger.why(line)
    assert concern.why((2.0, "n2", "n1", Taken(PARTITION, [(LOG, 1), (LOG, 5)]))) == "its id"
    assert not concern.why((2.0, "n2", "n1", Taken(PARTITION, [(LOG, 6)])))
    assert not stranger.why((1.0, "n1", Written(ops)))


def test_a_death_is_told_once_to_each() -> None:
    concern = Concern(12, BODIES[2], [(LOG, 7)])
    others, its = WriteBatch(), WriteBatch()
    others.put(KEYS.dead(LOG, 0), RangeSet([(5, 7), (8, 9)]).encode())
    its.put(KEYS.dead(LOG, 0), RangeSet([(5, 9)]).encode())
    told = [concern.why((1.0, "n1", Written(ops))) for ops in (others, its, its)]
    assert told == ["", "dead", ""]
    assert concern.why((1.0, "n2", Written(its))) == "dead"
    assert concern.why(shipped(its)) == "dead"


def test_a_line_of_numbers_concerns_those_that_have_them() -> None:
    line = (1.0, "delivers", "n1", Numbers([3, 12]))
    assert Concern(12, BODIES[2]).why(line)
    assert not Concern(13, BODIES[3]).why(line)
    assert not Concern(12, BODIES[2]).why((1.0, "dies", "n1", "kill"))
