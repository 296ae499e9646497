"""Reading LevelDB's MANIFEST, only to see which tables there must be, and how long each is.

LevelDB finds a table that is missing when it opens, but one that was cut short only when it reads it.

    record   of the log format (`storage.logfile`): fields one after the other, each a tag and its values
    values   numbers of seven bits a byte, the lowest first; strings with their length before them
"""

from __future__ import annotations

from storage.logfile import contents

FIELDS = {1: "s", 2: "n", 3: "n", 4: "n", 5: "ns", 6: "nn", 7: "nnnss", 9: "n"}
"""Per tag its values: n a number, s a string."""
GONE, NEW = 6, 7
"""Tags of a table that is no more (level, number) and of a new one (level, number, size, its end keys)."""


def tables(raw: bytes) -> dict[int, int]:
    """Return per number of a table its size in bytes, as the MANIFEST `raw` has them last.

    Errors: ValueError if it says what we do not know.
    """
    found: dict[int, int] = {}
    for edit in contents(raw):
        at = 0
        gone: list[int] = []
        new: dict[int, int] = {}
        while at < len(edit):
            tag, at = _number(edit, at)
            if tag not in FIELDS:
                raise ValueError(f"tag {tag} of a MANIFEST is not known")
            numbers = []
            for kind in FIELDS[tag]:
                number, at = _number(edit, at)
                if kind == "n":
                    numbers.append(number)
                else:
                    at += number
            if tag == GONE:
                gone.append(numbers[1])
            elif tag == NEW:
                new[numbers[1]] = numbers[2]
        # A table that is moved to another level is both.
        for number in gone:
            found.pop(number, None)
        found |= new
    return found


def _number(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(raw):
            raise ValueError("a record of a MANIFEST ends in the middle of a number")
        number |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return number, at
        shift += 7
