"""The judge: each kind of harm is found, and nothing else is."""

from __future__ import annotations

import pytest

from tests.chaos.ledger import (
    ACKED,
    REFUSED,
    STALE,
    STORED,
    UNKNOWN,
    Ack,
    Delivery,
    Ledger,
    Nack,
    Send,
    judge,
    make_body,
    read_body,
)


def sent(key: str, outcome: str = STORED, *, at: float = 0.0, delay: float = 0.0, group: str = "") -> Send:
    return Send(key, "q", at, at + 0.1, outcome, delay, group, key)


def came(key: str, at: float, *, queue: str = "q", id_: str = "", intact: bool = True) -> Delivery:
    return Delivery(key, queue, id_ or key, at - 0.1, at, 1, intact)


def acked(key: str, at: float, outcome: str = ACKED, queue: str = "q") -> Ack:
    return Ack(key, queue, at - 0.05, at, outcome)


def ledger(*items: Send | Delivery | Ack) -> Ledger:
    return Ledger(
        [i for i in items if isinstance(i, Send)],
        [i for i in items if isinstance(i, Delivery)],
        [i for i in items if isinstance(i, Ack)],
        dead_letters={"q": "dead"},
    )


GOOD = (sent("a"), came("a", 1.0), acked("a", 1.2))


def test_a_body_carries_its_own_hash() -> None:
    body = make_body("p1-7", 30)
    assert read_body(body) == ("p1-7", True)
    assert read_body(body[:-1] + b"?") == ("p1-7", False)
    assert not read_body(body.replace(b"xx", b"xy", 1))[1]


def test_what_is_as_it_should_be_is_not_complained_about() -> None:
    verdict = judge(
        ledger(
            *GOOD,
            sent("never", UNKNOWN),
            sent("perhaps", UNKNOWN), came("perhaps", 2), acked("perhaps", 2.1),
            sent("no", REFUSED),
            sent("again"), came("again", 1), acked("again", 1.1, STALE), came("again", 5),
            acked("again", 5.1),
            sent("bad"), came("bad", 1), came("bad", 2, queue="dead", id_="x"),
            acked("bad", 2.2, queue="dead"),
            sent("g1", group="g"), sent("g2", at=0.5, group="g"),
            came("g1", 1), acked("g1", 1.1), came("g2", 1.2), acked("g2", 1.3),
        )
    )  # fmt: skip
    assert not verdict.broken
    counts = verdict.stored, verdict.unknown, verdict.refused, verdict.recovered, verdict.repeated
    assert counts == (5, 2, 1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        ("lost", (sent("b"),)),
        ("lost", (sent("b"), came("b", 1), acked("b", 1, "dropped"))),
        ("lost", (sent("b"), came("b", 1), acked("b", 1.1, STALE))),
        ("unexpected", (sent("b", REFUSED), came("b", 1), acked("b", 1.1))),
        ("unexpected", (came("b", 1), acked("b", 1.1))),
        ("unexpected", (sent("b"), came("b", 1, queue="other"), acked("b", 1.1))),
        ("resurrected", (sent("b"), came("b", 1), acked("b", 1.1), came("b", 3))),
        ("doubled", (sent("b"), came("b", 1), acked("b", 1.1), came("b", 1.15, id_="b2"))),
        ("early", (sent("b", delay=2), came("b", 1.5), acked("b", 1.6))),
        ("wrong_body", (sent("b"), came("b", 1, intact=False), acked("b", 1.1))),
        (
            "disorder",
            (
                sent("b", group="g"), sent("c", at=0.5, group="g"),
                came("b", 1), came("c", 1.05), acked("b", 1.2), acked("c", 1.2),
            ),
        ),
    ],
)  # fmt: skip
def test_each_kind_of_harm_is_found(kind: str, items: tuple[Send | Delivery | Ack, ...]) -> None:
    assert list(judge(ledger(*GOOD, *items)).broken) == [kind]


def test_what_clocks_were_off_by_excuses_what_came_early_meanwhile_and_only_that() -> None:
    early = ledger(sent("b", delay=2), came("b", 1.5), acked("b", 1.6))
    assert not judge(early, clocks=[(1.0, 1.2, 3.0)]).broken
    assert list(judge(early, clocks=[(1.0, 1.2, 0.1)]).broken) == ["early"]
    assert list(judge(early, clocks=[(4.0, 5.0, 3.0)]).broken) == ["early"]


def test_a_clock_that_is_far_off_excuses_that_a_send_was_not_recognised() -> None:
    twice = ledger(sent("b"), came("b", 1), acked("b", 1.1), came("b", 1.15, id_="b2"), acked("b", 1.2))
    assert not judge(twice, clocks=[(0.5, 2.0, 3600.0)]).broken
    assert list(judge(twice, clocks=[(0.5, 2.0, 10.0)]).broken) == ["doubled"]


def test_what_no_copy_is_left_of_is_excused_only_if_somebody_says_so() -> None:
    items = (sent("b"), sent("c"), came("c", 1, intact=False), acked("c", 1.1))
    silent = judge(ledger(*GOOD, *items))
    assert silent.excuse([], 0) == {}
    assert set(silent.broken) == {"lost", "wrong_body"}
    named = judge(ledger(*GOOD, *items))
    assert named.excuse(["n1: lost 1"], 1) == {"lost": 1}
    assert set(named.broken) == {"wrong_body"}, "a wrong body nothing excuses"


def test_of_more_than_nodes_say_nothing_is_excused() -> None:
    verdict = judge(ledger(*GOOD, sent("b"), sent("c")))
    assert verdict.excuse(["n1: lost 1"], 1) == {}
    assert len(verdict.lost) == 2


def test_what_was_given_back_for_a_while_comes_when_that_is_over() -> None:
    def judged(*, at: float, outcome: str = "done", took: float = 0.1) -> list[str]:
        found = ledger(sent("b"), came("b", 1), came("b", at), acked("b", at + 0.1))
        found.nacks.append(Nack("b", "q", 1.1, 1.1 + took, outcome, 0.5))
        return list(judge(found).broken)

    assert judged(at=1.45) == ["early"]
    assert judged(at=1.7) == []
    assert judged(at=1.45, outcome="stale-receipt") == [], "somebody else had it"
    assert judged(at=1.25) == [], "it was on its way already"
    assert judged(at=3.45, took=2) == [], "it may have been given back when its visibility was over"


def test_what_comes_again_after_its_visibility_is_over_is_not_too_soon() -> None:
    late = judge(ledger(sent("b"), came("b", 1), acked("b", 5.5, STALE), came("b", 5.2), acked("b", 5.3)))
    assert (late.repeated, late.too_soon) == (1, 0)
    soon = judge(ledger(sent("b"), came("b", 1), came("b", 3), acked("b", 3.1)))
    assert (soon.repeated, soon.too_soon) == (1, 1)
    back = judge(ledger(sent("b"), came("b", 1), acked("b", 1.1, "back"), came("b", 3), acked("b", 3.1)))
    assert (back.repeated, back.too_soon) == (0, 0)
