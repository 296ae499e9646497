"""What a client remembers of leaders, and for how long."""

from __future__ import annotations

from dmqnode.ids import PartitionId, choose_partition
from dmqnode.leaders import (
    FIRST_PAUSE,
    KEPT,
    LONGEST_PAUSE,
    LOST_PAUSE,
    MOST_PARTITIONS,
    MOST_QUEUES,
    Leaders,
)
from dmqnode.messages import Leads

PRODUCER = b"p" * 16


def leads(queue: str = "q", index: int = 0, count: int = 1, node: str = "n2", address: str = "n2:1") -> Leads:
    partition = PartitionId(queue.encode().ljust(8, b"-")[:8] + index.to_bytes(2, "big"))
    return Leads(queue, partition, count, node, address)


def told(*news: Leads) -> Leaders:
    leaders = Leaders(PRODUCER)
    for each in news:
        leaders.learn(0.0, each)
    return leaders


def test_one_partition_has_one_leader_for_everything() -> None:
    news = leads()
    leaders = told(news)
    for lead in (
        leaders.for_send("q", keyed=False),
        leaders.for_send("q", keyed=True),
        leaders.for_all("q"),
        leaders.for_partition(news.partition),
    ):
        assert lead is not None
        assert (lead.node, lead.address) == ("n2", "n2:1")
    assert leaders.for_all("other") is None
    assert leaders.for_send("other", keyed=False) is None


def test_of_several_partitions_a_producer_goes_to_its_own_and_receives_go_where_one_leads_all() -> None:
    mine = choose_partition(3, PRODUCER)
    each = [leads(index=i, count=3, node=f"n{i}", address=f"n{i}:1") for i in range(3)]
    leaders = told(*each)
    lead = leaders.for_send("q", keyed=False)
    assert lead is not None
    assert lead.node == f"n{mine}"
    assert leaders.for_all("q") is None
    assert [leaders.for_partition(news.partition).node for news in each] == ["n0", "n1", "n2"]  # type: ignore[union-attr]
    for index in range(3):
        leaders.learn(1.0, leads(index=index, count=3))
    assert leaders.for_all("q") is not None


def test_once_sends_are_spread_by_key_all_go_one_way() -> None:
    leaders = told(*[leads(index=i, count=3, node=f"n{i}", address=f"n{i}:1") for i in range(3)])
    assert leaders.for_send("q", keyed=True) is None
    assert leaders.for_send("q", keyed=False) is None


def test_a_changed_number_of_partitions_is_learned_anew() -> None:
    leaders = told(leads(count=1), leads(index=1, count=2))
    assert leaders.for_all("q") is None
    assert leaders.for_partition(leads().partition) is None
    leaders.learn(0.0, leads(index=5, count=2))  # there is no such partition: it is not believed
    assert leaders.for_all("q") is None


def test_what_is_remembered_is_bounded() -> None:
    leaders = Leaders(PRODUCER)
    for n in range(MOST_QUEUES + 5):
        leaders.learn(0.0, leads(queue=f"{n}"))
    assert leaders.for_all("4") is None
    assert leaders.for_all("5") is not None
    leaders = Leaders(PRODUCER)
    for n in range(10):
        for index in range(1000):
            leaders.learn(0.0, leads(queue=f"q{n}", index=index, count=1000))
    assert len(leaders._partitions) < MOST_PARTITIONS + 1000


def test_an_address_that_fails_is_forgotten_and_left_alone_longer_each_time() -> None:
    leaders = told(leads(), leads("r", address="n3:1", node="n3"))
    lead = leaders.for_all("q")
    assert lead is not None
    assert not leaders.avoids(0.0, lead)
    leaders.failed(0.0, "n2:1", served=False)
    assert leaders.for_all("q") is None
    assert leaders.for_all("r") is not None
    assert leaders.avoids(FIRST_PAUSE - 0.1, lead)
    assert not leaders.avoids(FIRST_PAUSE, lead)
    for _ in range(20):
        leaders.failed(0.0, "n2:1", served=False)
    assert leaders.avoids(LONGEST_PAUSE - 0.1, lead)
    assert not leaders.avoids(LONGEST_PAUSE, lead)
    leaders.served("n2:1")
    leaders.failed(0.0, "n2:1", served=True)
    assert not leaders.avoids(LOST_PAUSE, lead)


def test_what_was_told_long_ago_is_not_gone_by() -> None:
    lead = told(leads()).for_all("q")
    assert lead is not None
    assert Leaders(PRODUCER).avoids(KEPT + 1, lead)
