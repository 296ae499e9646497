"""What a queue is: its definition, what its settings may be, and the record that keeps it.

A queue has an id besides its name, so that a deleted queue never comes back under a new one.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import cbor2

from dmqnode.errors import InvalidRequest, LimitExceeded
from dmqnode.hybridclock import NEVER, Stamp, read_stamp
from dmqnode.ids import NodeId, PartitionId, QueueId, partition_id

MAX_VISIBILITY = 12 * 3600.0
MAX_DELAY = 366 * 86_400.0
MAX_RETENTION = 366 * 86_400.0
MAX_PARTITIONS = 1024
MAX_BODY = 8 << 20
MAX_QUEUE_NAME = 120
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user may set of a queue.  Durations in seconds, sizes in bytes."""

    visibility: float = 30.0
    """How long a delivery stays hidden from other consumers."""
    delay: float = 0.0
    """How long a message waits before its first delivery, where the send names no delay."""
    retention: float = 4 * 86_400.0
    """After how long a message that nobody took is dropped."""
    max_attempts: int | None = None
    """After how many deliveries a message moves to the dead-letter queue."""
    dead_letter: str | None = None
    ordering: str = "standard"
    """fifo: messages of one group come out one after the other; those without a group are one group."""
    partitions: int = 1
    """They may become more, but in a fifo queue."""
    max_message_size: int = 1 << 20
    paused: bool = False
    """A paused queue takes messages and hands none out."""


SETTING_NAMES = tuple(f.name for f in fields(Settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A queue: its settings, and who created it when."""

    id: QueueId
    name: str
    owner: str
    created_at: int
    """Milliseconds since 1970."""
    settings: Settings
    homes: tuple[tuple[NodeId, ...], ...] = ()
    """Per partition the nodes that held it first (H5); empty: the one node that there was."""
    stamp: Stamp = NEVER
    """When it was last changed: of two versions the later holds."""
    first_partitions: int = 0
    """How many it was created with; 0: as many as it has."""

    @property
    def age(self) -> tuple[int, QueueId]:
        """Of two queues of one name the lesser keeps it."""
        return self.created_at, self.id

    @property
    def keyed_partitions(self) -> int:
        """How many partitions messages with a group or a dedup id go to: those that it was created with."""
        return self.first_partitions or self.settings.partitions

    @property
    def partition_ids(self) -> list[PartitionId]:
        """All its partitions."""
        return [partition_id(self.id, index) for index in range(self.settings.partitions)]

    def check_send(self, longest: int, delay: float | None) -> None:
        """See whether the queue takes a send.

        Arguments:
            longest: bytes of its longest body.
            delay: seconds; None: as the queue has it.

        Errors: LimitExceeded, InvalidRequest.
        """
        settings = self.settings
        if longest > settings.max_message_size:
            raise LimitExceeded(
                f"a body of {longest} bytes is longer than queue {self.name!r} takes, "
                f"{settings.max_message_size}; raise its --max-message-size or send less",
                code="too-large",
            )
        if delay is not None:
            if settings.ordering == "fifo":
                raise InvalidRequest("a fifo queue has one delay for all its messages; set it on the queue")
            if not 0 <= delay <= MAX_DELAY:
                raise InvalidRequest(f"a delay of {delay:,.0f} s is outside 0 s and 366 days")

    def grown(self, settings: Settings, homes: tuple[tuple[NodeId, ...], ...] = ()) -> Definition:
        """Return it with more partitions.

        Arguments:
            homes: of all partitions, the new ones among them.
        """
        first = self.keyed_partitions
        return replace(self, settings=settings, homes=homes or self.homes, first_partitions=first)

    def info(self) -> dict[str, Any]:
        """Return the definition under the field names that users see."""
        at = datetime.fromtimestamp(self.created_at / 1000, UTC).isoformat(timespec="milliseconds")
        return {
            "name": self.name,
            "id": self.id.hex(),
            "owner": self.owner,
            "created_at": at.replace("+00:00", "Z"),
            **asdict(self.settings),
            "first_partitions": self.keyed_partitions,
        }


def check_name(name: str, what: str = "queue name") -> str:
    """Return `name` if a queue may be called so.

    Errors: InvalidRequest.
    """
    if not name:
        raise InvalidRequest(f"the {what} is empty; give a name such as orders")
    if len(name) > MAX_QUEUE_NAME:
        raise InvalidRequest(f"a {what} of {len(name)} characters is too long; the limit is {MAX_QUEUE_NAME}")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{what} {name!r} is not possible; use letters, digits, '_', '-', '.' and ':', "
            "beginning with a letter, a digit or '_'"
        )
    return name


def change_settings(old: Settings, changes: dict[str, Any], *, created: bool) -> Settings:
    """Return `old` with `changes` applied, each checked by itself and against the others.

    Arguments:
        created: the queue is there already, so what is fixed at creation may not change.

    Errors: InvalidRequest, naming the setting and its bounds.
    """
    for name, value in changes.items():
        if name not in SETTING_NAMES:
            raise InvalidRequest(f"there is no queue setting {name!r}; there are {', '.join(SETTING_NAMES)}")
        if created and name == "ordering" and value != old.ordering:
            raise InvalidRequest(
                f"{name} is fixed when a queue is created; create another queue and move over"
            )
    if created and "partitions" in changes:
        _check_growth(old, _checked("partitions", changes["partitions"]))
    new = replace(old, **{name: _checked(name, value) for name, value in changes.items()})
    if (new.max_attempts is None) != (new.dead_letter is None):
        raise InvalidRequest("max_attempts and dead_letter go together; give both or neither")
    return new


def _check_growth(old: Settings, count: int) -> None:
    if count < old.partitions:
        raise InvalidRequest(
            f"the queue has {old.partitions} partitions and cannot have {count}, fewer: each may hold "
            "messages; create another queue and move over"
        )
    if count > old.partitions and old.ordering == "fifo":
        raise InvalidRequest(
            f"a fifo queue keeps the number of partitions that it was created with, {old.partitions}: in "
            "another one later messages of a group could overtake earlier ones; create another queue and "
            "move over"
        )


def _checked(name: str, value: Any) -> Any:
    match name:
        case "visibility":
            return _seconds(name, value, 0.0, MAX_VISIBILITY, "12 hours")
        case "delay":
            return _seconds(name, value, 0.0, MAX_DELAY, "366 days")
        case "retention":
            return _seconds(name, value, 1.0, MAX_RETENTION, "366 days")
        case "max_attempts":
            return None if value is None else _whole(name, value, 1, 1_000_000)
        case "dead_letter":
            return None if value is None else check_name(_text(name, value), "dead-letter queue name")
        case "ordering":
            if value not in ("standard", "fifo"):
                raise InvalidRequest(f"ordering {value!r} is not known; it is standard or fifo")
            return value
        case "partitions":
            return _whole(name, value, 1, MAX_PARTITIONS)
        case "max_message_size":
            return _whole(name, value, 1, MAX_BODY)
        case _:
            if type(value) is not bool:
                raise InvalidRequest(f"{name} is {value!r}; it must be true or false")
            return value


def check_seconds(name: str, value: float, low: float, high: float) -> float:
    """Return `value` if it is a duration of low … high seconds.

    Errors: InvalidRequest.
    """
    return _seconds(name, value, low, high, f"{high:g} s")


def _seconds(name: str, value: Any, low: float, high: float, high_text: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{name} is {value!r}; it must be a number of seconds")
    if not low <= value <= high:
        raise InvalidRequest(f"{name} is {value:g} s; it must be within {low:g} s and {high_text}")
    return float(value)


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InvalidRequest(f"{name} is {value!r}; it must be a whole number within {low} and {high}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is {value!r}; it must be text")
    return value


# --- the record ------------------------------------------------------------------------------------
# CBOR map; to change it, add keys with a default and keep reading what lacks them.


def encode_definition(definition: Definition) -> bytes:
    """Return the record that keeps a definition."""
    record = {
        "name": definition.name,
        "owner": definition.owner,
        "created_at": definition.created_at,
        "settings": asdict(definition.settings),
        "homes": definition.homes,
        "stamp": definition.stamp,
    }
    if definition.first_partitions:
        record["first"] = definition.first_partitions
    return cbor2.dumps(record)


def encode_deleted(name: str, deleted_at: int, stamp: Stamp = NEVER) -> bytes:
    """Return the record that stays in the place of a deleted queue's definition."""
    return cbor2.dumps({"name": name, "deleted_at": deleted_at, "stamp": stamp})


def decode_definition(queue: QueueId, record: bytes) -> Definition | None:
    """Read a record; None if the queue was deleted."""
    found = cbor2.loads(record)
    if "deleted_at" in found:
        return None
    known = {k: v for k, v in found["settings"].items() if k in SETTING_NAMES}
    return Definition(
        id=queue,
        name=found["name"],
        owner=found["owner"],
        created_at=found["created_at"],
        settings=Settings(**known),
        homes=tuple(tuple(NodeId(n) for n in nodes) for nodes in found.get("homes", ())),
        stamp=read_stamp(found.get("stamp", NEVER)),
        first_partitions=found.get("first", 0),
    )
