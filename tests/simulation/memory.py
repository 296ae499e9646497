"""What a node holds in memory: every container that can be reached from it, by the attribute that it is in.

A walk over objects, not a list of them: a container that somebody adds tomorrow is counted, too.
"""

from __future__ import annotations

import gc
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from functools import partial
from types import CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any

import trio

from dmqnode.config import NodeConfig
from dmqnode.ranges import RangeSet
from storage.memory import MemoryStore

OURS = frozenset(("dmqnode", "gossip", "storage"))
SEQUENCES = (list, deque, set, frozenset)
MAPS = (dict, OrderedDict, defaultdict, Counter)
CHANNELS = (trio.MemorySendChannel, trio.MemoryReceiveChannel)
LEFT_OUT = (MemoryStore, NodeConfig)
"""The disk, and what an operator has set."""
Found = tuple[Counter[str], Counter[str]]


class Walk:
    """One look at what can be reached."""

    def __init__(self) -> None:
        self.entries: Counter[str] = Counter()
        """How many entries the containers have, by Class.attribute; what lies in them counts there, too."""
        self.instances: Counter[str] = Counter()
        """How many objects of each class of ours there are."""
        self._seen: set[int] = set()
        self._left: list[tuple[Any, str]] = []
        self._kinds: dict[type, Any] = {}

    def look(self, root: object) -> Walk:
        """Look at all that can be reached from an object."""
        self._left.append((root, type(root).__name__))
        seen, kinds, left = self._seen, self._kinds, self._left
        while left:
            thing, label = left.pop()
            kind = type(thing)
            visit = kinds.get(kind, self)
            if visit is self:
                visit = kinds[kind] = self._kind(kind)
            if visit is None or id(thing) in seen:
                continue
            seen.add(id(thing))
            visit(thing, label)
        return self

    def _kind(self, kind: type) -> Any:
        """Return how to look at things of a type; None: not at all."""
        if issubclass(kind, RangeSet):
            return self._ranges
        if issubclass(kind, LEFT_OUT):
            return None
        ours = kind.__module__.split(".")[0] in OURS
        for types, visit in (
            (MAPS, self._map),
            (SEQUENCES, self._sequence),
            (CHANNELS, self._channel),
            (trio.Nursery, self._nursery),
            (MethodType, self._method),
            (partial, self._partial),
            (FunctionType, self._function),
            ((CoroutineType, GeneratorType), self._frame),
        ):
            if issubclass(kind, types):
                return visit
        if issubclass(kind, tuple):
            return self._fields if ours and hasattr(kind, "_fields") else self._tuple
        return self._object if ours and not issubclass(kind, type) else None

    def _count(self, label: str, entries: int) -> None:
        if entries:
            self.entries[label] += entries

    def _push(self, things: Iterable[Any], label: str) -> None:
        self._left.extend((thing, label) for thing in things)

    def _ranges(self, ranges: RangeSet, label: str) -> None:
        self._count(label, len(ranges))

    def _map(self, found: dict[Any, Any], label: str) -> None:
        self._count(label, len(found))
        self._push(found, label)
        self._push(found.values(), label)

    def _sequence(self, found: Any, label: str) -> None:
        self._count(label, len(found))
        self._push(found, label)

    def _tuple(self, found: tuple[Any, ...], label: str) -> None:
        self._push(found, label)

    def _fields(self, found: Any, label: str) -> None:
        name = type(found).__name__
        self._left.extend((getattr(found, field), f"{name}.{field}") for field in found._fields)

    def _channel(self, channel: Any, label: str) -> None:
        self._left.append((channel._state.data, label))

    def _nursery(self, nursery: trio.Nursery, label: str) -> None:
        tasks = nursery.child_tasks
        self._count(f"{label} tasks", len(tasks))
        for task in tasks:
            coro: Any = task.coro
            while coro is not None:
                self._left.append((coro, getattr(coro, "__qualname__", label)))
                coro = getattr(coro, "cr_await", None)
            self._push(task.child_nurseries, f"{task.coro.__qualname__}")

    def _frame(self, frame: Any, label: str) -> None:
        self._push(gc.get_referents(frame), frame.__qualname__)

    def _method(self, method: MethodType, label: str) -> None:
        self._left += ((method.__self__, label), (method.__func__, label))

    def _partial(self, call: partial[Any], label: str) -> None:
        self._left.append((call.func, label))
        self._push(call.args, label)
        self._push(call.keywords.values(), label)

    def _function(self, function: FunctionType, label: str) -> None:
        if function.__closure__ and (function.__module__ or "").split(".")[0] in OURS:
            for name, cell in zip(function.__code__.co_freevars, function.__closure__):
                try:
                    self._left.append((cell.cell_contents, f"{function.__qualname__} {name}"))
                except ValueError:  # not set yet
                    continue

    def _object(self, thing: Any, label: str) -> None:
        kind = type(thing)
        name = kind.__name__
        self.instances[name] += 1
        left = self._left
        if (fields := getattr(thing, "__dict__", None)) is not None:
            left.extend((value, f"{name}.{field}") for field, value in fields.items())
        for owner in kind.__mro__:
            slots = owner.__dict__.get("__slots__", ())
            for field in (slots,) if isinstance(slots, str) else slots:
                if field == "__dict__":
                    continue
                if (value := getattr(thing, field, None)) is not None:
                    left.append((value, f"{name}.{field}"))
