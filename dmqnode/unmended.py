"""Which of the damaged records that a store has set aside are still missed; to be used in a worker thread.

    record                          mended once
    p… b …, t …  a batch            it is there again, or its messages are dead, or its log is over
    p… d l m n s u  small records   the copy was aligned since: the mark beside it is gone (see `harm_key`)
    p… a …  of a copy               the copy has a stamp again
    h …  a debt                     no mark stands in its place
    a stretch of rows               it can be read again, and its first record is mended, if it begins at one
    anything else                   a record is there again

What is gone with its whole partition is not missed.  The rows that keep what was found stay for inspection.
Of a damaged log of LevelDB nobody knows what was in it: that is no record, and a notice tells of it.
"""

from __future__ import annotations

from dmqnode.debts import SPOILED
from dmqnode.ids import LOG_ID_SIZE, PARTITION_ID_SIZE, LogId, PartitionId
from dmqnode.keys import ASIDE, ASIDE_END, DEBTS, HARM, PartitionKeys, harm_key
from dmqnode.ranges import RangeSet
from dmqnode.records import decode_log, decode_state
from dmqnode.smallrows import stamp_key
from storage import aside
from storage.errors import Corrupt
from storage.store import Damaged, Store

LOOKED_AT = 100
"""Records that one look goes through; the next goes on behind them, so that none takes long."""
MOST = 10_000
"""Records that are remembered, missed and mended ones each; of more it is not known yet."""
_OF_THE_STORE = b"\x00"
_FENCE = b"\xff" * 8


class Unmended:
    """Counts the damaged records of a store that nothing has made good yet."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept = 0
        """Records set aside when they were listed last."""
        self._unlisted: bytes | None = None
        """Where those begin that were not listed yet, because there are too many."""
        self._missed: dict[bytes, Damaged] = {}
        """By where they are kept, and without their bytes; those that are to be looked at next come first."""
        self._mended: dict[bytes, None] = {}
        """Where those are kept that are not missed any more."""

    def count(self, kept: int) -> int:
        """Return how many are missed, those included of which it was not looked at yet; `MOST` at most.

        Arguments:
            kept: how many the store has set aside, ever.

        Errors: StorageError when the disk fails.
        """
        if kept != self._kept:
            self._kept = kept
            self._unlisted = ASIDE
        if self._unlisted is not None and len(self._missed) < MOST:
            self._unlisted = self._list(self._unlisted)
        dead: dict[bytes, RangeSet] = {}
        for place in list(self._missed)[:LOOKED_AT]:
            record = self._missed.pop(place)
            if _mended(self._store, record, dead):
                self._mended[place] = None
                if len(self._mended) > MOST:
                    # The oldest is looked at again when something else is set aside.
                    del self._mended[next(iter(self._mended))]
            else:
                self._missed[place] = record
        return len(self._missed)

    def _list(self, start: bytes) -> bytes | None:
        """Take in what is set aside from a place on; return from where on it was too much."""
        more = True
        while more:
            page = self._store.scan(start, ASIDE_END, limit=4096)
            for row in page.rows:
                start = row.key
                if row.key in self._mended or row.key in self._missed:
                    continue
                if len(self._missed) >= MOST:
                    return start
                record = aside.read(row)
                if not record.key.startswith(_OF_THE_STORE):
                    self._missed[row.key] = record._replace(raw=b"", why="")
            start += b"\x00"
            more = page.more and bool(page.rows)
        return None


def _mended(store: Store, damaged: Damaged, dead: dict[bytes, RangeSet]) -> bool:
    """Tell whether nobody misses a record any more.

    Arguments:
        dead: what is dead of logs, by their keys, as far as it was read; what is read is added.
    """
    key = damaged.key
    if damaged.upto is not None and _unreadable(store, key, damaged.upto):
        return False
    if damaged.upto is not None and (key[:1] != b"p" or len(key) <= 1 + PARTITION_ID_SIZE):
        return True
    if key[:1] == DEBTS:
        return _get(store, key) != SPOILED
    if key[:1] != b"p" or len(key) <= 1 + PARTITION_ID_SIZE:
        return _get(store, key) is not None
    keys = PartitionKeys.of(PartitionId(key[1 : 1 + PARTITION_ID_SIZE]))
    if not store.scan(keys.prefix, keys.prefix + b"\xff", limit=1).rows:
        return True
    letter, rest = keys.tail(key)
    mark = harm_key(key)
    if mark is not None:
        return _get(store, mark) is None
    if letter == b"a":
        return _get(store, stamp_key(keys)) is not None
    if len(rest) < LOG_ID_SIZE + 8 or rest.endswith(_FENCE):
        return True  # a fence only keeps readers from deleted keys
    log, first = LogId(rest[-LOG_ID_SIZE - 8 : -8]), keys.first_seq(rest)
    return _get(store, keys.batch(log, first)) is not None or _is_dead(store, keys, log, first, dead)


def _is_dead(store: Store, keys: PartitionKeys, log: LogId, first: int, dead: dict[bytes, RangeSet]) -> bool:
    """Tell whether this copy knows that a batch is dead, all of it, or its log over."""
    described = _get(store, keys.log(log))
    if described is None:
        return _get(store, keys.prefix + HARM + b"l") is None
    if decode_log(described)[2] is not None:
        return True
    known = dead.get(keys.log(log))
    if known is None:
        known = dead[keys.log(log)] = RangeSet()
        start, more = keys.dead(log, 0), True
        while more:
            page = store.scan(start, keys.dead(log, 0xFFFFFFFF), limit=4096)
            for row in page.rows:
                start = row.key + b"\x00"
                for low, high in RangeSet.decode(row.value):
                    known.add(low, high)
            more = page.more and bool(page.rows)
    return known.covers(first, _end(store, keys, log, first))


def _end(store: Store, keys: PartitionKeys, log: LogId, first: int) -> int:
    """Return where a batch ends that cannot be read: where the next begins, or else the log ends."""
    behind = store.scan(keys.batch(log, first + 1), keys.fence(log), limit=1)
    ends = [keys.first_seq(row.key) for row in behind.rows]
    ends += [keys.first_seq(record.key) for record in behind.damaged]
    state = None if ends else _get(store, keys.state())
    if state is not None:
        ends.append(decode_state(state).ends.get(log, 0))
    return max(first + 1, min(ends, default=0))


def _unreadable(store: Store, start: bytes, stop: bytes) -> bool:
    """Tell whether some of a stretch still cannot be read."""
    more = True
    while more:
        page = store.scan(start, stop, limit=4096)
        if any(record.upto is not None for record in page.damaged):
            return True
        more = page.more and bool(page.rows)
        start = page.rows[-1].key + b"\x00" if page.rows else start
    return False


def _get(store: Store, key: bytes) -> bytes | None:
    """Return an intact record, None if there is none."""
    try:
        return store.get(key)
    except Corrupt:
        return None
