"""Whether a node still holds the lease as a delivery leaves it, not only as it is decided (L4, P6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmqnode.frontend import FIRST_TICKET
from dmqnode.messages import Delivered

if TYPE_CHECKING:
    from tests.simulation.host import Host


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
