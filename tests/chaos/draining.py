"""The end of a run: waits until nothing is left in the queues."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError

EMPTY = 3.0
"""Seconds after which a queue that shows nothing is empty."""


def drain(
    addresses: Sequence[str], queues: Iterable[str], seconds: float, *, still: float = EMPTY
) -> list[str]:
    """Wait until nothing is left in the queues; return what is stuck.  Producers have stopped.

    Empty is what shows nothing for `still` seconds: what moves to another queue is in neither for a moment.
    """
    deadline = time.monotonic() + seconds
    empty_since = math.inf
    with connect_sync(*addresses, timeout=3) as client:
        while True:
            stuck = []
            for queue in queues:
                try:
                    info = client.queue(queue)
                except DMQError as error:
                    stuck.append(f"{queue}: {error}")
                    continue
                counts = {name: info[name] for name in ("ready", "delayed", "in_flight")}
                if any(counts.values()):
                    stuck.append(f"{queue}: {counts}")
            now = time.monotonic()
            empty_since = math.inf if stuck else min(empty_since, now)
            if now > deadline or now - empty_since >= still:
                return stuck
            time.sleep(0.2)
