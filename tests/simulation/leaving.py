"""What becomes of a delivery as it leaves: whether its node holds the lease then, too (L4, P6), or nobody
had it after all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmqnode.frontend import FIRST_TICKET
from dmqnode.ids import LogId
from dmqnode.messages import Delivered, Nack

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.sent import Sent


def watch_leaving(host: Host, complain: Callable[[str], None]) -> None:
    """Look at what a node hands to its own clients, and to other nodes for theirs."""
    front: Any = host.clustering.front
    answered, answer_peer = front.answered, front.answer_peer

    def look(answer: Any) -> None:
        parts = answer.parts if isinstance(answer, Delivered) else ()
        if parts:
            host.clustering.advance(host.now())
        if not all(host.clustering.cluster.leads(part.partition) for part in parts):
            complain(f"what {host.name} delivers leaves after its lease")

    def own(now: Any, ticket: int, answer: Any, session: int | None = None) -> bool:
        if session is not None and ticket >= FIRST_TICKET:
            look(answer)
        return bool(answered(now, ticket, answer, session))

    def peers(session: int, number: int, answer: Any) -> bool:
        if session in front._peers:
            look(answer)
        return bool(answer_peer(session, number, answer))

    front.answered, front.answer_peer = own, peers


def watch_returning(host: Host, messages: dict[tuple[LogId, int], Sent]) -> None:
    """See what a leader takes back since its client, or that of a front end, went before the answer came."""
    deliveries: Any = host.broker.deliveries
    take_back, settle = deliveries.take_back, deliveries.settle

    def let_go(delivery: int, log: LogId, first: int, count: int) -> None:
        for message in filter(None, (messages.get((log, first + n)) for n in range(count))):
            if message.hold is not None and message.hold.delivery == delivery:
                message.hold = None

    def taken_back(now: Any, delivered: Delivered) -> None:
        for part in delivered.parts:
            let_go(part.delivery, part.log, part.first, part.count)
        take_back(now, delivered)

    def settled(now: Any, session: Any, number: int, request: Any) -> None:
        if isinstance(request, Nack) and request.undelivered:
            for _, *held in request.held:
                let_go(*held)
        settle(now, session, number, request)

    deliveries.take_back, deliveries.settle = taken_back, settled
