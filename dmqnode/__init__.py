"""dmq, a distributed message queue: the client.

    async with dmqnode.connect("127.0.0.1:7367") as client:
        await client.send("orders", b"body")

What is here is loaded when it is first used: a program that takes `connect_sync` does not import trio,
and none that takes the client imports the node.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dmqnode.version import VERSION

if TYPE_CHECKING:
    from dmqnode.blocking import SyncClient, SyncMessage, connect_sync
    from dmqnode.client import Client, Message, connect
    from dmqnode.consuming import Consumer
    from dmqnode.errors import (
        DMQError,
        InvalidRequest,
        LimitExceeded,
        MessageNotFound,
        NotAuthorized,
        PartlyFailed,
        ProtocolError,
        QueueExists,
        QueueNotFound,
        Refused,
        StaleReceipt,
        Unavailable,
        Unknown,
        UsageError,
    )
    from dmqnode.outgoing import Outgoing

__version__ = VERSION

_ERRORS = (
    "DMQError",
    "InvalidRequest",
    "LimitExceeded",
    "MessageNotFound",
    "NotAuthorized",
    "PartlyFailed",
    "ProtocolError",
    "QueueExists",
    "QueueNotFound",
    "Refused",
    "StaleReceipt",
    "Unavailable",
    "Unknown",
    "UsageError",
)
_HOMES = {
    "SyncClient": "blocking",
    "SyncMessage": "blocking",
    "connect_sync": "blocking",
    "Client": "client",
    "Message": "client",
    "connect": "client",
    "Consumer": "consuming",
    "Outgoing": "outgoing",
    **dict.fromkeys(_ERRORS, "errors"),
}
"""The module of each name."""

__all__ = [
    "Client",
    "Consumer",
    "DMQError",
    "InvalidRequest",
    "LimitExceeded",
    "Message",
    "MessageNotFound",
    "NotAuthorized",
    "Outgoing",
    "PartlyFailed",
    "ProtocolError",
    "QueueExists",
    "QueueNotFound",
    "Refused",
    "StaleReceipt",
    "SyncClient",
    "SyncMessage",
    "Unavailable",
    "Unknown",
    "UsageError",
    "__version__",
    "connect",
    "connect_sync",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
