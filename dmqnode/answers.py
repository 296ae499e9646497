"""The answers of several leaders put together to the one that a client asked for."""

from __future__ import annotations

from typing import Any

from dmqnode.dedup import join_runs
from dmqnode.ids import LogId
from dmqnode.messages import Ack, Extend, Failed, Message, Nack, Stored
from dmqnode.queues import Definition

EMPTY = "the queue is empty"
"""What a partition says that holds nothing."""
SUMMED = ("ready", "delayed", "in_flight", "bytes", "waiting_receivers")


def with_held(request: Ack | Nack | Extend, held: list[Any]) -> Message:
    """Return the part of a request that is about `held`."""
    match request:
        case Ack():
            return Ack(held, request.again)
        case Nack():
            return Nack(held, *request.values()[1:])
        case Extend():
            return Extend(held, request.visibility)


def join_stored(count: int, pieces: list[list[int]], answers: list[Message], spread: int) -> Message:
    """Return the answer to a send of `count` messages whose `pieces` went to several partitions.

    Arguments:
        spread: what the client is told to go by.
    """
    if len(answers) == 1:
        (answer,) = answers
        if isinstance(answer, Stored) and answer.spread != spread:
            return Stored(answer.runs, answer.duplicates, spread, answer.ordered)
        return answer
    if (failed := join_failed(answers)) is not None:
        return failed
    placed: dict[int, tuple[LogId, int]] = {}
    duplicates, ordered = 0, False
    for chosen, answer in zip(pieces, answers):
        assert isinstance(answer, Stored)
        duplicates += answer.duplicates
        ordered = ordered or answer.ordered
        seqs = ((log, first + n) for log, first, many in answer.runs for n in range(many))
        placed.update(zip(chosen, seqs))
    return Stored(join_runs([placed[i] for i in range(count)]), duplicates, spread, ordered)


def join_failed(answers: list[Message]) -> Failed | None:
    """Return the first failure among the answers to parts of one request, None if there is none.

    It is certainly not done only if none of the parts is, or may be (Q2).
    """
    failed = next((a for a in answers if isinstance(a, Failed)), None)
    if failed is None or all(isinstance(a, Failed) and a.stored == "no" for a in answers):
        return failed
    return Failed(failed.code, failed.message, True, "unknown")


def join_infos(definition: Definition, found: list[dict[str, Any]], *, explain: bool) -> dict[str, Any]:
    """Return the figures of a queue, of those of its partitions."""
    info = dict(found[0]) if found else {}
    info.update(definition.info())
    for name in SUMMED:
        info[name] = sum(part.get(name, 0) for part in found)
    oldest = [part["oldest_seconds"] for part in found if part.get("oldest_seconds") is not None]
    info["oldest_seconds"] = max(oldest, default=None)
    if explain:
        for name in ("holders", "partitions", "reasons"):
            joined: list[Any] = []
            for part in found:
                told = _named(part) if name == "reasons" and len(found) > 1 else part.get(name, [])
                joined += [entry for entry in told if entry not in joined]
            info[name] = joined
        info["partitions"].sort(key=lambda partition: partition["index"])
        led = all(partition["leader"] is not None for partition in info["partitions"])
        if info["ready"] + info["delayed"] + info["in_flight"] or not led:
            info["reasons"] = [reason for reason in info["reasons"] if reason != EMPTY]
    return info


def _named(part: dict[str, Any]) -> list[str]:
    """Return the reasons of one of several partitions, with its number where they do not hold of all."""
    indices = ", ".join(str(partition["index"]) for partition in part.get("partitions", []))
    own = ("the queue is", "partition ")
    return [r if r.startswith(own) else f"partition {indices}: {r}" for r in part.get("reasons", [])]
