"""Taking debts in, when the lead ends while what they bring is on its way to the homes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode import taking
from dmqnode.batch import encode
from dmqnode.clock import Now
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.peer_messages import Debt, Offer, Taken
from dmqnode.ranges import RangeSet
from dmqnode.records import encode_batch
from dmqnode.taking import Taking

NOW = Now(1.0, 1_700_000_000_000, 0.0)
PARTITION = PartitionId(b"q" * 8 + bytes(8))
KEEPER = NodeId(b"n" * 8)
LOG = LogId(KEEPER + bytes(12))
RECORD = encode_batch(1, 0, encode([b"body"]))


def _nothing(*_: Any) -> None:
    return None


class Leader:
    """A leader of one partition, as far as debts concern it; `done`: writes that wait for the homes."""

    def __init__(self) -> None:
        self.partition = SimpleNamespace(
            id=PARTITION, gone=False, elsewhere=SimpleNamespace(coming={}), logs=dict[LogId, Any]()
        )
        self.shard = SimpleNamespace(partitions=[self.partition])
        self.done: list[Any] = []
        self.taken: list[tuple[LogId, int]] = []
        self.spread = True
        streams = SimpleNamespace(
            whole=lambda *_: True,
            spread=lambda *_: self.spread,
            nowhere=lambda *_: (),
            look_again=_nothing,
        )
        clustering = SimpleNamespace(
            hosted=SimpleNamespace(
                served=lambda _: self.shard,
                absent=SimpleNamespace(claimed=_nothing, owed=lambda *_: {}),
                keep_gaps=_nothing,
            ),
            cluster=SimpleNamespace(streams=streams),
            crossings=SimpleNamespace(merging=SimpleNamespace(look_again=_nothing)),
            replicate=lambda now, partition, ops, then, brought=(), relied=(): self.done.append(then),
            send=self._send,
        )
        broker = SimpleNamespace(
            touched=_nothing,
            registry=SimpleNamespace(delete_purged=_nothing),
            deliveries=SimpleNamespace(serve=_nothing),
        )
        self.taking = Taking(broker, clustering)  # type: ignore[arg-type]
        debt = Debt(LOG, 0, b"p" * 16, 1, 1, RECORD)
        self.taking.take(NOW, KEEPER, Offer(PARTITION, [debt], []))

    def _send(self, node: NodeId, message: Taken) -> None:
        assert (node, message.partition) == (KEEPER, PARTITION)
        self.taken += message.taken

    def lose(self) -> None:
        """It leads no more."""
        self.partition.gone = True
        self.shard.partitions = []


@pytest.fixture(params=[False, True])
def repeats(request: pytest.FixtureRequest) -> bool:
    """Whether the debt repeats a send that the homes have."""
    return bool(request.param)


@pytest.fixture
def leader(repeats: bool, monkeypatch: pytest.MonkeyPatch) -> Leader:
    there = [(LOG, 7, 1)] if repeats else []
    monkeypatch.setattr(taking, "repeated", lambda hosted, debt: there)
    monkeypatch.setattr(taking, "settled", lambda hosted, debt: False)
    monkeypatch.setattr(taking, "take_debt", lambda now, hosted, debt: taking.WriteBatch())
    monkeypatch.setattr(taking, "filled", lambda *_: None)
    return Leader()


def test_what_is_with_enough_homes_need_not_be_kept(leader: Leader) -> None:
    while leader.done:
        leader.done.pop()(NOW)
    assert leader.taken == [(LOG, 0)]


def test_who_leads_no_more_says_so_only_of_what_the_homes_have(leader: Leader, repeats: bool) -> None:
    leader.lose()
    while leader.done:
        leader.done.pop()(NOW)
    # What is there is there; but what a debt repeats was to die first, and is offered again.
    assert leader.taken == ([] if repeats else [(LOG, 0)])


def test_what_is_found_to_be_lacking_meanwhile_is_kept(leader: Leader) -> None:
    """Nobody waits for what no home has: the debt, or what it repeats, is on no disk any more."""
    leader.partition.logs[LOG] = SimpleNamespace(gaps=RangeSet([(0, 1)]))
    leader.spread = False
    while leader.done:
        leader.done.pop()(NOW)
    assert leader.taken == []
    assert not leader.partition.elsewhere.coming
