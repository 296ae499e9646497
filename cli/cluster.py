"""`dmq cluster members`, `dmq cluster status` and `dmq cluster forget`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cli import options
from cli.output import STDOUT, write_text
from cli.queues import readable
from cli.render import fields, is_terminal, note, rows
from dmqnode.errors import Unavailable, UsageError

EVERY = 2.0
"""Seconds between two looks with --watch."""
Watch = Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")]
_COUNTED = ("partitions", "leaderless", "under_replicated", "hints", "set_aside")
_COLUMNS = (
    ("NAME", lambda m: m["name"]),
    ("ADDRESS", lambda m: m["address"]),
    ("STATE", lambda m: m["state"]),
    ("ZONE", lambda m: m["zone"]),
    ("WEIGHT", lambda m: f"{m['weight']:g}"),
    ("VERSION", lambda m: m["version"]),
    ("ID", lambda m: m["node_id"]),
)
_MOVES = (
    ("MOVING", lambda m: _place(m)),
    ("FROM", lambda m: ",".join(m["from"])),
    ("TO", lambda m: ",".join(m["to"])),
    ("MESSAGES", lambda m: progress(m)),
)
_HAND_OFF = (("TO-HAND-OVER", lambda h: _place(h)), ("HINTS", lambda h: h["hints"]))


def _place(found: dict[str, Any]) -> str:
    return "the list of members" if found["queue"] is None else f"{found['queue']} {found['partition']}"


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
        found = cluster_status(member_status(client), client.members())
        shown = [(key, value) for key, value in found.items() if not isinstance(value, list)]
        fields(shared, found, [(key.replace("_", "-"), readable(key, value)) for key, value in shown])
        for name, columns in (("moves", _MOVES), ("hand_off", _HAND_OFF)):
            if found[name] and not shared.json:
                write_text("")
                rows(shared, found[name], columns)

    with shared.client() as client:
        _look(watch, look)


def member_status(client: Any) -> dict[str, Any]:
    """Return what a node that belongs to a cluster says of itself and of it.

    Arguments:
        client: as from `Shared.client`.

    Errors: Unavailable if the node still waits for a cluster; those of the client.
    """
    status: dict[str, Any] = client.status()
    if "overview" not in status:
        raise Unavailable(
            f"{status['name']} has no cluster yet: it waits for its seeds; see its log", code="no-cluster"
        )
    return status


def cluster_status(node: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `dmq cluster status --json`.

    Arguments:
        node: as from `SyncClient.status`.
        seen: as from `SyncClient.members`.
    """
    states = [member["state"] for member in seen["members"]]
    overview = node["overview"]
    return {
        "cluster": seen["cluster"],
        "members": len(states),
        "alive": states.count("alive"),
        **{name: overview[name] for name in _COUNTED},
        "moving": overview["moving"],
        "healthy": bool(overview["healthy"]) and states.count("alive") == len(states),
        "handed_over": overview["handed_over"],
        "moves": overview["moves"],
        "hand_off": overview["hand_off"],
    }


def progress(move: dict[str, Any]) -> str:
    """Return how far a partition is on its way to other homes."""
    if move["of"] is None:
        return "waits"
    return f"{move['done']:,} of {move['of']:,}"


def forget(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The member's name or id.")],
    destroyed: Annotated[
        bool, typer.Option("--destroyed", help="Its disk is lost: what only it had will not come back.")
    ] = False,
) -> None:
    """Strike a dead member off the list, so that its copies are made anew elsewhere.

    \b
      dmq cluster forget node-3 --destroyed
    """
    shared = options.shared(ctx)
    with shared.client() as client:
        member = find_member(client.members(), name)
        if member["state"] == "alive":
            raise UsageError(f"{member['name']} is alive; let it leave with: dmq node leave {member['name']}")
        client.change_members("forget", bytes.fromhex(member["node_id"]), destroyed=destroyed)
    note(shared, f"{member['name']} ({member['node_id']}) is no member any more")


def find_member(seen: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the member of this name or id.  Errors: UsageError."""
    found = [m for m in seen["members"] if name in (m["name"], m["node_id"])]
    if len(found) > 1:
        ids = ", ".join(m["node_id"] for m in found)
        raise UsageError(f"{len(found)} members are called {name}; give the id of one: {ids}")
    if not found:
        names = ", ".join(sorted(m["name"] for m in seen["members"]))
        raise UsageError(f"no member is called {name}; there are: {names}")
    return dict(found[0])


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
