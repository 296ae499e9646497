"""Which partition of a queue a message goes to, also while the queue gets more of them.

    without a key          by its producer, over as many partitions as the client's send names (`spread`)
    group, or dedup id     by that, over those that the queue was created with

A repetition must find what it repeats, and a group its earlier messages, on whichever node and however many
partitions there are by then: so the count is never that of the moment.  A client is told the newest count
with each answer, goes by it in sends that it makes from then on, and repeats a send with its first one.
"""

from __future__ import annotations

from dmqnode.batch import Batch
from dmqnode.errors import Refused
from dmqnode.ids import choose_partition
from dmqnode.messages import Send
from dmqnode.queues import Definition

NO_PARTITION = "no-partition"
"""The code of a refusal: this queue has fewer partitions than the send goes by."""


def split(definition: Definition, request: Send, batch: Batch) -> dict[int, list[int]]:
    """Return which messages go to which partition; one that gets everything has an empty list.

    Errors: Refused, if the send goes by more partitions than the queue has.
    """
    if not 0 <= request.spread <= definition.settings.partitions:
        raise Refused(
            f'queue "{definition.name}" has {definition.settings.partitions} partitions, and this send goes '
            f"by {request.spread}; send it again by 0",
            code=NO_PARTITION,
            retryable=True,
        )
    first = definition.keyed_partitions
    spread = request.spread or first
    if spread == 1:
        return {0: []}
    usual = choose_partition(spread, request.producer)
    if "g" not in batch.metadata and "d" not in batch.metadata:
        return {usual: []}
    fifo = definition.settings.ordering == "fifo"
    pieces: dict[int, list[int]] = {}
    for i in range(batch.count):
        key = batch.value("g", i) or ("" if fifo else batch.value("d", i))
        index = usual if key is None else choose_partition(first, key)
        pieces.setdefault(index, []).append(i)
    return pieces if len(pieces) > 1 else {next(iter(pieces)): []}


def newest(definition: Definition) -> int:
    """Return what a client is told to go by: 0 as long as the queue has not grown."""
    count = definition.settings.partitions
    return count if count > definition.keyed_partitions else 0
