"""Stories that chance hardly ever tells: who alone has what, who leads, who dies when."""

from __future__ import annotations

from tests.simulation.plan import QueuePlan
from tests.simulation.scenes import Scene


def two_homes_have_one_each(seed: int) -> None:
    """Two homes have one message each that nobody else has; both lead in turn, with the third.

        A  writes `early` and dies                      B and C know nothing of it
        B  leads, is cut off, writes `late` and dies    C has followed it, or not
        B  leads again, hands `late` out, and dies
        A  leads with C

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed)
    scene.stored()
    scene.take()
    scene.passes(1.0)
    a = scene.leader()
    b, c = (h for h in scene.hosts if h is not a)
    scene.cut(a, b, c)
    early = scene.send(a)
    scene.until(lambda: scene.has(a, early))
    scene.kill(a)

    b = scene.next_leader()
    (c,) = (h for h in scene.hosts if h not in (a, b))
    scene.cut(b, c)
    late = scene.send(b)
    scene.until(lambda: scene.has(b, late))
    scene.kill(b)
    assert not scene.has(c, late)

    scene.back(b)
    scene.claim(b)
    scene.until(lambda: scene.leads(b))
    scene.cut(b, c)
    scene.receive(b, acks=False)
    scene.until(lambda: late.deliveries > 0)
    scene.kill(b)

    scene.back(a)
    scene.receive(a, acks=True)
    scene.until(lambda: scene.leads(a) or scene.leads(c))
    scene.passes(5.0)
    assert not early.deliveries
    scene.end()
    scene.until(lambda: late.acked_at > 0.0)
    assert not early.deliveries


def ends_that_nobody_led_with(seed: int) -> None:
    """A leader that dies before a majority knows where it ended a log has ended nothing.

        A  writes `early` and dies                      B and C know nothing of it
        B  has the lease, with C, and dies at once      C has not followed it
        B  has the lease, with A, and dies at once      A has not followed it
        A  leads with C, and answers `early`            B comes back, and says what it ended

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed)
    b = scene.leader()
    scene.kill(b)
    a = scene.next_leader()
    (c,) = (h for h in scene.hosts if h not in (a, b))
    scene.stored()
    scene.take()
    scene.passes(1.0)
    scene.cut(a, c)
    early = scene.send(a)
    scene.until(lambda: scene.has(a, early))
    scene.kill(a)

    for other in (c, a):
        scene.back(b)
        scene.claim(b)
        scene.cut(b, other)
        scene.kill(b)
        if other is c:
            scene.kill(c)
            scene.back(a)

    scene.back(c)
    scene.repeat(early, a)
    scene.until(lambda: early.outcome == "stored")
    scene.back(b)
    scene.passes(5.0)
    scene.end()
    assert early.acked_at > 0.0


def two_leaders_judge_a_repetition(seed: int) -> None:
    """A send lies in two logs, and a leader that nobody followed kills the one that the next answers from.

        A  is cut off, and writes the send; dies                B and C know nothing of it
        B  leads with C, is cut off, and writes it again; dies  C has not followed
        B  leads with A, takes A's for a repetition; dies       A has not followed
        A  leads with C, is asked once more, and says "stored"  B comes back, and says what died

    Errors: Broken, AssertionError.
    """
    scene = Scene(seed, queue=QueuePlan("plain", {"visibility": 3.0}))
    scene.stored()
    scene.take()
    scene.passes(1.0)
    a = scene.leader()
    b, c = (h for h in scene.hosts if h is not a)
    scene.cut(a, b, c)
    sent = scene.send(a)
    scene.until(lambda: scene.has(a, sent))
    scene.kill(a)

    b = scene.next_leader()
    (c,) = (h for h in scene.hosts if h not in (a, b))
    scene.cut(b, c)
    scene.repeat(sent, b)
    scene.until(lambda: scene.has(b, sent))
    scene.kill(b)
    assert not scene.has(c, sent)

    scene.kill(c)
    scene.back(a)
    scene.back(b)
    scene.claim(b)
    scene.cut(b, a)
    scene.passes(0.05)
    scene.kill(b)

    scene.back(c)
    scene.repeat(sent, a)
    scene.until(lambda: sent.outcome == "stored")
    scene.back(b)
    scene.passes(5.0)
    scene.end()
    assert sent.acked_at > 0.0
    assert sent.deliveries == 1
