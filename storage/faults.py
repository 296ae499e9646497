"""What can go wrong with a simulated disk, and how often; every draw comes from one seeded generator."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Faults:
    """The nature of a disk. Probabilities are per call; all of it may be changed while a store is in use."""

    rng: random.Random
    flip: float = 0.0
    """A bit of one value is stored wrong."""
    read_error: float = 0.0
    write_error: float = 0.0
    """The write is refused, and whether it took place is anybody's guess."""
    sync_error: float = 0.0
    """The write took place, its sync did not."""
    capacity: int | None = None
    """Bytes of keys and values that fit; None: no end."""
    delay: tuple[float, float] = (0.0, 0.0)
    """How long a call takes, seconds, from … to; see `MemoryStore.delay`, for nobody sleeps here."""
    sync_delay: tuple[float, float] = (0.0, 0.0)
    """How much longer with a sync."""

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens now; what cannot happen draws nothing."""
        return probability > 0 and self.rng.random() < probability

    def flip_bit(self, raw: bytes) -> bytes:
        """Return `raw`, which must not be empty, with one bit changed."""
        flipped = bytearray(raw)
        flipped[self.rng.randrange(len(raw))] ^= 1 << self.rng.randrange(8)
        return bytes(flipped)
