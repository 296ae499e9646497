"""The list of members: who is known, in which status, and in which order they are probed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from gossip.messages import Member, NodeId, Status
from gossip.suspicion import Suspicion


@dataclass(slots=True)
class Entry:
    """One member other than this node."""

    member: Member
    status: Status
    since: float
    """When it came into this status, seconds; of another node's word, when that says."""
    suspicion: Suspicion | None = None

    @property
    def present(self) -> bool:
        """Whether it counts as there: alive or suspect."""
        return self.status <= Status.SUSPECT


class Members:
    """All other members, at most `limit`.

    Arguments:
        limit: beyond it the longest absent ones make room.
        rng: for the order of probes and for choices.
    """

    def __init__(self, limit: int, rng: Random) -> None:
        self._limit = limit
        self._rng = rng
        self._entries: dict[NodeId, Entry] = {}
        self._list: list[Entry] = []
        self._present = 0
        self._round: list[NodeId] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """n: how many members are there, this node included."""
        return self._present + 1

    def get(self, node: NodeId) -> Entry | None:
        """Return what is known of a member."""
        return self._entries.get(node)

    def all(self) -> list[Entry]:
        """Return all, in the order in which they became known."""
        return list(self._list)

    def add(self, member: Member, status: Status, since: float) -> tuple[Entry | None, Entry | None]:
        """Add an unknown member; return its entry and the one that had to make room.

        The first is None where the list is full of members that are there.
        """
        removed = None
        if len(self._entries) >= self._limit:
            absent = [entry for entry in self._list if not entry.present]
            if not absent:
                return None, None
            removed = min(absent, key=lambda entry: entry.since)
            self.remove(removed)
        entry = Entry(member, status, since)
        self._entries[member.id] = entry
        self._list.append(entry)
        self._present += entry.present
        # Somewhere in the round, not at its end, so that newcomers do not put off others (SWIM §4.3).
        if len(self._round) > 2 * self._limit:
            self._begin_round()
        else:
            self._round.insert(self._rng.randint(self._next, len(self._round)), member.id)
        return entry, removed

    def move(self, entry: Entry, status: Status, now: float) -> Status:
        """Put a member into another status; return the one it had."""
        old, before = entry.status, entry.present
        entry.status = status
        if status is not old:
            entry.since = now
        if status is not Status.SUSPECT:
            entry.suspicion = None
        self._present += entry.present - before
        return old

    def remove(self, entry: Entry) -> None:
        """Forget a member."""
        del self._entries[entry.member.id]
        self._list.remove(entry)
        self._present -= entry.present

    def next_to_probe(self) -> Entry | None:
        """Return the next member of the round, in a new random order each round (SWIM §4.3)."""
        for _ in range(2):
            while self._next < len(self._round):
                entry = self._entries.get(self._round[self._next])
                self._next += 1
                if entry is not None and entry.present:
                    return entry
            self._begin_round()
        return None

    def _begin_round(self) -> None:
        self._round = list(self._entries)
        self._rng.shuffle(self._round)
        self._next = 0

    def choose(self, count: int, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Return up to `count` different members at random that are `wanted`.

        In a long list only some are looked at, so that the cost does not grow with the cluster.
        """
        if len(self._list) <= 8 * count:
            found = [entry for entry in self._list if wanted(entry)]
            return found if len(found) <= count else self._rng.sample(found, count)
        chosen: dict[int, Entry] = {}
        for _ in range(4 * count):
            at = self._rng.randrange(len(self._list))
            if at not in chosen and wanted(self._list[at]):
                chosen[at] = self._list[at]
                if len(chosen) == count:
                    break
        return list(chosen.values())
