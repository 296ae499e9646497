"""Anything that a client can ask for, drawn at random: over few queues, so that requests meet."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from dmqnode.batch import encode
from dmqnode.messages import (
    Ack,
    Browse,
    CreateQueue,
    DeleteQueue,
    Explain,
    Extend,
    GetQueue,
    ListQueues,
    Members,
    Message,
    Nack,
    NodeStatus,
    PurgeQueue,
    Receive,
    Redrive,
    Send,
    SetQueue,
)

QUEUES = ("a", "b", "c")
SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"partitions": 3},
    {"dead_letter": "b", "max_attempts": 1},
    {"dead_letter": "a", "max_attempts": 2, "visibility": 1.0},
    {"ordering": "fifo"},
    {"paused": True},
    {"paused": False},
)


def draw(rng: random.Random, known: Sequence[tuple[Any, ...]], sequence: int) -> Message:
    """Return a request.

    Arguments:
        known: of what was received, to be settled.
        sequence: of a send.
    """
    queue = rng.choice(QUEUES)
    held: list[Any] = rng.sample(known, min(len(known), rng.randint(1, 3)))
    every: list[Message] = [
        Send(queue, b"p" * 16, sequence, 0, None, rng.random() < 0.5, encode([b"x"] * 3, {}).blob),
        Send(queue, b"p" * 16, sequence, 0, 1.0, True, encode([b"y"], {}).blob),
        *[Receive(queue, 4, 1 << 20, rng.choice((0.0, 2.0)), rng.choice((None, 0.5))) for _ in range(2)],
        *[CreateQueue(queue, dict(rng.choice(SETTINGS)), True) for _ in range(3)],
        CreateQueue(queue, {}, False),
        SetQueue(queue, dict(rng.choice(SETTINGS))),
        DeleteQueue(queue),
        PurgeQueue(queue),
        GetQueue(queue),
        Explain(queue),
        ListQueues("", "", 10, rng.random() < 0.5),
        Browse(queue, rng.choice(("ready", "delayed", "in-flight")), 3, 1 << 20, None),
        Redrive(queue, rng.choice((None, *QUEUES)), 10),
        NodeStatus(),
        Members(),
    ]
    settling: list[Message] = [
        Ack(held),
        Nack(held, rng.choice((0.0, 1.0)), rng.random() < 0.3, "why"),
        Extend(held, 2.0),
    ]
    return rng.choice(every + settling * 2 if held else every)
