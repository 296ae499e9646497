"""What no home is believed to have is looked for on all disks before it is given up."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

import pytest

from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.following import Stream
from dmqnode.hosted import Hosted
from dmqnode.ids import NodeId, PartitionId, partition_id
from dmqnode.log import Log
from dmqnode.messages import Blob, Message
from dmqnode.missing import BLOCKED, HEARD, SURE
from dmqnode.partition import Partition
from dmqnode.peer_messages import BatchRecord, Fetch, Fill
from dmqnode.ranges import RangeSet
from dmqnode.smallrows import Gaps, encode_gaps, gaps_key
from storage.ops import WriteBatch
from tests.dmqnode import several
from tests.dmqnode.several import Several, Some, name_of

NAMES = ("n1", "n2", "n3")


def led(bodies: list[bytes], **settings: Any) -> tuple[Several, Some, Partition, Log]:
    """Return a cluster that has stored these, who leads, the partition there, and its log."""
    cluster = Several(*NAMES)
    cluster.create(**settings)
    for body in bodies:
        cluster.stored("n1", body)
    cluster.run(3.0)
    (queue,) = cluster.nodes["n1"].broker.registry.every()
    partition = partition_id(queue.definition.id, 0)
    leader = cluster.leader(partition)
    (hosted,) = leader.clustering.hosted.shards[partition].partitions
    (log,) = [log for log in hosted.logs.values() if log.end]
    return cluster, leader, hosted, log


def led_with_one_away(count: int) -> tuple[Several, PartitionId, list[str]]:
    """Return a cluster that has stored so much, of which one that is no home is away; the leader first."""
    names = (*NAMES, "n4")
    cluster = Several(*names)
    cluster.create()
    for number in range(count):
        cluster.stored("n1", b"%d" % number)
    cluster.run(3.0)
    (queue,) = cluster.nodes["n1"].broker.registry.every()
    partition = partition_id(queue.definition.id, 0)
    stream = cluster.leader(partition).clustering.cluster.streams.of(partition)
    assert stream is not None
    homes = [cluster.leader(partition).name, *map(name_of, stream.followers)]
    cluster.kill(*[name for name in names if name not in homes])
    cluster.run(2.0)
    return cluster, partition, homes


def believe(leader: Some, hosted: Partition, log: Log, ranges: list[tuple[int, int]]) -> None:
    """Let the leader believe that all homes lack these messages."""
    stream = leader.clustering.cluster.streams.of(hosted.id)
    assert stream is not None
    for low, high in ranges:
        log.gaps.add(low, high)
    for follower in stream.followers.values():
        follower.gaps = {log.id: RangeSet(ranges)}


@pytest.mark.parametrize("held", [NAMES, ("n1",), ("n2",), ("n3",), ()])
def test_only_what_is_on_no_disk_is_lost(held: tuple[str, ...]) -> None:
    cluster, leader, hosted, log = led([b"a"])
    key = hosted.keys.batch(log.id, 0)
    for name in [n for n in NAMES if n not in held]:
        gone = WriteBatch()
        gone.delete(key)
        cluster.nodes[name].store.write(gone, sync=True)
    believe(leader, hosted, log, [(0, 1)])  # rightly or not
    cluster.run(SURE + 10.0)
    assert leader.broker.counters.lost == (0 if held else 1)
    if held:
        assert [m.body for m in cluster.receive("n1", wait=0.5)] == [b"a"]
        assert all(node.store.get(key) is not None for node in cluster.nodes.values())


@pytest.mark.parametrize(
    ("bodies", "ranges"),
    [([bytes(64 << 10)] * 40, [(0, 40)]), ([b"x"] * 300, [(n, n + 1) for n in range(0, 300, 2)])],
    ids=["more than a page", "many ranges"],
)
def test_all_of_it_is_looked_for(bodies: list[bytes], ranges: list[tuple[int, int]]) -> None:
    cluster, leader, hosted, log = led(bodies)
    believe(leader, hosted, log, ranges)
    cluster.run(SURE + 10.0)
    assert leader.broker.counters.lost == 0
    assert not log.gaps.size


def test_in_a_fifo_queue_nobody_owes_anything_and_what_is_lost_holds_nothing_up_for_long() -> None:
    cluster, leader, hosted, log = led([b"a"], ordering="fifo")
    for name in NAMES:
        gone = WriteBatch()
        gone.delete(hosted.keys.batch(log.id, 0))
        cluster.nodes[name].store.write(gone, sync=True)
    believe(leader, hosted, log, [(0, 1)])
    assert cluster.time + 4.0 < leader.clustering.hosted.absent._led[hosted.id][1] + HEARD
    cluster.until(lambda: leader.broker.counters.lost == 1, 4.0)


def test_nothing_is_given_up_before_all_homes_have_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, leader, hosted, log = led([b"x"] * 3, ordering="fifo")
    carry = Several.carry

    def late(self: Several, sender: Some, to: NodeId, message: Message) -> None:
        if isinstance(message, Fill):
            item = (self.time + 3.0, next(self._tie), sender.name, name_of(to), message)
            heapq.heappush(self._under_way, item)
        else:
            carry(self, sender, to, message)

    monkeypatch.setattr(Several, "carry", late)
    gone = WriteBatch()
    for number in range(3):
        gone.delete(hosted.keys.batch(log.id, number))
    leader.store.write(gone, sync=True)
    believe(leader, hosted, log, [(0, 3)])
    cluster.run(20.0)
    assert leader.broker.counters.lost == 0
    assert not log.gaps.size


def test_looking_for_what_nobody_has_asks_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    for lost in (0, 20):
        cluster, leader, hosted, log = led([bytes(10_000)] * 300)
        nowhere = [(299 - 2 * n, 300 - 2 * n) for n in range(lost)]
        stream = leader.clustering.cluster.streams.of(hosted.id)
        assert stream is not None
        gone = WriteBatch()
        for number in range(300):
            gone.delete(hosted.keys.batch(log.id, number))
        leader.store.write(gone, sync=True)
        log.gaps.add(0, 300)
        for node in stream.followers:
            gone = WriteBatch()
            for number, _ in nowhere:
                gone.delete(hosted.keys.batch(log.id, number))
            cluster.nodes[name_of(node)].store.write(gone, sync=True)
            stream.followers[node].gaps = {log.id: RangeSet(nowhere)} if lost else {}
        asked.append(0)
        carry = Several.carry

        def counted(self: Several, sender: Some, to: NodeId, message: Message, carry: Any = carry) -> None:
            asked[-1] += isinstance(message, Fetch)
            carry(self, sender, to, message)

        with monkeypatch.context() as patch:
            patch.setattr(Several, "carry", counted)
            cluster.until(lambda log=log, lost=lost: log.gaps.size <= lost, 60.0)
    assert asked[1] <= asked[0] + 2 * 20 + 5


def test_many_ranges_are_asked_for_together_where_nothing_lives_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, leader, hosted, log = led([b"x"])
    log.end = log.durable = 1200
    for number in range(1, 1200, 2):
        log.dead.add(number, number + 1)
    believe(leader, hosted, log, [(number, number + 1) for number in range(2, 1200, 2)])
    asked = [0]
    carry = Several.carry

    def counted(self: Several, sender: Some, to: NodeId, message: Message) -> None:
        asked[0] += isinstance(message, Fetch)
        carry(self, sender, to, message)

    monkeypatch.setattr(Several, "carry", counted)
    cluster.run(SURE + 5.0)
    assert leader.broker.counters.lost == 599
    assert asked[0] < 20


def test_what_is_found_does_not_wait_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, leader, hosted, log = led([bytes(60 << 10)] * 60)
    gone = WriteBatch()
    for number in range(60):
        gone.delete(hosted.keys.batch(log.id, number))
    leader.store.write(gone, sync=True)
    cluster.run(HEARD)
    believe(leader, hosted, log, [(0, 60)])
    with monkeypatch.context() as slow:
        slow.setattr(leader.broker, "collect", lambda now: None)  # its disk does nothing for a moment
        cluster.run(1.5)
        entries = [entry for added in leader.clustering._entries.values() for entry in added]
        assert 0 < sum(len(value or b"") for entry in entries for _, value in entry.ops) < 300_000
    cluster.run(10.0)
    assert not log.gaps.size


def test_a_lease_that_is_taken_anew_begins_to_look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had been found, but not taken in when the lease ended, was never asked for again."""
    cluster, leader, hosted, log = led([b"a", b"b"], ordering="fifo")
    partition, key = hosted.id, hosted.keys.batch(log.id, 0)
    stream = leader.clustering.cluster.streams.of(partition)
    assert stream is not None
    holder, _ = stream.followers
    for name in NAMES:
        node, rows = cluster.nodes[name], WriteBatch()
        if name != name_of(holder):
            rows.delete(key)
        rows.put(gaps_key(hosted.keys), encode_gaps({log.id: RangeSet([(0, 1)])}))
        node.store.write(rows, sync=True)
        copy = node.clustering.cluster.copies.find(partition)
        if node is not leader and copy is not None:
            copy.gaps = {log.id: RangeSet([(0, 1)])}
    believe(leader, hosted, log, [(0, 1)])
    anew: list[int] = []
    hear = Clustering.hear

    def heard(self: Clustering, now: Now, sender: NodeId, message: Message) -> None:
        hear(self, now, sender, message)
        if self is leader.clustering and isinstance(message, Fill) and message.batches and not anew:
            lease = self.cluster.leases.held(self.cluster._clock.fast, partition)
            assert lease is not None
            anew.append(lease.number.n)
            self.cluster._claim_anew(now, partition, lease.record)

    monkeypatch.setattr(Clustering, "hear", heard)

    def whole() -> bool:
        leaders = [n for n in cluster.nodes.values() if n.clustering.cluster.leads(partition)]
        shards = [n.clustering.hosted.shards.get(partition) for n in leaders]
        return any(s and not any(g.gaps.size for p in s.partitions for g in p.logs.values()) for s in shards)

    cluster.until(lambda: bool(anew) and whole(), 60.0)
    assert sum(node.broker.counters.lost for node in cluster.nodes.values()) == 0


def test_what_is_lacking_later_is_looked_for_though_something_is_missing_already() -> None:
    """What is missing waits for a member that is away; the next was never looked for behind it."""
    cluster, partition, homes = led_with_one_away(10)
    leader = cluster.leader(partition)
    (hosted,) = leader.clustering.hosted.shards[partition].partitions
    (log,) = [log for log in hosted.logs.values() if log.end]

    def vanishes(number: int, *names: str) -> None:
        gone = WriteBatch()
        gone.delete(hosted.keys.batch(log.id, number))
        for name in names:
            cluster.nodes[name].store.write(gone, sync=True)
        log.gaps.add(number, number + 1)
        stream = leader.clustering.cluster.streams.of(partition)
        assert stream is not None
        for follower in stream.followers.values():
            follower.gaps.setdefault(log.id, RangeSet()).add(number, number + 1)

    vanishes(2, *homes)
    cluster.run(SURE + 10.0)
    assert len(leader.clustering.hosted.absent.missing_of(partition)) == 1
    vanishes(5, *homes)
    vanishes(7, leader.name)
    cluster.run(2 * SURE + 20.0)
    assert list(log.gaps) == [(2, 3), (5, 6)]
    assert len(leader.clustering.hosted.absent.missing_of(partition)) == 2


def test_looks_that_take_long_come_to_an_end_though_more_is_lacking_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a member is away each look began anew with what was lacking since."""
    cluster, partition, homes = led_with_one_away(400)
    monkeypatch.setattr(several, "DELAY", 0.05)
    leader = cluster.leader(partition)
    (hosted,) = leader.clustering.hosted.shards[partition].partitions
    (log,) = [log for log in hosted.logs.values() if log.end]

    def vanish(numbers: Iterable[int], *names: str) -> None:
        gone = WriteBatch()
        stream = leader.clustering.cluster.streams.of(partition)
        assert stream is not None
        for number in numbers:
            gone.delete(hosted.keys.batch(log.id, number))
            log.gaps.add(number, number + 1)
            for follower in stream.followers.values():
                follower.gaps.setdefault(log.id, RangeSet()).add(number, number + 1)
        for name in names:
            cluster.nodes[name].store.write(gone, sync=True)

    waited_for = RangeSet()
    unblock = Hosted.unblock

    def unblocked(self: Hosted, now: Now, stream: Stream, lost: Gaps) -> None:
        unblock(self, now, stream, lost)
        for low, high in lost.get(log.id, ()) if self is leader.clustering.hosted else ():
            waited_for.add(low, high)

    monkeypatch.setattr(Hosted, "unblock", unblocked)
    vanish(range(40, 380, 2), *homes)
    vanish([390], *homes[:2])
    for number in range(8):
        vanish([2 * number], *homes)
        cluster.run(2 * BLOCKED + 1.0)
        assert 2 * number in waited_for, "whoever waits for it waits as long as the look takes"
        cluster.run(15.0)
    assert 390 not in log.gaps, "one home has it, and was never asked"


def test_a_home_still_lacks_what_came_to_its_leader_before() -> None:
    """A late page has a batch that the leader has got meanwhile, and one that it lacks: its entry has one."""
    cluster, leader, hosted, log = led([b"a", b"b"])
    stream = leader.clustering.cluster.streams.of(hosted.id)
    assert stream is not None
    sender, home = stream.followers
    keys = [hosted.keys.batch(log.id, number) for number in (0, 1)]
    records = [leader.store.get(key) for key in keys]
    # One home began to follow after the first of them had come to the leader; its page comes later.
    new = cluster.nodes[name_of(home)]
    lacking = {log.id: RangeSet([(0, 1)])}
    gone = WriteBatch()
    gone.delete(keys[0])
    gone.put(gaps_key(hosted.keys), encode_gaps(lacking))
    new.store.write(gone, sync=True)
    copy = new.clustering.cluster.copies.find(hosted.id)
    assert copy is not None
    copy.gaps = {log.id: RangeSet([(0, 1)])}
    stream.followers[home].gaps = lacking
    stream.followers[home].filling = True
    gone = WriteBatch()
    gone.delete(keys[1])
    leader.store.write(gone, sync=True)
    log.gaps.add(1, 2)
    batches = [BatchRecord(first, Blob(record or b"")) for first, record in enumerate(records)]
    leader.clustering.hear(cluster.now(), sender, Fill(hosted.id, stream.number.n, log.id, 0, 2, batches))
    leader.crank()
    cluster.run(0.2)
    assert leader.store.get(keys[1]) is not None
    assert not stream.complete(stream.followers[home])
    stream.followers[home].filling = False
    cluster.run(60.0)
    assert new.store.get(keys[0]) is not None
