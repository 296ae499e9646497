"""What clients did and saw, and which promise that breaks.  Times are `time.monotonic()`, of the clients."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

STORED, REFUSED, UNKNOWN = "stored", "not stored", "unknown"
ACKED, STALE, KILLED = "acked", "stale", "killed"
GONE = "gone"
"""An ack that was refused, for its message was dead already: perhaps by its own first attempt."""
SETTLED = (ACKED, UNKNOWN, KILLED, GONE)
"""After which a message may be gone."""
PERHAPS_DONE = (*SETTLED, STALE)
"""After which somebody, perhaps another, may have settled it."""
PROMPT = 1.0
"""Seconds within which no nack was repeated after the end of a visibility: its delay is not kept then."""
EARLY = 0.05
"""Seconds by which clocks of processes on one machine may seem to differ."""


class Send(NamedTuple):
    """One message that somebody sent."""

    key: str
    queue: str
    began: float
    ended: float
    outcome: str
    delay: float
    group: str
    id: str


class Delivery(NamedTuple):
    """One message that somebody received."""

    key: str
    queue: str
    id: str
    began: float
    """When the call began that returned it."""
    ended: float
    attempt: int
    intact: bool


class Ack(NamedTuple):
    """One message that somebody acked, or gave back."""

    key: str
    queue: str
    began: float
    ended: float
    outcome: str
    """acked, stale, unknown, refused, killed (the client), back (nacked) or dropped (not even that)."""
    why: str = ""
    """What was said of it, if it was refused."""


class Nack(NamedTuple):
    """One message whose return was asked for."""

    key: str
    queue: str
    began: float
    ended: float
    outcome: str
    """done, or the code of the error."""
    delay: float


class Call(NamedTuple):
    """Another call: a receive that brought nothing, what was given back, an ack that was repeated."""

    name: str
    queue: str
    began: float
    ended: float
    outcome: str
    """done, empty, or the code of the error."""


def stale(said: str) -> str:
    """Return what a stale receipt means for its message: gone, or to come again."""
    return GONE if "nothing is left to do" in said else STALE


def make_body(key: str, size: int) -> bytes:
    """Return a body that carries its own hash."""
    text = f"{key}|{'x' * size}|".encode()
    return text + hashlib.sha256(text).hexdigest()[:16].encode()


def read_body(body: bytes) -> tuple[str, bool]:
    """Return the key of a body, and whether it is whole."""
    text, _, digest = body.rpartition(b"|")
    text += b"|"
    key = body.partition(b"|")[0].decode(errors="replace")
    return key, hashlib.sha256(text).hexdigest()[:16].encode() == digest


@dataclass
class Ledger:
    """Appended to by all clients; list.append needs no lock."""

    sends: list[Send] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    nacks: list[Nack] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """What no client should ever be told."""
    visibility: float = 4.0
    """Seconds for which consumers have what they receive."""
    dead_letters: dict[str, str] = field(default_factory=dict)
    """Per queue the one to which its failures move."""


@dataclass
class Verdict:
    """What a run showed.  The first group must be empty."""

    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    """Stored twice: one send came out under two ids."""
    early: list[str] = field(default_factory=list)
    disorder: list[str] = field(default_factory=list)
    wrong_body: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    stored: int = 0
    refused: int = 0
    unknown: int = 0
    recovered: int = 0
    """Of unknown outcome, and came out."""
    delivered: int = 0
    repeated: int = 0
    """Deliveries of what had been delivered before, and not given back."""
    too_soon: int = 0
    """Those among them that came before the visibility of the last was over."""

    BROKEN = (
        "lost", "unexpected", "resurrected", "doubled", "early", "disorder", "wrong_body", "stuck",
        "counters", "unlike", "errors",
    )  # fmt: skip
    COUNTED = ("stored", "refused", "unknown", "recovered", "delivered", "repeated", "too_soon")

    BEARABLE = ("lost", "resurrected", "doubled", "disorder")
    """What may come of it when no intact copy is left."""

    def excuse(self, said: Sequence[str], missing: float) -> dict[str, int]:
        """Take back what may be where no intact copy is left, if nodes say that so much is missing.

        Arguments:
            said: what they say; nothing is taken back where that is nothing.
            missing: how many messages they say that they miss; of more nothing is taken back.

        Returns:
            per kind of harm how much of it was taken back.
        """
        harmed = {kind: len(harm) for kind in self.BEARABLE if said and (harm := getattr(self, kind))}
        found = {kind: many for kind, many in harmed.items() if many <= missing}
        for kind in found:
            setattr(self, kind, [])
        return found

    @property
    def broken(self) -> dict[str, list[str]]:
        """What is wrong, by kind."""
        return {kind: found for kind in self.BROKEN if (found := getattr(self, kind))}


REMEMBERED = 300.0
"""Seconds within which a repeated send is recognised."""
Clocks = Sequence[tuple[float, float, float]]
"""From when to when clocks of nodes were off, and by how many seconds at most."""


def judge(ledger: Ledger, *, clocks: Clocks = ()) -> Verdict:
    """Say what is wrong; what was delayed may come early by what clocks were off meanwhile."""
    verdict = Verdict(errors=sorted(set(ledger.errors)))
    sends = {send.key: send for send in ledger.sends}
    deliveries: dict[str, list[Delivery]] = defaultdict(list)
    acks: dict[str, list[Ack]] = defaultdict(list)
    nacks: dict[str, list[Nack]] = defaultdict(list)
    for nack in ledger.nacks:
        nacks[nack.key].append(nack)
    for delivery in ledger.deliveries:
        deliveries[delivery.key].append(delivery)
    for ack in ledger.acks:
        acks[ack.key].append(ack)
    _count(verdict, sends.values(), deliveries)
    for key, send in sends.items():
        came, settled = deliveries.get(key, []), acks.get(key, [])
        if send.outcome == STORED and not came:
            verdict.lost.append(f"{key} in {send.queue}, stored at {send.ended:.2f}, never came")
        elif send.outcome == STORED and not any(a.outcome in SETTLED for a in settled):
            tried = [f"{a.queue} at {a.began:.2f}-{a.ended:.2f}: {a.outcome} {a.why}" for a in settled]
            when = " ".join(f"{d.ended:.2f}" for d in came)
            verdict.lost.append(
                f"{key} in {send.queue} came at {when}, was never acked ({tried}), and is gone"
            )
        elif send.outcome == REFUSED and came:
            verdict.unexpected.append(f"{key} was refused, and came")
    for key, came in deliveries.items():
        if key not in sends:
            verdict.unexpected.append(f"{key} was never sent")
            continue
        _look_at(verdict, ledger, sends[key], came, acks.get(key, []), clocks)
        _look_at_nacks(verdict, nacks.get(key, []), came, clocks)
    _look_at_order(verdict, sends.values(), deliveries, acks)
    return verdict


def _count(verdict: Verdict, sends: Iterable[Send], deliveries: dict[str, list[Delivery]]) -> None:
    for send in sends:
        verdict.stored += send.outcome == STORED
        verdict.refused += send.outcome == REFUSED
        verdict.unknown += send.outcome == UNKNOWN
        verdict.recovered += send.outcome == UNKNOWN and send.key in deliveries
    verdict.delivered = sum(map(len, deliveries.values()))


def _look_at(
    verdict: Verdict, ledger: Ledger, send: Send, came: list[Delivery], settled: list[Ack], clocks: Clocks
) -> None:
    key = send.key
    far = _off(clocks, send.began, max(d.ended for d in came)) >= REMEMBERED
    places = (send.queue, ledger.dead_letters.get(send.queue, send.queue))
    for delivery in came:
        if not delivery.intact:
            verdict.wrong_body.append(f"{key} is not as it was sent")
        if delivery.queue not in places:
            verdict.unexpected.append(f"{key} of {send.queue} came out of {delivery.queue}")
        off = _off(clocks, send.began, delivery.ended)
        if delivery.ended < send.began + send.delay - EARLY - off:
            early = send.began + send.delay - delivery.ended
            verdict.early.append(f"{key} came {early:.2f} s before its delay of {send.delay} s was over")
    for queue in places:
        ids = {d.id for d in came if d.queue == queue}
        if far and len(ids) > 1:
            continue  # nobody recognises what was repeated after so long, as the clock has it
        if len(ids) > 1:
            verdict.doubled.append(f"{key} in {queue} came under {len(ids)} ids: {' '.join(sorted(ids))}")
        done = min((a.ended for a in settled if a.queue == queue and a.outcome == ACKED), default=None)
        if done is None:
            continue
        for delivery in came:
            if delivery.queue == queue and delivery.began > done:
                after = delivery.ended - done
                verdict.resurrected.append(f"{key} in {queue} came {after:.2f} s after its ack was answered")
    given_back = sum(a.outcome in ("back", "dropped", KILLED) for a in settled)
    moved = len({d.queue for d in came}) - 1
    verdict.repeated += max(0, len(came) - 1 - given_back - moved)
    pairs = pairwise(sorted(came, key=lambda d: d.ended))
    soon = sum(b.queue == a.queue and b.ended - a.began < ledger.visibility for a, b in pairs)
    verdict.too_soon += max(0, soon - given_back)


def _look_at_nacks(verdict: Verdict, nacks: list[Nack], came: list[Delivery], clocks: Clocks) -> None:
    """What was given back with a delay comes again when that is over."""
    for nack in nacks:
        if nack.outcome != "done" or not nack.delay or nack.ended - nack.began > PROMPT:
            continue
        for delivery in came:
            if delivery.queue != nack.queue or delivery.began < nack.ended:
                continue
            off = _off(clocks, nack.began, delivery.ended)
            if delivery.ended < nack.began + nack.delay - EARLY - off:
                after = delivery.ended - nack.began
                verdict.early.append(
                    f"{nack.key} came {after:.2f} s after it was given back for {nack.delay} s"
                )


def _off(clocks: Clocks, began: float, ended: float) -> float:
    """Return by how much clocks may have been off meanwhile."""
    return sum(error for low, high, error in clocks if low < ended and began < high)


def _look_at_order(
    verdict: Verdict,
    sends: Iterable[Send],
    deliveries: dict[str, list[Delivery]],
    acks: dict[str, list[Ack]],
) -> None:
    """A message of a group comes when the one before it was acked, and not sooner."""
    groups: dict[str, list[Send]] = defaultdict(list)
    for send in sends:
        # The place of one that was not answered is not promised.
        if send.group and send.outcome == STORED:
            groups[send.group].append(send)
    for group, members in groups.items():
        members.sort(key=lambda send: send.began)
        for before, after in pairwise(members):
            first = min((d.ended for d in deliveries.get(after.key, [])), default=None)
            if first is None:
                continue
            settling = [a.began for a in acks.get(before.key, []) if a.outcome in PERHAPS_DONE]
            if not settling or min(settling) > first:
                verdict.disorder.append(f"{after.key} of group {group} came before {before.key} was acked")
