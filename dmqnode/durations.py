"""Durations and sizes as people write them: `500ms`, `10s`, `1h30m`, `64KiB`."""

from __future__ import annotations

import math
import re

from dmqnode.errors import UsageError

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_BYTES |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_NUMBER = r"[0-9]{1,30}(?:\.[0-9]+)?"
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d))+", re.ASCII)
_PIECE = re.compile(rf"({_NUMBER})(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(rf"({_NUMBER})\s*([A-Za-z]*)", re.ASCII)
LONGEST = 100 * 365 * 86400.0
"""Seconds; what is longer is a mistake."""


def parse_duration(text: str) -> float:
    """Return the seconds that `text` means: `500ms`, `10s`, `5m`, `2h`, `1d`, `1h30m`, or plain seconds.

    Errors: UsageError for anything else.
    """
    text = text.strip()
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(text))
    elif re.fullmatch(_NUMBER, text, re.ASCII):
        seconds = float(text)
    else:
        raise UsageError(f"{text!r} is not a duration; write for example 500ms, 10s, 5m, 2h or 1d")
    if seconds > LONGEST:
        raise UsageError(f"{text!r} is longer than a hundred years; durations end with ms, s, m, h or d")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration with its one or two greatest units, as `parse_duration` reads it."""
    if not math.isfinite(seconds):
        return "forever"
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if 0 < seconds < 0.9995:
        return f"{sign}{_short(seconds * 1000)}ms"
    if seconds < 59.95:
        return f"{sign}{_short(seconds)}s"
    whole = round(seconds)
    for unit, below, size in (("d", "h", 86400), ("h", "m", 3600), ("m", "s", 60)):
        if whole >= size:
            rest = whole % size // int(_SECONDS[below])
            return f"{sign}{whole // size}{unit}" + (f"{rest}{below}" if rest else "")
    return f"{sign}{whole}s"


def parse_size(text: str) -> int:
    """Return the bytes that `text` means: `64KiB`, `1MiB`, `2GB`, or plain bytes.

    Errors: UsageError for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = match[2].lower() or "b" if match else ""
    if match is None or unit not in _BYTES:
        raise UsageError(f"{text!r} is not a size; write for example 512, 64KiB, 1MiB or 2GB")
    size = float(match[1]) * _BYTES[unit] if "." in match[1] else int(match[1]) * _BYTES[unit]
    if size >= 2**63 or size != int(size):
        raise UsageError(f"{text!r} is not a whole number of bytes below 2^63")
    return int(size)


def format_size(size: float) -> str:
    """Return a size with its greatest binary unit, rounded: `64KiB`, `1.5MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1023.95:
            return f"{_short(size)}{unit}"
        size /= 1024
    return f"{_short(size)}TiB"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
