"""Seeds that once found a bug in the cores, or in who judges them; each stays as it was drawn."""

from __future__ import annotations

import random

import pytest

from tests.simulation import stories
from tests.simulation.plan import (
    BROOM,
    FAULTS,
    GROUPS,
    REBORN,
    SWEPT,
    WIDE,
    Plan,
    draw_harsh,
    draw_late_plan,
    draw_plan,
    draw_wider_plan,
)
from tests.simulation.test_swarm import run
from tests.simulation.world import World

KILLS = {
    4: "a send that a stand-in took in, and a leader that came back had too, was delivered twice",
    12: "three nodes referred a request to each other in a circle, and nobody claimed",
    14: "a home that had promised a higher lease number never followed again",
    20: "the homes did not hear what their leader lacked, and the next leader took it for held",
    22: "delayed messages that a leader lacked were due before where the next began to read",
    31: "a hand-over waited for ever for a home that did not answer",
    32: "a leader fetched the same batch again and again, for its entry could not complete",
    48: "a repeated send was answered while the first was on one disk only",
    0: "a batch that died in two steps was left on a home for ever",
}
OTHERS = {
    249: "a delayed message that was kept while nobody led was lost",
    271: "a dead batch was left on one home",
    159: "looking at what is in flight met a message that is not held here",
    313: "a log was closed while a stand-in had more of it",
    209: "the leader did not know that a home lacked what a third one showed, and asked it again and again",
    772: "a repeated send was answered because of a home that lacked it, and the leader did not know that",
    1163: "delayed messages on their way to the homes were due before where the next leader began to read",
    1091: "an answer for a node that was gone ended a request of this node that bore the same number",
    3337: "what an answer relied on was fetched behind what could not be made known before that answer",
    3422: "a delayed message that was out with a consumer was counted as delayed once it was fetched",
    1214: "a send kept by stand-ins counted, after a takeover, as one whose outcome had been told",
}
HARSH = {
    50192: "of two places of a send that one copy knew, the living one was killed at a takeover",
    50218: "a node whose debt was damaged said that there never was one, and the other copy died",
    70063: "a repeated send was killed in favour of the first, which was on few disks and then on none",
    60162: "a batch died that its leader did not know to be on its disk, and was left there",
    90071: "a batch died that a home held and its leader lacked, and was left there",
    63: "of three debts that repeat one send, each was killed in favour of the next",
    92384: "a damaged record of a home was not noticed, for nobody read it",
    90086: "a batch died in two steps, at a leader that lacked it, and was left on a home",
    4079: "a delivery was made again, for the note of it was damaged on the disk of the next leader",
    607: "the index entry of a dead batch that was damaged was left on a home",
}


@pytest.mark.parametrize("seed", KILLS, ids=lambda seed: f"{seed}-{KILLS[seed][:40].replace(' ', '-')}")
def test_kills(seed: int) -> None:
    World(seed, draw_plan(random.Random(seed * 7 + 1), ())._replace(faults=("kill",))).run()


@pytest.mark.parametrize("seed", OTHERS, ids=lambda seed: f"{seed}-{OTHERS[seed][:40].replace(' ', '-')}")
def test_other_faults(seed: int) -> None:
    World(seed, draw_plan(random.Random(seed * 7 + 1), FAULTS)).run()


@pytest.mark.parametrize("seed", HARSH, ids=lambda seed: f"{seed}-{HARSH[seed][:40].replace(' ', '-')}")
def test_harsh_plans(seed: int) -> None:
    World(seed, draw_harsh(seed)).run()


SWARM = {
    8551: "of two alignments at once a home took in the earlier, and followed from the later on",
    8665: "who came to lead kept dead batches, for damage had taken how far its logs went",
    749: "a node that kept a send for a leader took a late answer to its earlier run for one to this",
    9970: "a home forgot what it was to delete, for the leader told it of more, and kept it for ever",
    559: "where a send had gone was damaged while a new leader wrote it, and its repetition was taken in",
    2189: "what was delayed came out when it was on one disk, and was counted as delayed for ever",
    1403: "a leader that nobody followed had taken in a debt, whose send was repeated and came twice",
    6640: "a batch that came due and was damaged on the only disk kept all that came due after it in memory",
}


@pytest.mark.parametrize("seed", SWARM, ids=lambda seed: f"{seed}-{SWARM[seed][:40].replace(' ', '-')}")
def test_plans_of_the_swarm(seed: int) -> None:
    run(seed)


WIDER = {
    133: "an index entry that was damaged was made up for by one leader, and the next knew nothing of it",
    224: "a copy that had lost records to damage was taken for the one that knew most",
    263: "a leader that had lost notes to damage did not wait for the home that knew more",
    374: "of a delayed batch that was damaged with its index entry nobody knew that it is lacking",
    420: "an ack was forgotten, for the home that knew it had promised a higher number than the leader's",
    444: "delayed messages that were damaged were counted twice once they were fetched",
    576: "and those that were damaged before they were known, too",
    31: "what was purged after it had been set aside as damaged where it was led stayed at the other homes",
    817: "what was purged, and damaged where it was led, stayed at the other homes",
    574: "the last batch that was kept turned bad, and its partition was remembered as owed for ever",
}


@pytest.mark.parametrize("seed", WIDER, ids=lambda seed: f"{seed}-{WIDER[seed][:40].replace(' ', '-')}")
def test_wider_plans(seed: int) -> None:
    World(seed, draw_wider_plan(random.Random(seed))).run()


def test_a_lease_that_ends_as_what_was_owed_becomes_known() -> None:
    World(51, draw_plan(random.Random(51))._replace(faults=("torn",), rate=1.0)).run()


REBORN_SEEDS = {
    195: "a home that knew a copy and not yet its queue kept it when the queue was deleted",
    242: "what a home had begun to write when a queue was deleted stayed for ever",
}


@pytest.mark.parametrize("seed", REBORN_SEEDS)
def test_queues_that_are_deleted_and_made_again(seed: int) -> None:
    World(seed, draw_plan(random.Random(seed))._replace(queues=(REBORN,))).run()


APART = {
    3: "a node whose clock was a day ahead took in sends as a stand-in while the third was away",
    4: "a node whose clock was a day ahead led while the third was away",
}


@pytest.mark.parametrize("seed", APART)
def test_clocks_that_are_wrong_while_a_node_is_cut_off(seed: int) -> None:
    World(seed, Plan(queues=(BROOM,), faults=("leap", "isolate"), rate=1.5, seconds=8.0)).run()


def test_what_is_handed_over_before_it_was_served_is_not_served() -> None:
    """What left meanwhile was in no note, and was delivered again."""
    plan = Plan(queues=(WIDE,), faults=("kill",), rate=1.0, seconds=8.0, consumers=5, late=2.0)
    World(242, plan).run()


PURGED = {
    108: "what a home had accepted that was cut off came out after a purge at another",
}


@pytest.mark.parametrize("seed", PURGED)
def test_queues_that_are_purged_while_nodes_are_cut_off(seed: int) -> None:
    plan = Plan(queues=(SWEPT,), producers=3, faults=("isolate", "oneway"), rate=1.2, seconds=10.0)
    World(seed, plan).run()


MISJUDGED = {
    456: "a nack was repeated when the visibility had ended, and its delay was taken for promised",
    822: "of two nodes one was a day ahead when it took a delayed send, which is due a day late",
    986: "a message moved at the end of its hold by another clock than that of who delivered it twice",
}


def test_a_debt_that_was_purged_before_its_keeper_was_heard_is_no_broken_promise() -> None:
    plan = Plan(queues=(SWEPT,), consumers=1, producers=3, faults=("slow", "flap"), rate=0.6, seconds=12.0)
    World(85, plan).run()


def test_what_a_keeper_does_not_owe_any_more_lives_though_the_next_leader_lacks_it() -> None:
    queues = (GROUPS._replace(fed=True),)
    faults = ("halves", "oneway", "pause")
    plan = Plan(queues=queues, faults=faults, rate=1.2, seconds=45.0, producers=1, consumers=1, tries=8)
    World(300084, plan).run()


@pytest.mark.parametrize("seed", [1, 2])
def test_of_a_send_in_two_logs_one_lives_whoever_judged_them(seed: int) -> None:
    """Each was killed for the other, and a message was lost that had been called stored."""
    stories.two_leaders_judge_a_repetition(seed)


def test_what_nobody_leads_is_not_yet_settled() -> None:
    """An ack was refused, a nack could not be told: the message was taken for over, and the run ended."""
    World(1786, draw_late_plan(random.Random(1786))).run()


@pytest.mark.parametrize("seed", MISJUDGED)
def test_what_was_taken_for_a_broken_promise(seed: int) -> None:
    run(seed)
