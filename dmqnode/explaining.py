"""Why nothing comes out of a queue: what its partitions' leaders say, which has none, and what is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmqnode.answers import EMPTY, join_infos
from dmqnode.clock import Now
from dmqnode.ids import PartitionId, partition_id
from dmqnode.messages import Explain, Failed, Message, Report
from dmqnode.queues import Definition
from dmqnode.shards import shard_name
from dmqnode.standing import leaderless, why_leaderless

if TYPE_CHECKING:
    from dmqnode.clustering import Clustering
    from dmqnode.fanout import Fanout


def explain(
    fanout: Fanout, clustering: Clustering, now: Now, session: int, number: int, definition: Definition
) -> None:
    """Answer Explain, of a queue whose partitions are led by whomever, or by nobody."""
    indexes = range(definition.settings.partitions)
    messages: dict[int, Message] = {i: Explain(shard_name(definition, i)) for i in indexes}

    def gathered(now: Now, answers: list[Message]) -> None:
        found: list[dict[str, Any]] = []
        for index, answer in zip(indexes, answers):
            if isinstance(answer, Report):
                found.append(answer.fields)
            elif isinstance(answer, Failed) and answer.retryable:
                stands = leaderless(clustering, definition, partition_id(definition.id, index))
                found.append({"partitions": [stands], "reasons": [why_leaderless(stands)]})
            else:
                fanout.reply(session, number, answer)
                return
        info = join_infos(definition, found, explain=True)
        clustering.overview.owed(now, lambda now, owed: told(info, owed))

    def told(info: dict[str, Any], owed: dict[PartitionId, int]) -> None:
        add_hints(info, {index: owed.get(partition_id(definition.id, index), 0) for index in indexes})
        fanout.reply(session, number, Report(info))

    fanout.ask_all(now, session, number, definition, messages, gathered)


def add_hints(info: dict[str, Any], owed: dict[int, int]) -> None:
    """Put into what is said of a queue how many batches are kept for each partition's leader."""
    for partition in info["partitions"]:
        partition["hints"] = owed.get(partition["index"], 0)
    total = sum(owed.values())
    if total:
        info["reasons"] = [reason for reason in info["reasons"] if reason != EMPTY]
        info["reasons"].append(f"{total} batches wait on nodes that took them in to be handed over (hints)")
