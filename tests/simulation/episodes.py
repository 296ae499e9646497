"""Stories of a queue without order that chance hardly ever tells: who has just started, moves, or is owed."""

from __future__ import annotations

from dmqnode.following import Stage
from dmqnode.grants import LEASE
from tests.simulation.host import Host
from tests.simulation.network import PATIENCE
from tests.simulation.operations import change, weigh
from tests.simulation.plan import PLAIN
from tests.simulation.scenes import FAR, Scene
from tests.simulation.sent import Broken

BIG = 300_000
"""Bytes of a message of which two do not fit into what is offered at once."""
DAY = 86_400_000
"""Milliseconds."""


def who_has_started_has_granted_before(seed: int) -> None:
    """Homes that start again do not know whom they have granted a lease, and it may run still (L1).

        A  leads, and is cut off
        B  and C die, and are back at once

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed, queue=PLAIN)
    sent = [scene.stored(), scene.stored()]
    a = scene.leader()
    others = [h for h in scene.hosts if h is not a]
    scene.cut(a, *others)
    for other in others:
        other.die("kill", back=0.02)
    for host in (others[0], a):
        scene.receive(host, acks=False)
    scene.until(lambda: any(message.deliveries for message in sent))
    scene.until(lambda: any(map(scene.leads, others)))
    scene.end()


def what_was_owed_before_lives_where_it_is(seed: int) -> None:
    """What the acceptor of a log does not owe any more is on homes, though whoever leads lacks it (C4).

        x  takes in `first` and `second`, no home being there; y keeps them, too, and dies
        A  leads with B, takes `first` in, and dies
        C  leads with B, which it does not hear then, and is offered `second`

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed, nodes=7, queue=PLAIN, replicas=3)
    c = scene.homes[-1]
    x = next(h for h in scene.hosts if h not in scene.homes)
    for home in scene.homes:
        home.die("kill", back=FAR)
    scene.passes(PATIENCE[1])
    for _ in range(2):
        sent = scene.send(x, size=BIG)
        scene.until(lambda sent=sent: sent.outcome == "stored")
    debts = x.clustering.debts
    (y,) = (h for h in scene.hosts if h.up and h is not x and h.clustering.debts.count)
    assert debts.count == 2
    y.die("kill", back=FAR)
    for home in scene.homes[:2]:
        home._return()
    scene.until(lambda: debts.count == 1)
    x.pause()
    a = scene.leader()
    a.die("kill", back=FAR)
    (b,) = (h for h in scene.homes if h not in (a, c))
    c._return()
    scene.passes(LEASE + 1.0)
    scene.claim(c)
    scene.until(lambda: scene.leads(c))
    scene.cut(b, c)
    x.resume()
    scene.until(lambda: x.clustering.reachable(c.me))
    scene.offer(x, c)
    scene.passes(0.2)
    scene.end()


def who_keeps_need_not_know_the_queue(seed: int) -> None:
    """A node is to keep a send for a queue of which it has not heard so far (C2).

        y  is cut off, but from x, as the queue is created
        x  takes a send in, no home being there, and y keeps it

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed, nodes=5, queue=PLAIN, replicas=3)
    x, *others, y = scene.hosts
    scene.cut(y, *others)
    scene.passes(PATIENCE[1])
    for n in range(100):
        scene.create(PLAIN._replace(name=f"late{n}"), others[0])
        if y not in scene.homes:
            break
    scene.until(lambda: scene.queue.name in x.broker.registry.queues)
    for other in others:
        other.die("kill", back=FAR)
    scene.passes(PATIENCE[1])
    sent = scene.send(x)
    scene.until(lambda: sent.outcome == "stored")
    scene.passes(1.0)
    assert scene.queue.name not in y.broker.registry.queues
    scene.end()


def an_old_leader_brings_a_copy_up_to_date(seed: int) -> None:
    """What an old leader told comes when a home follows a new one, and is not taken (L6).

        A  leads, and tells B, which has just started, what it has; that is long under way, and A cut off
        C  leads with B; a message is acked; then what A told arrives, and C dies
        A  leads with B

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed, queue=PLAIN)
    sent = scene.stored()
    a = scene.leader()
    b, c = (h for h in scene.hosts if h is not a)
    stream = a.clustering.cluster.streams.of(scene.partition)
    assert stream is not None
    b.die("kill", back=0.02)
    scene.until(lambda: stream.followers[b.me].stage is Stage.ASKED)
    scene.until(lambda: stream.followers[b.me].stage is Stage.SEEN)
    scene.delay(a, b, 2 * LEASE + 1.0)
    arrives = scene.world.now + 2 * LEASE + 1.0
    scene.cut(a, c)
    scene.passes(LEASE)
    scene.claim(c)
    scene.receive(c, acks=True)
    scene.until(lambda: sent.acked_at > 0.0)
    scene.passes(arrives + 0.05 - scene.world.now)
    scene.kill(c)
    scene.claim(a)
    scene.receive(a, acks=True)
    scene.passes(1.0)
    scene.end()


def a_home_agrees_before_it_has_what_was_answered(seed: int) -> None:
    """Who is to be a home agrees only once it has what was answered before that was proposed (H3).

        A  is the only home, and less wanted than C, which has everything
        A  stores a message that C does not get, proposes C, and dies once C is known to be the home

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed, queue=PLAIN, replicas=1)
    scene.stored()
    scene.take()
    a = scene.leader()
    member = scene.world.roster.find(a.me)
    assert member is not None
    scene.do(weigh(scene.world, member._replace(weight=0.001)), a)
    scene.until(lambda: a.clustering.wanted(scene.partition) != (a.me,))
    (home,) = a.clustering.wanted(scene.partition)
    c = scene.world.hosts[home]
    stream, leases = a.clustering.cluster.streams.of(scene.partition), a.clustering.cluster.leases
    assert stream is not None
    scene.until(lambda: c.me in stream.followers and stream.complete(stream.followers[c.me]))
    scene.cut(a, c)
    sent = scene.send(a)
    scene.until(lambda: sent.outcome == "stored")
    scene.until(lambda: leases._held[scene.partition].proposal is not None)
    scene.lose(a, c)
    grants = c.clustering.cluster.grants

    def knows() -> bool:
        promise = grants.find(scene.partition)
        return promise is not None and promise.record.new == (c.me,) and promise.record.committed

    scene.until(knows)
    scene.kill(a)
    scene.receive(c, acks=True)
    scene.passes(3.0)
    scene.end()


def changes_hold_though_a_clock_was_ahead(seed: int) -> None:
    """A queue can be changed, though somebody changed it whose clock is a day ahead, and is gone (T2).

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed, queue=PLAIN)
    scene.stored()
    scene.take()
    x, y, _ = scene.hosts
    x.set_clock(DAY)
    scene.passes(1.0)
    scene.do(change(scene.world, PLAIN, {"visibility": 5.0}), x)
    scene.passes(3.0)
    x.die("kill", back=FAR)
    changed = scene.do(change(scene.world, PLAIN, {"visibility": 6.0}), y)
    if not scene.goes(lambda: changed.over, 30.0):
        raise Broken(f"P7 stuck: the queue cannot be changed any more\n{scene.world.story(last=25)}")
    x.set_clock(-DAY)
    scene.end()


def _proposed(seed: int, unheard: int) -> tuple[Scene, Host, Host]:
    """Let a leader propose two other homes beside itself, of which so many of its old ones do not hear.

    Those hear nothing but the other old homes from then on.  Returns the leader, and one of them.
    """
    scene = Scene(seed, nodes=5, queue=PLAIN, replicas=3)
    for _ in range(2):
        scene.stored()
    a = scene.leader()
    old = [h for h in scene.homes if h is not a]
    new = [h for h in scene.hosts if h not in scene.homes]
    scene.passes(1.0)
    for host in old:
        member = scene.world.roster.find(host.me)
        assert member is not None
        step = scene.do(weigh(scene.world, member._replace(weight=0.001)), a)
        scene.until(lambda step=step: step.over)
    stream = a.clustering.cluster.streams.of(scene.partition)
    assert stream is not None

    def follows(host: Host) -> bool:
        return host.me in stream.followers and stream.complete(stream.followers[host.me])

    scene.until(lambda: all(map(follows, new)))
    assert scene.leads(a)
    for host in old[:unheard]:
        scene.cut(host, a, *new)
    promises = [h.clustering.cluster.grants for h in new]

    def agreed() -> bool:
        found = [grants.find(scene.partition) for grants in promises]
        return all(
            promise is not None and set(promise.record.new) == {a.me, *(h.me for h in new)}
            for promise in found
        )

    scene.until(agreed)
    return scene, a, old[0]


def a_majority_of_the_new_homes_is_none_of_the_old(seed: int) -> None:
    """Most of the old homes must agree to a change, too, for they may not have heard of it (H1).

    Errors: Broken, AssertionError.
    """
    scene, a, b = _proposed(seed, 2)
    scene.receive(b, acks=False)
    scene.goes(lambda: scene.leads(b), 5.0)
    scene.receive(a, acks=False)
    scene.passes(1.0)
    scene.end()


def who_missed_a_change_is_shown_it(seed: int) -> None:
    """A former home that did not hear that it is none claims, and another shows it the homes (H2).

    Errors: Broken, AssertionError.
    """
    scene, a, b = _proposed(seed, 1)
    (e,) = (h for h in scene.homes if h not in (a, b))
    scene.cut(b, e)
    scene.passes(PATIENCE[1])
    scene.mend(b, e)
    scene.want(b)
    scene.passes(0.3)
    for host in (b, a):
        scene.receive(host, acks=False)
    scene.passes(1.0)
    scene.end()
