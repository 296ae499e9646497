"""Names of things, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.errors import UsageError
from dmqnode.ids import (
    LOG_ID_SIZE,
    SEQ_MAX,
    LogId,
    NodeId,
    PartitionId,
    QueueId,
    Receipt,
    log_id,
    message_id,
    parse_message_id,
    parse_receipt,
    partition_id,
)

LOGS = st.binary(min_size=LOG_ID_SIZE, max_size=LOG_ID_SIZE).map(LogId)
SEQS = st.integers(0, SEQ_MAX)


@given(log=LOGS, seq=SEQS)
def test_message_ids_come_back(log: LogId, seq: int) -> None:
    assert parse_message_id(message_id(log, seq)) == (log, seq)


@given(
    partition=st.binary(min_size=10, max_size=10).map(PartitionId),
    delivery=st.integers(0, 2**64 - 1),
    log=LOGS,
    seq=SEQS,
)
def test_receipts_come_back(partition: PartitionId, delivery: int, log: LogId, seq: int) -> None:
    receipt = Receipt(partition, delivery, log, seq)
    text = str(receipt)
    assert parse_receipt(text) == receipt
    assert parse_receipt(text.replace(".", "-")) == receipt, "as earlier versions printed it"
    assert text.replace(".", "").replace("_", "").isalnum(), "it needs no quotes in a shell"


@given(text=st.text(max_size=90))
def test_nonsense_is_the_users_mistake(text: str) -> None:
    for parse in (parse_message_id, parse_receipt):
        try:
            parse(text)
        except UsageError:
            continue


@pytest.mark.parametrize("text", ["", "-", "a-1", "a" * 32 + "--1", "a" * 32 + "-x", "a" * 31 + "-1"])
def test_what_is_no_message_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a message id"):
        parse_message_id(text)


def test_logs_sort_by_node_and_boot() -> None:
    node = NodeId(b"n" * 8)
    logs = [
        log_id(node, boot, nonce, counter) for boot, nonce, counter in ((1, 9, 2), (2, 3, 1), (256, 0, 0))
    ]
    assert logs == sorted(logs)


def test_partitions_of_a_queue_lie_together() -> None:
    ids = [partition_id(QueueId(b"queueidx"), n) for n in (0, 1, 256, 65535)]
    assert ids == sorted(ids)
    assert all(id_.startswith(b"queueidx") for id_ in ids)


def test_no_receipt_begins_like_an_option() -> None:
    for first in range(256):
        receipt = Receipt(PartitionId(bytes([first]) * 10), 1, LogId(b"l" * 20), 2)
        assert "-" not in str(receipt)
