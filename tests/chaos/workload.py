"""Producers and consumers of every kind, through random nodes: both kinds of client, and the program."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from dmqnode import connect
from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError, PartlyFailed, StaleReceipt, Unknown
from tests.chaos.draining import drain
from tests.chaos.ledger import (
    ACKED,
    REFUSED,
    STORED,
    UNKNOWN,
    Ack,
    Call,
    Delivery,
    Ledger,
    Nack,
    Send,
    make_body,
    read_body,
    stale,
)
from tests.chaos.program import ProgramClients

QUEUES: dict[str, dict[str, Any]] = {
    "dead": {},
    "plain": {"partitions": 4},
    "later": {"partitions": 2},
    "orders": {"ordering": "fifo", "partitions": 2},
    "work": {"max_attempts": 3, "dead_letter": "dead"},
}
TIMEOUT = 6.0
VISIBILITY = 4.0
TAKEN = 20
SINS = 0.03
"""How often consumers forget what they have, or give it back."""
HARMFUL = ("protocol", "usage", "invalid", "queue-not-found", "failed")
"""Codes of errors that no fault explains."""


def outcome_of(error: DMQError) -> str:
    """Return what is known of a send that failed so."""
    return UNKNOWN if error.stored == "unknown" else REFUSED


class Workload:
    """Clients that work until they are told to stop.

    Arguments:
        addresses: of the nodes.
        ledger: where everything is written down.
        seed: for what clients do.
        rate: messages per second that all producers together try to send.
        program: whether `dmq send` and `dmq receive` take part.
    """

    def __init__(
        self, addresses: list[str], ledger: Ledger, seed: int, *, rate: float = 200.0, program: bool = True
    ) -> None:
        self.addresses = addresses
        self.ledger = ledger
        ledger.visibility = VISIBILITY
        self._seed = seed
        self._pause = 5 / rate
        self._breath = min(12.0, 200 / rate)
        self.program = ProgramClients(addresses, ledger, seed, TIMEOUT, VISIBILITY) if program else None
        """Those clients that are the program, if any are."""
        self.producing = threading.Event()
        self.producing.set()
        self.sins = SINS
        """How often consumers forget, give back, and ack twice; 0: never."""
        self._running = threading.Event()
        self._running.set()
        self._taken: dict[str, int] = {}
        workers: list[Callable[[int], None]] = [
            *(self._produce,) * 3, *(self._consume,) * 3, self._both,
            *((self._program_sends, self._program_receives) if program else (self._produce, self._consume)),
        ]  # fmt: skip
        self._threads = [
            threading.Thread(target=self._guard, args=(work, number)) for number, work in enumerate(workers)
        ]

    def _program_sends(self, number: int) -> None:
        assert self.program is not None
        self.program.send(number, self.producing, self._breath, self._next)

    def _program_receives(self, number: int) -> None:
        assert self.program is not None
        self.program.receive(number, self._running, self._breath, lambda: self.sins)

    def create(self, seconds: float = 20) -> None:
        """Make the queues."""
        with connect_sync(*self.addresses, timeout=seconds) as client:
            for name, settings in QUEUES.items():
                client.create_queue(name, if_not_exists=True, **settings)
        self.ledger.dead_letters["work"] = "dead"

    @contextmanager
    def sinning(self, sins: float) -> Iterator[None]:
        """Let consumers be so careless for a while."""
        self.sins = sins
        try:
            yield
        finally:
            self.sins = SINS

    def end(self, seconds: float) -> list[str]:
        """Send no more, and consume until nothing is left; return what is stuck."""
        self.producing.clear()
        self.sins = 0.0
        return drain(self.addresses, QUEUES, seconds)

    def __enter__(self) -> Workload:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.producing.clear()
        self._running.clear()
        for thread in self._threads:
            thread.join()

    def _guard(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            self.ledger.errors.append(f"a client of kind {work.__name__} ended: {error!r}")
            raise

    def _order(self, rng: random.Random) -> list[str]:
        return rng.sample(self.addresses, len(self.addresses))

    # --- sending -------------------------------------------------------------------------------------

    def _next(self, rng: random.Random, producer: str, number: int) -> tuple[str, str, float, str]:
        """Choose what to send: key, queue, delay, group."""
        queue = rng.choices(("plain", "later", "orders", "work"), (5, 2, 3, 1))[0]
        delay = rng.uniform(0.5, 3.0) if queue == "later" else 0.0
        group = f"{producer}-{rng.randrange(3)}" if queue == "orders" else ""
        poison = "poison-" if queue == "work" and rng.random() < 0.3 else ""
        return f"{poison}{producer}-{number}", queue, delay, group

    def _note(self, began: float, keys: list[str], queue: str, outcomes: list[str], **more: Any) -> None:
        ended = time.monotonic()
        delay, group, ids = more.get("delay", 0.0), more.get("group", ""), more.get("ids", [])
        for n, (key, outcome) in enumerate(zip(keys, outcomes)):
            id_ = ids[n] if n < len(ids) else ""
            self.ledger.sends.append(Send(key, queue, began, ended, outcome, delay, group, id_))

    def _failed(self, error: DMQError, count: int) -> list[str]:
        if error.code in HARMFUL:
            self.ledger.errors.append(f"{error.code}: {error}")
        if isinstance(error, PartlyFailed):
            failed = dict(error.failures)
            return [outcome_of(failed[n]) if n in failed else STORED for n in range(count)]
        return [outcome_of(error)] * count

    def _produce(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        with connect_sync(*self._order(rng), timeout=TIMEOUT) as client:
            count = 0
            while self.producing.is_set():
                key, queue, delay, group = self._next(rng, f"p{number}", count)
                keys = [key] if queue != "plain" else [f"{key}.{n}" for n in range(rng.choice((1, 1, 5)))]
                bodies = [make_body(key, rng.randrange(200)) for key in keys]
                count += 1
                began, ids = time.monotonic(), []
                try:
                    if len(keys) == 1:
                        ids = [client.send(queue, bodies[0], delay=delay or None, group=group or None)]
                    else:
                        ids = client.send_many(queue, bodies)
                    outcomes = [STORED] * len(keys)
                except DMQError as error:
                    outcomes = self._failed(error, len(keys))
                self._note(began, keys, queue, outcomes, delay=delay, group=group, ids=ids)
                time.sleep(rng.uniform(0, 2 * self._pause))

    # --- receiving -----------------------------------------------------------------------------------

    def _take(self, rng: random.Random, queue: str, began: float, messages: list[Any]) -> list[list[Any]]:
        """Write down what came; return what to ack, to give back, and to drop."""
        ended = time.monotonic()
        piles: list[list[Any]] = [[], [], []]
        for message in messages:
            key, intact = read_body(message.body)
            self.ledger.deliveries.append(
                Delivery(key, queue, message.id, began, ended, message.attempt, intact)
            )
            if queue == "work" and key.startswith("poison"):
                pile = 1
            elif rng.random() < self.sins and queue != "work":
                pile = rng.choice((1, 2))
            else:
                pile = 0
            if pile:
                outcome = "back" if pile == 1 else "dropped"
                self.ledger.acks.append(Ack(key, queue, ended, ended, outcome))
            piles[pile].append(message)
        return piles

    def _acked(self, queue: str, began: float, messages: list[Any], error: DMQError | None) -> None:
        failed: dict[int, DMQError] = {}
        if isinstance(error, PartlyFailed):
            failed = dict(error.failures)
        elif error is not None:
            failed = dict.fromkeys(range(len(messages)), error)
        for error in failed.values():
            if error.code in HARMFUL:
                self.ledger.errors.append(f"ack, {error.code}: {error}")
        for n, message in enumerate(messages):
            why = failed.get(n)
            outcome = (
                ACKED if why is None else stale(str(why)) if isinstance(why, StaleReceipt)
                else UNKNOWN if isinstance(why, Unknown) else f"refused: {why}"
            )  # fmt: skip
            key = read_body(message.body)[0]
            said = "" if why is None else str(why)
            self.ledger.acks.append(Ack(key, queue, began, time.monotonic(), outcome, said))

    def _queue(self, rng: random.Random) -> str:
        return rng.choices(("plain", "later", "orders", "work", "dead"), (5, 3, 5, 2, 1))[0]

    def _consume(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        with connect_sync(*self._order(rng), timeout=TIMEOUT) as client:
            while self._running.is_set():
                queue, began = self._queue(rng), time.monotonic()
                try:
                    messages = client.receive(
                        queue, max_messages=TAKEN, wait=rng.choice((0, 0.2, 1)), visibility=VISIBILITY
                    )
                except DMQError as error:
                    self._receive_failed(queue, began, error)
                    time.sleep(0.05)
                    continue
                if not messages:
                    self._note_call("receive", queue, began, None, "empty")
                    continue
                good, back, _ = self._take(rng, queue, began, messages)
                if rng.random() < max(self.sins - SINS, self.sins / 6):
                    time.sleep(VISIBILITY + 0.5)  # and ack what somebody else has by now
                for pile in [[m] for m in good] if queue == "orders" else [good] if good else []:
                    began = time.monotonic()
                    why = _failure(lambda pile=pile: client.ack(pile))
                    self._acked(queue, began, pile, why)
                    if rng.random() < 2 * self.sins:
                        began = time.monotonic()
                        why = _failure(lambda pile=pile: client.ack(pile))  # once more; it may be refused
                        self._note_call("ack again", queue, began, why)
                if back:
                    began, delay = time.monotonic(), rng.choice((0.0, 0.5))
                    why = _failure(lambda back=back, delay=delay: client.nack(back, delay=delay))
                    self._nacked(queue, began, back, why, delay)

    def _note_call(
        self, name: str, queue: str, began: float, error: DMQError | None, otherwise: str = "done"
    ) -> None:
        outcome = otherwise if error is None else error.code
        if outcome in HARMFUL:
            self.ledger.errors.append(f"{name}, {outcome}: {error}")
        self.ledger.calls.append(Call(name, queue, began, time.monotonic(), outcome))

    def _nacked(
        self, queue: str, began: float, messages: list[Any], error: DMQError | None, delay: float
    ) -> None:
        self._note_call("nack", queue, began, error)
        outcome, ended = "done" if error is None else error.code, time.monotonic()
        for message in messages:
            key = read_body(message.body)[0]
            self.ledger.nacks.append(Nack(key, queue, began, ended, outcome, delay))

    def _receive_failed(self, queue: str, began: float, error: DMQError) -> None:
        self._note_call("receive", queue, began, error)

    # --- the library's own way: trio -----------------------------------------------------------------

    def _both(self, number: int) -> None:
        trio.run(self._trio, number)

    async def _trio(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        async with connect(*self._order(rng), timeout=TIMEOUT) as client, trio.open_nursery() as nursery:
            nursery.start_soon(self._trio_sends, client, rng, f"t{number}")
            nursery.start_soon(self._trio_sends, client, rng, f"u{number}")
            nursery.start_soon(self._trio_receives, client, rng)
            nursery.start_soon(self._trio_receives, client, rng)

    async def _trio_sends(self, client: Any, rng: random.Random, name: str) -> None:
        count = 0
        while self.producing.is_set():
            key, queue, delay, group = self._next(rng, name, count)
            count += 1
            began, ids = time.monotonic(), []
            try:
                body = make_body(key, rng.randrange(2000))
                ids = [await client.send(queue, body, delay=delay or None, group=group or None)]
                outcomes = [STORED]
            except DMQError as error:
                outcomes = self._failed(error, 1)
            self._note(began, [key], queue, outcomes, delay=delay, group=group, ids=ids)
            await trio.sleep(rng.uniform(0, 2 * self._pause))

    async def _trio_receives(self, client: Any, rng: random.Random) -> None:
        while self._running.is_set():
            queue, began = self._queue(rng), time.monotonic()
            try:
                messages = await client.receive(queue, max_messages=TAKEN, wait=0.3, visibility=VISIBILITY)
            except DMQError as error:
                self._receive_failed(queue, began, error)
                await trio.sleep(0.05)
                continue
            if not messages:
                self._note_call("receive", queue, began, None, "empty")
            good, back, _ = self._take(rng, queue, began, messages)
            for pile in [[m] for m in good] if queue == "orders" else [good] if good else []:
                began = time.monotonic()
                why: DMQError | None = None
                try:
                    await client.ack(pile)
                except DMQError as error:
                    why = error
                self._acked(queue, began, pile, why)
            if back:
                began, why = time.monotonic(), None
                try:
                    await client.nack(back)
                except DMQError as error:
                    why = error
                self._nacked(queue, began, back, why, 0.0)


def _failure(call: Callable[[], object]) -> DMQError | None:
    try:
        call()
    except DMQError as error:
        return error
    return None
