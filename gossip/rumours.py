"""News to pass on: what was sent least goes first, what is newer replaces what is older (SWIM §4.1)."""

from __future__ import annotations

from itertools import count

from gossip.codec import encode
from gossip.messages import Alive, Dead, Left, NodeId, Suspect

MISFITS_LIMIT = 16
"""After so many rumours too long for what is left of a packet it is called full."""

News = Alive | Suspect | Dead | Left


class _Rumour:
    __slots__ = ("data", "incarnation", "node", "number", "sends", "source")

    def __init__(self, node: NodeId, source: NodeId, incarnation: int, data: bytes, number: int) -> None:
        self.node = node
        self.source = source
        self.incarnation = incarnation
        self.data = data
        self.number = number
        self.sends = 0


class Rumours:
    """What this node has yet to pass on.

    At most one rumour about each member, but for suspicions: one from each accuser that counts, since it is
    their number that matters (Lifeguard §IV-B). So it is bounded as the members are.
    """

    def __init__(self) -> None:
        self._about: dict[NodeId, dict[NodeId, _Rumour]] = {}
        # By how often they were sent; in each, by when they came to be there.
        self._levels: dict[int, dict[int, _Rumour]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return sum(map(len, self._levels.values()))

    def __bool__(self) -> bool:
        return bool(self._about)

    def put(self, news: News) -> None:
        """Pass on `news`, and no longer what it replaces."""
        if isinstance(news, Alive):
            node, source, incarnation = news.member.id, NodeId(b""), news.member.incarnation
        else:
            node, incarnation = news.node, news.incarnation
            source = news.source if isinstance(news, Suspect) else NodeId(b"")
        for old in list(self._about.get(node, {}).values()):
            beside = isinstance(news, Suspect) and old.source and old.incarnation == incarnation
            if not beside or old.source == source:
                self._drop(old)
        rumour = _Rumour(node, source, incarnation, encode(news), next(self._numbers))
        self._about.setdefault(node, {})[source] = rumour
        self._levels.setdefault(0, {})[rumour.number] = rumour

    def clear(self) -> None:
        """Pass on nothing of this: there is nobody to tell."""
        self._about.clear()
        self._levels.clear()

    def take(self, size: int, limit: int) -> list[bytes]:
        """Return encoded news of at most `size` bytes, counted as sent once more; forget what was sent
        `limit` times."""
        taken: list[_Rumour] = []
        misfits = 0
        for level in sorted(self._levels):
            for rumour in reversed(self._levels[level].values()):
                if len(rumour.data) <= size:
                    size -= len(rumour.data)
                    taken.append(rumour)
                else:
                    misfits += 1
                if misfits >= MISFITS_LIMIT:
                    break
            if misfits >= MISFITS_LIMIT:
                break
        for rumour in taken:
            self._sent(rumour, limit)
        return [rumour.data for rumour in taken]

    def _sent(self, rumour: _Rumour, limit: int) -> None:
        if rumour.sends + 1 >= limit:
            self._drop(rumour)
            return
        self._unlist(rumour)
        rumour.sends += 1
        self._levels.setdefault(rumour.sends, {})[rumour.number] = rumour

    def _drop(self, rumour: _Rumour) -> None:
        self._unlist(rumour)
        about = self._about[rumour.node]
        del about[rumour.source]
        if not about:
            del self._about[rumour.node]

    def _unlist(self, rumour: _Rumour) -> None:
        level = self._levels[rumour.sends]
        del level[rumour.number]
        if not level:
            del self._levels[rumour.sends]
