"""`dmq cluster members` and `dmq cluster status`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli import options
from cli.output import STDOUT, write_text
from cli.queues import readable
from cli.render import fields, is_terminal, rows
from dmqnode.errors import Unavailable

EVERY = 2.0
"""Seconds between two looks with --watch."""
Watch = Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")]
_COUNTED = ("partitions", "leaderless", "under_replicated", "hints", "set_aside")
_COLUMNS = (
    ("NAME", lambda m: m["name"]),
    ("ADDRESS", lambda m: m["address"]),
    ("STATE", lambda m: m["state"]),
    ("ZONE", lambda m: m["zone"]),
    ("VERSION", lambda m: m["version"]),
    ("ID", lambda m: m["node_id"]),
)


def members(ctx: typer.Context, watch: Watch = False) -> None:
    """List the members of the cluster, as the node that is asked sees them.

    \b
      dmq cluster members
      dmq cluster members --watch
    """
    shared = options.shared(ctx)
    with shared.client() as client:
        _look(watch, lambda: rows(shared, client.members()["members"], _COLUMNS))


def status(ctx: typer.Context, watch: Watch = False) -> None:
    """Show how the cluster is.

    \b
      dmq cluster status
      dmq cluster status --json | jq .healthy
    """
    shared = options.shared(ctx)

    def look() -> None:
        found = cluster_status(client.status(), client.members())
        fields(shared, found, [(key.replace("_", "-"), readable(key, value)) for key, value in found.items()])

    with shared.client() as client:
        _look(watch, look)


def cluster_status(node: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `dmq cluster status --json`.

    Arguments:
        node: as from `SyncClient.status`.
        seen: as from `SyncClient.members`.
    """
    states = [member["state"] for member in seen["members"]]
    return {
        "cluster": seen["cluster"],
        "members": len(states),
        "alive": states.count("alive"),
        **{name: node[name] for name in _COUNTED},
        "healthy": bool(node["healthy"]) and states.count("alive") == len(states),
    }


def _look(watch: bool, look: Callable[[], None]) -> None:
    """Look once, or again and again; a node that is away for a moment is waited for."""
    look()
    while watch:
        time.sleep(EVERY)
        if is_terminal(STDOUT):
            write_text("\x1b[H\x1b[2J\x1b[3J")
        try:
            look()
        except Unavailable as error:
            from cli.render import warn

            warn(str(error))
