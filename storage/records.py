"""What is stored under a key: a CRC-32C over key and value (4 bytes, big-endian), then the value.

The key is covered so that a value that turns up under another key is noticed too.
"""

from __future__ import annotations

from collections.abc import Iterable

from crc32c import crc32c

from storage.store import Damaged, Row, Scan

CHECK_SIZE = 4
BAD_CHECKSUM = "its checksum does not match"


def seal(key: bytes, value: bytes) -> bytes:
    """Return the record of `value` under `key`."""
    return crc32c(value, crc32c(key)).to_bytes(CHECK_SIZE, "big") + value


def unseal(key: bytes, raw: bytes) -> bytes | None:
    """Return the value in the record `raw`, or None if the record is damaged."""
    value = raw[CHECK_SIZE:]
    return value if raw[:CHECK_SIZE] == crc32c(value, crc32c(key)).to_bytes(CHECK_SIZE, "big") else None


def collect(
    pairs: Iterable[tuple[bytes, bytes]], start: bytes, stop: bytes, limit: int, max_bytes: int
) -> Scan:
    """Unseal (key, record) pairs, which begin in the range and follow its order; take what is in it."""
    rows: list[Row] = []
    damaged: list[Damaged] = []
    room = max_bytes
    for key, raw in pairs:
        if not start <= key < stop:
            break
        value = unseal(key, raw)
        if value is None:
            damaged.append(Damaged(key, raw, BAD_CHECKSUM))
        elif len(value) > room and (rows or damaged):
            return Scan(rows, damaged, more=True)
        else:
            rows.append(Row(key, value))
        room -= len(raw) - CHECK_SIZE
        if room <= 0 or len(rows) + len(damaged) >= limit:
            return Scan(rows, damaged, more=True)
    return Scan(rows, damaged, more=False)
