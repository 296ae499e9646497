"""What a node tells about itself and its queues: show, list, explain, peek, status, members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmqnode.answers import EMPTY
from dmqnode.browse import START, STATES, Cursor, browse, decode_cursor, encode_cursor
from dmqnode.clock import Now
from dmqnode.errors import InvalidRequest
from dmqnode.ids import message_id
from dmqnode.messages import (
    Browse,
    Browsed,
    Explain,
    GetQueue,
    ListQueues,
    Members,
    Message,
    NodeStatus,
    Part,
    QueueInfo,
    QueueList,
    Report,
)
from dmqnode.overview import of_one
from dmqnode.partition import MAX_IN_FLIGHT
from dmqnode.queue import Queue
from dmqnode.sends import disk_is_full
from dmqnode.standing import standing
from dmqnode.version import VERSION

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.surroundings import Session

MAX_LIST = 1000
MAX_BROWSE = 10_000
MAX_HOLDERS = 100


class Reports:
    """Answers every request that only asks."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def answer(self, now: Now, session: Session, number: int, request: Message) -> None:
        """Answer `request`, perhaps after some reads.

        Errors: Refused and its kinds.
        """
        match request:
            case GetQueue():
                self._with_oldest(
                    now,
                    session,
                    number,
                    request.queue,
                    lambda info: self._reply(session, number, QueueInfo(info)),
                )
            case Explain():
                queue = self._broker.registry.find(request.queue)
                self._with_oldest(
                    now,
                    session,
                    number,
                    request.queue,
                    lambda info: self._reply(session, number, Report(self._explain(queue, info))),
                )
            case ListQueues():
                self._list(now, session, number, request)
            case Browse():
                self._browse(now, session, number, request)
            case NodeStatus():
                self._tell_status(now, session, number)
            case Members():
                self._reply(session, number, Report(self._members()))
            case _:
                raise AssertionError(f"{request} is not a question")

    def _reply(self, session: Session, number: int, message: Message) -> None:
        self._broker.reply(session.id, number, message)

    # --- one queue -----------------------------------------------------------------------------------

    def _when_open(
        self, now: Now, session: Session, number: int, queue: Queue, then: Callable[[Now], None]
    ) -> None:
        broker = self._broker
        broker.when_open(now, queue, then, lambda now, error: broker.refuse(session.id, number, error))

    def _with_oldest(
        self, now: Now, session: Session, number: int, name: str, then: Callable[[dict[str, Any]], None]
    ) -> None:
        """Call `then` with a queue's figures, the age of its oldest message among them."""
        broker = self._broker
        queue = broker.registry.find(name)
        oldest: list[int] = []
        left = [0]

        def looked(now: Now, result: tuple[list[Part], Cursor | None]) -> None:
            oldest.extend(p.sent_at for p in result[0][:1])
            left[0] -= 1
            if not left[0]:
                info = self.figures(queue)
                info["oldest_seconds"] = round(max(0, now.wall - min(oldest)) / 1000, 3) if oldest else None
                then(info)

        def opened(now: Now) -> None:
            left[0] = len(queue.partitions) * len(STATES)
            for partition in queue.partitions:
                for state in STATES:
                    broker.reads.start(now, browse(partition, now.wall, state, 1, 1, START), looked)

        self._when_open(now, session, number, queue, opened)

    def figures(self, queue: Queue) -> dict[str, Any]:
        """Return an open queue's definition and counts."""
        ready = delayed = in_flight = size = 0
        for partition in queue.partitions:
            counts = partition.counts()
            ready, delayed, in_flight = ready + counts[0], delayed + counts[1], in_flight + counts[2]
            size += partition.state.bytes
        return {
            **queue.definition.info(),
            "ready": ready,
            "delayed": delayed,
            "in_flight": in_flight,
            "bytes": size if ready or delayed or in_flight else 0,
            "oldest_seconds": None,
            "waiting_receivers": len(queue.waiters),
        }

    def _explain(self, queue: Queue, info: dict[str, Any]) -> dict[str, Any]:
        holders: list[dict[str, Any]] = []
        clock = self._broker.now.run
        partitions = []
        blocked = full = 0
        for partition in queue.partitions:
            blocked += partition.ready.groups.blocked
            full += partition.spare <= 0
            partitions.append(standing(self._broker, partition))
            for hold in partition.holds:
                first = next(iter(hold.segments), None)
                if first is None or not hold.delivery or len(holders) >= MAX_HOLDERS:
                    continue
                holders.append(
                    {
                        "holder": hold.holder,
                        "delivery": hold.delivery,
                        "count": hold.segments.size,
                        "attempt": first.attempt,
                        "until_seconds": round(max(0.0, hold.until - clock), 3),
                        "first_id": message_id(first.stored.log.id, first.low),
                    }
                )
        return {
            **info,
            "reasons": self._reasons(info, blocked, full),
            "holders": holders,
            "partitions": partitions,
        }

    def _reasons(self, info: dict[str, Any], blocked: int, full: int) -> list[str]:
        name, reasons = info["name"], []
        if info["paused"]:
            reasons.append(f"the queue is paused; let it go on with: dmq queue resume {name}")
        if not info["ready"] + info["delayed"] + info["in_flight"]:
            reasons.append(EMPTY)
        elif not info["ready"] and info["in_flight"]:
            several = f"all of the {info['in_flight']} messages that are not delayed are"
            one = "the one message that is not delayed is"
            reasons.append(f"{one if info['in_flight'] == 1 else several} with consumers (holders)")
        if info["delayed"]:
            one, several = "1 message waits for its delay", f"{info['delayed']} messages wait for their delay"
            reasons.append(f"{one if info['delayed'] == 1 else several} to end")
        if full:
            reasons.append(
                f"{full} partitions have {MAX_IN_FLIGHT} messages out, the limit, with consumers, nacked and "
                "waiting, or on their way to the dead-letter queue; ack some"
            )
        if blocked:
            one, several = (
                "1 group waits for a message of its own",
                f"{blocked} groups wait for a message of theirs",
            )
            reasons.append(f"{one if blocked == 1 else several} that is with a consumer")
        if info["ready"] and not info["paused"] and not blocked and not full:
            waiting = info["waiting_receivers"]
            ready = "1 message is ready" if info["ready"] == 1 else f"{info['ready']} messages are ready"
            reasons.append(ready + ("" if waiting else " and nobody receives"))
        return reasons

    # --- many ----------------------------------------------------------------------------------------

    def _list(self, now: Now, session: Session, number: int, request: ListQueues) -> None:
        if not 1 <= request.limit <= MAX_LIST:
            raise InvalidRequest(f"limit is {request.limit}; it must be within 1 and {MAX_LIST}")
        registry = self._broker.registry
        names = sorted(
            n for n in registry.queues if "#" not in n and n.startswith(request.prefix) and n > request.after
        )
        chosen = [registry.queues[n] for n in names[: request.limit]]
        more = len(names) > request.limit
        if not request.counts:
            self._reply(session, number, QueueList([q.definition.info() for q in chosen], more))
            return
        left = [len(chosen)]

        def opened(now: Now) -> None:
            left[0] -= 1
            if left[0] <= 0:
                self._reply(session, number, QueueList([self.figures(q) for q in chosen], more))

        for queue in chosen:
            self._broker.when_open(now, queue, opened, lambda now, error: opened(now))
        if not chosen:
            opened(now)

    def _browse(self, now: Now, session: Session, number: int, request: Browse) -> None:
        if request.state not in STATES:
            raise InvalidRequest(f"state {request.state!r} is not known; it is one of {', '.join(STATES)}")
        if not 1 <= request.limit <= MAX_BROWSE or request.max_bytes < 1:
            raise InvalidRequest(f"a look at {request.limit} messages is outside 1 and {MAX_BROWSE}")
        cursor = request.cursor or b"\x00\x00"
        index, rest = int.from_bytes(cursor[:2], "big"), decode_cursor(cursor[2:])
        queue = self._broker.registry.find(request.queue)
        room = min(request.max_bytes, self._broker.config.max_frame // 2)

        def opened(now: Now) -> None:
            if index >= len(queue.partitions):
                self._reply(session, number, Browsed([], None))
                return
            self._broker.reads.start(
                now,
                browse(queue.partitions[index], now.wall, request.state, request.limit, room, rest),
                looked,
            )

        def looked(now: Now, result: tuple[list[Part], Cursor | None]) -> None:
            parts, after = result
            if after is not None:
                onward: bytes | None = index.to_bytes(2, "big") + encode_cursor(after)
            else:
                onward = (index + 1).to_bytes(2, "big") if index + 1 < len(queue.partitions) else None
            self._reply(session, number, Browsed(parts, onward))

        self._when_open(now, session, number, queue, opened)

    # --- the node ------------------------------------------------------------------------------------

    def _tell_status(self, now: Now, session: Session, number: int) -> None:
        status = self._status(now)
        clustering = self._broker.clustering
        if clustering is None:
            self._reply(session, number, Report({**status, "overview": of_one(status)}))
            return
        status["homes"] = clustering.overview.homes_here(now)
        status["hints"] = clustering.debts.count
        status["notices"] += [*clustering.walls.notices(), *clustering.catalog.notices(now)]
        status["healthy"] = status["healthy"] and not clustering.walls.unlike

        def told(now: Now, overview: dict[str, Any]) -> None:
            seen = {name: overview[name] for name in ("leaderless", "under_replicated")}
            usable = status["healthy"] and not overview["leaderless"]
            self._reply(session, number, Report({**status, **seen, "healthy": usable, "overview": overview}))

        clustering.overview.ask(now, told)

    def _status(self, now: Now) -> dict[str, Any]:
        broker = self._broker
        around, config = broker.surroundings, broker.config
        queues = {name: queue for name, queue in broker.registry.queues.items() if "#" not in name}
        return {
            "name": config.name,
            "node_id": broker.identity.node.hex(),
            "cluster": config.cluster,
            "version": VERSION,
            "serving": not broker.stopping,
            "uptime_seconds": round(now.run - broker.started.run, 3),
            "pid": around.pid,
            "address": around.address,
            "connections": around.connections,
            "queues": len(queues),
            "open_partitions": len(broker.registry.by_partition),
            "memory_bytes": around.memory,
            "memory_limit": config.memory_limit,
            "store_bytes": around.store_bytes,
            "free_bytes": around.free_disk,
            "set_aside": around.set_aside,
            "unmended": around.unmended,
            "partitions": sum(q.definition.settings.partitions for q in queues.values()),
            "homes": sum(q.definition.settings.partitions for q in queues.values()),
            "leaderless": 0,
            "under_replicated": 0,
            "hints": 0,
            "healthy": not (broker.counters.lost or broker.registry.unreadable),
            "waiting_receivers": broker.deliveries.waiting,
            "notices": [*around.notices, *self._notices()],
            **{name: getattr(broker.counters, name) for name in broker.counters.__slots__},
        }

    def _notices(self) -> list[str]:
        around, config = self._broker.surroundings, self._broker.config
        found = [_kept_aside(around.set_aside, around.unmended)] if around.set_aside else []
        if around.free_disk < config.disk_reserve:
            found.append(f"sends are refused: {disk_is_full(around, config)}")
        if around.memory > config.memory_limit:
            found.append("sends are refused: memory is above --memory-limit; receive, or raise it")
        return [*found, *self._unreadable()]

    def _unreadable(self) -> list[str]:
        unreadable = sorted(id_.hex() for id_ in self._broker.registry.unreadable)
        if not unreadable:
            return []
        return [
            f"the definitions of {len(unreadable)} queues are damaged ({', '.join(unreadable[:5])}"
            f"{', …' if len(unreadable) > 5 else ''}): they cannot be used, and their messages stay on disk"
        ]

    def _members(self) -> dict[str, Any]:
        config, around = self._broker.config, self._broker.surroundings
        seen = {"cluster": config.cluster, "cluster_id": around.cluster.hex()}
        if self._broker.clustering is not None:
            return {**seen, "members": self._broker.clustering.overview.members()}
        member = {
            "name": config.name,
            "node_id": self._broker.identity.node.hex(),
            "address": around.address,
            "state": "alive",
            "zone": config.zone,
            "version": VERSION,
            "weight": float(config.weight),
        }
        return {**seen, "members": [member]}


def _kept_aside(kept: int, unmended: int) -> str:
    """Say that a store keeps damaged records, and whether something still lacks what was in them."""
    mended = (
        f"{unmended} of them nothing has made good yet" if unmended else "none of them is missed any more"
    )
    return f"{kept} damaged records were set aside and are kept, to be looked into: {mended}"
