"""Of a send that lies in two logs one lives, and comes once, whoever judged them and knows what (C5)."""

from __future__ import annotations

import pytest

from dmqnode.following import Stage
from dmqnode.keys import DEBTS
from storage.ops import WriteBatch
from tests.simulation.host import Host
from tests.simulation.likeness import peek
from tests.simulation.plan import QueuePlan
from tests.simulation.scenes import FAR, Scene
from tests.simulation.sent import Sent

PLAIN = QueuePlan("plain", {"visibility": 3.0})
NAME = "a dedup id"


def opened(seed: int, nodes: int = 3) -> tuple[Scene, Host]:
    """Return a scene in which somebody leads, and who does."""
    scene = Scene(seed, nodes=nodes, queue=PLAIN)
    scene.stored()
    scene.take()
    scene.passes(1.0)
    return scene, scene.leader()


def sent_twice(seed: int) -> tuple[Scene, Sent, Host, Host, Host]:
    """Return a scene in which A led and took a send in alone, and B and C keep its repetition; and these."""
    scene, a = opened(seed)
    b, c = (h for h in scene.hosts if h is not a)
    scene.part(a, b, c)
    sent = scene.send(a)
    scene.until(lambda: scene.has(a, sent))
    scene.repeat(sent, b)
    scene.until(lambda: sent.outcome == "stored")
    return scene, sent, a, b, c


def came_once(scene: Scene, sent: Sent) -> None:
    """Mend all: the message was stored, comes out, and only once."""
    scene.end()
    assert sent.acked_at > 0.0
    assert sent.deliveries == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_leader_took_over_from_a_home_that_came_late_is_not_killed_for_another_place(
    seed: int,
) -> None:
    """C wrote X, B wrote Y, B killed X for Y; none of that was followed.  A knew of X once C was back."""
    scene, c = opened(seed, nodes=5)
    scene.cut(c, *(h for h in scene.hosts if h is not c))
    sent = scene.send(c)
    scene.until(lambda: scene.has(c, sent))
    scene.kill(c)
    b = scene.next_leader()
    a, d, e = (h for h in scene.hosts if h not in (b, c))
    scene.cut(b, a, d, e)
    scene.repeat(sent, b)
    scene.until(lambda: scene.has(b, sent))
    scene.kill(b)
    scene.kill(a)
    scene.kill(e)
    scene.back(c)
    scene.back(b)
    scene.claim(b)
    scene.cut(b, c, d)
    scene.passes(0.05)
    scene.kill(b)
    scene.kill(c)

    scene.back(a)
    scene.back(e)
    scene.claim(a)
    scene.until(lambda: scene.leads(a))
    scene.passes(1.0)
    scene.back(c)
    scene.repeat(sent, a)
    scene.until(lambda: sent.outcome == "stored")
    after = scene.send(a)  # its producer knows the outcome of the one before, and says so
    scene.until(lambda: after.outcome == "stored")
    scene.passes(1.0)
    scene.back(b)
    scene.passes(5.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_leader_that_nobody_follows_remembers_where_it_put_what_was_answered_by_others(seed: int) -> None:
    """It was told that the send's outcome is known, and forgot the place on its own disk, which came out."""
    scene, sent, a, *_ = sent_twice(seed)
    after = scene.send(a)
    scene.until(lambda: scene.has(a, after))
    scene.kill(a)
    scene.receive(acks=True)
    scene.until(lambda: sent.acked_at > 0.0)
    scene.back(a)
    scene.passes(5.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_dedup_id_that_was_used_again_does_not_hide_where_its_first_message_went(seed: int) -> None:
    scene, b = opened(seed)
    scene.cut(b, *(h for h in scene.hosts if h is not b))
    sent = scene.send(b, producer=b"x", name=NAME)
    scene.until(lambda: scene.has(b, sent))
    scene.kill(b)
    a = scene.next_leader()
    scene.repeat(sent, a, producer=b"y", name=NAME)
    scene.until(lambda: sent.outcome == "stored")
    scene.receive(acks=True)
    scene.until(lambda: sent.acked_at > 0.0)
    scene.passes(400.0)
    again = scene.send(scene.next_leader(), producer=b"z", name=NAME)
    scene.until(lambda: again.outcome == "stored")
    scene.receive(acks=True)
    scene.until(lambda: again.acked_at > 0.0)
    scene.back(b)
    scene.passes(5.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", [4, 11, 19])  # who is asked first is left to chance, and matters here
def test_a_debt_that_died_for_what_is_lost_since_is_sent_anew(seed: int) -> None:
    """A debt was taken in, and died for the same message in the log of A, which the others knew of and
    lacked; then the disk of A lost that.  The debt was taken for done, since it was dead.
    """
    scene, a = opened(seed)
    b, c = (h for h in scene.hosts if h is not a)
    scene.part(a, b, c)
    sent = scene.send(b, producer=b"x", name=NAME)  # kept by both as a debt
    scene.until(lambda: sent.outcome == "stored")
    a.die("kill", back=FAR)
    c.die("kill", back=FAR)
    scene.passes(4.0)
    scene.world.net.heal()
    a._return()
    _claims(scene, b)
    scene.cut(b, a)
    scene.passes(0.1)
    scene.offer(b, b)
    scene.until(lambda: _knows(b, NAME))  # taken in, and nobody follows
    scene.passes(0.1)
    b.die("kill", back=FAR)
    a.die("kill", back=FAR)
    scene.passes(4.0)
    scene.world.net.heal()

    a._return()
    c._return()
    _claims(scene, a)
    scene.until(lambda: scene.leads(a))
    scene.part(a, c)
    scene.repeat(sent, a, producer=b"y", name=NAME)
    scene.until(lambda: scene.has(a, sent))
    scene.world.net._unblock([(a.me, c.me), (c.me, a.me)])

    def follows_and_lacks_it() -> bool:
        stream = a.clustering.cluster.streams.of(scene.partition)
        followers = () if stream is None else stream.followers.values()
        return any(f.stage is Stage.FOLLOWING and f.gaps for f in followers)

    assert scene.goes(follows_and_lacks_it, 2.0)
    scene.cut(a, c)
    scene.kill(a)
    scene.back(b)
    scene.next_leader()
    scene.passes(16.0)
    assert not sent.deliveries

    assert _lost(a, sent)
    scene.back(a)
    scene.passes(20.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_debt_that_a_second_keeper_brings_stands_for_what_was_lost_since_the_first_did(seed: int) -> None:
    """The first was taken in, and died for the same dedup id elsewhere; all homes lost that."""
    scene = Scene(seed, nodes=5, queue=PLAIN)
    scene.stored()
    scene.take()
    scene.passes(1.0)
    b, c, *homes = scene.hosts
    _away(scene, *homes)
    sent = scene.send(b, producer=b"x", name=NAME)
    scene.until(lambda: sent.outcome == "stored")
    _away(scene, b, c)
    for host in homes:
        host._return()
    scene.passes(4.0)
    scene.repeat(sent, scene.next_leader(), producer=b"y", name=NAME)
    scene.passes(2.0)
    b._return()
    scene.passes(8.0)
    homes.append(b)
    _away(scene, *homes)
    assert sum(_lost(host, sent) for host in homes)
    for host in homes:
        host._return()
    scene.passes(4.0)
    scene.receive(acks=True)
    scene.passes(10.0)
    assert not sent.deliveries
    c._return()
    scene.until(lambda: sent.acked_at > 0.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_stand_in_brings_is_known_a_hundred_sends_later(seed: int) -> None:
    """It was cut off with a send that was stored elsewhere; of a producer 64 ranges of numbers are known."""
    scene, leader = opened(seed, nodes=5)
    cut_off, keeper, *others = (h for h in scene.hosts if h is not leader)
    for host in (cut_off, keeper):
        scene.cut(host, leader, *others)
    sent = scene.send(cut_off)
    scene.until(lambda: scene.has(cut_off, sent))
    scene.repeat(sent, leader)
    scene.until(lambda: sent.outcome == "stored")
    scene.receive(leader, acks=True)
    scene.until(lambda: sent.acked_at > 0.0)
    for _ in range(100):
        after = scene.send(leader)
        scene.until(lambda after=after: after.outcome == "stored")  # type: ignore[misc]
    scene.passes(1.0)
    came_once(scene, sent)


def in_two_places(seed: int) -> tuple[Scene, Sent, Host, Host, Host]:
    """Return a scene in which a send lies in two places, neither of which the leader has; and A, B and C.

    A took it in, and nobody followed.  B and C keep its repetition, which B took in, and nobody followed.
    C heard that from A, knows the log of B to go on behind it, and has begun to lead with neither.
    """
    scene, sent, a, b, c = sent_twice(seed)
    behind = scene.send(b)
    scene.until(lambda: behind.outcome == "stored")
    assert b.clustering.debts.count == c.clustering.debts.count == 2
    a.die("kill", back=FAR)
    scene.kill(c)
    c._return()
    _claims(scene, b)
    scene.cut(b, c)
    scene.passes(0.1)
    scene.offer(b, b)
    scene.until(lambda: _records(b, sent) == 2)
    scene.kill(b)
    a._return()
    scene.until(lambda: c.clustering.cluster.streams.of(scene.partition) is not None)
    scene.cut(a, c)
    scene.until(lambda: c.clustering.hosted.serves(scene.partition))
    scene.offer(c, c)
    scene.until(lambda: _lacks(c) >= 2)
    scene.kill(a)
    assert _records(c, sent) == 1
    scene.receive(acks=True)
    b._return()
    _claims(scene, c)
    return scene, sent, a, b, c


TWICE = [1, 3]


@pytest.mark.parametrize("seed", TWICE)
@pytest.mark.parametrize("seconds", [10.0, 100.0])
def test_a_send_of_which_the_leader_has_neither_place_comes_once(seed: int, seconds: float) -> None:
    scene, sent, a, *_ = in_two_places(seed)
    scene.passes(seconds)
    scene.back(a)
    scene.passes(5.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", TWICE)
@pytest.mark.parametrize("seconds", [0.05, 1.5])
def test_it_comes_once_though_who_has_the_second_leads_before_the_first_is_back(
    seed: int, seconds: float
) -> None:
    scene, sent, a, b, c = in_two_places(seed)
    scene.passes(seconds)
    scene.kill(c)
    c._return()
    _claims(scene, b)
    assert _records(b, sent) == 2
    scene.passes(10.0)
    scene.back(a)
    scene.passes(5.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", TWICE)
def test_the_second_comes_if_the_first_is_lost(seed: int) -> None:
    scene, sent, a, *_ = in_two_places(seed)
    scene.passes(10.0)
    assert _lost(a, sent)
    scene.back(a)
    scene.passes(5.0)
    came_once(scene, sent)


@pytest.mark.parametrize("seed", TWICE)
def test_the_second_is_looked_for_if_the_first_is_lost_and_nobody_owes_it_any_more(seed: int) -> None:
    scene, sent, a, b, c = in_two_places(seed)
    scene.passes(1.0)
    for host in (b, c):
        scene.kill(host)
        gone = WriteBatch()
        for key in [k for k in peek(host.store)._records if k.startswith(DEBTS)]:
            gone.delete(key)
        host.store.write(gone, sync=True)
    assert _lost(a, sent)
    for host in (a, b, c):
        host._return()
    scene.receive(acks=True)
    assert scene.goes(lambda: sent.acked_at > 0.0, 60.0)
    came_once(scene, sent)


def _away(scene: Scene, *hosts: Host) -> None:
    for host in hosts:
        host.die("kill", back=FAR)
    scene.passes(6.0)
    scene.world.net.heal()


def _lost(host: Host, sent: Sent) -> bool:
    """Take a message from a disk; tell whether it was there."""
    gone = WriteBatch()
    for key in [k for k, r in peek(host.store)._records.items() if sent.body in r and k[:1] == b"p"]:
        gone.delete(key)
    host.store.write(gone, sync=True)
    return bool(len(gone))


def _records(host: Host, sent: Sent) -> int:
    """Return how many records on a node's disk have a message: a debt, and what was taken in."""
    return sum(sent.body in record for record in peek(host.store)._records.values())


def _lacks(host: Host) -> int:
    """Return how many messages a leader lacks."""
    hosted = (p for shard in host.clustering.hosted.shards.values() for p in shard.partitions)
    return sum(log.gaps.size for partition in hosted for log in partition.logs.values())


def _knows(host: Host, name: str) -> bool:
    """Tell whether a node leads a partition in which it knows a dedup id."""
    minute = host.now().wall // 60_000
    hosted = (p for shard in host.clustering.hosted.shards.values() for p in shard.partitions)
    return any(partition.dedup.find_name(name, minute) is not None for partition in hosted)


def _claims(scene: Scene, host: Host) -> None:
    """Go on until a node has the lease; others that may have it are asked as often as it takes."""

    def begins() -> bool:
        stream = host.clustering.cluster.streams.of(scene.partition)
        return stream is not None and not stream.following()

    for _ in range(60):
        if scene.goes(begins, 0.2):
            return
        scene.want(host)
    raise AssertionError(scene.world.story(last=30))
