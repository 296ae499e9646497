"""`dmq node start`, `dmq node status` and `dmq node leave`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options
from cli.cluster import member_status
from cli.configuration import path_of, read_section, xdg
from cli.failures import UNREACHABLE
from cli.queues import readable
from cli.render import fields, note, several
from dmqnode.config import NodeConfig
from dmqnode.errors import NotAuthorized, Refused, Unavailable, UsageError

SHORTEST = 2.0
"""Seconds that a node has for its answer with --wait, however short that is."""
LEAVE_TELL = 2.0
"""Seconds between two lines about how far it is."""
LEAVE_POLL = 0.5
"""Seconds between two looks at a node that is about to leave."""
POLL = 0.1
"""Seconds between two looks at a node that is not there yet."""


def start(
    ctx: typer.Context,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DIR", help="Where it keeps everything ($XDG_STATE_HOME/dmq)."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where it serves (127.0.0.1:7367).")
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option("--advertise", metavar="HOST:PORT", help="Where other nodes reach it (--listen)."),
    ] = None,
    join: Annotated[
        list[str] | None, typer.Option("--join", metavar="HOST:PORT", help="A node to join; repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name (the host's).")] = None,
    zone: Annotated[
        str | None,
        typer.Option("--zone", metavar="ZONE", help="Where it stands; copies are spread over zones."),
    ] = None,
    weight: Annotated[
        str | None, typer.Option("--weight", metavar="W", help="Its share, relative to others (1).")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="NAME", help="The cluster's name (dmq).")
    ] = None,
    replicas: Annotated[
        str | None, typer.Option("--replicas", metavar="N", help="Copies of each message (3).")
    ] = None,
    write_quorum: Annotated[
        str | None, typer.Option("--write-quorum", metavar="N", help="Copies on disk before an answer (2).")
    ] = None,
    dead_after: Annotated[
        str | None, typer.Option("--dead-after", metavar="DUR", help="When an absent node is replaced (10m).")
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option("--memory-limit", metavar="SIZE", help="Refuse sends above this (512MiB).")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Configuration, instead of ./dmq.toml.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="text|json", help="How it logs on stderr (text).")
    ] = None,
) -> int:
    """Run a node in the foreground, until SIGTERM or SIGINT.

    When it serves it prints one line: ready NAME HOST:PORT

    \b
      dmq node start
      dmq node start --data /var/lib/dmq --listen 10.0.0.1:7367 --join 10.0.0.2:7367
    """
    if ctx.meta.get("nodes"):
        raise UsageError("--node names a node to ask; the node that is started listens on --listen")
    given: dict[str, Any] = {
        "data": data,
        "listen": listen,
        "advertise": advertise,
        "join": join or None,
        "name": name,
        "zone": zone,
        "weight": weight,
        "cluster": cluster,
        "replicas": replicas,
        "write_quorum": write_quorum,
        "dead_after": dead_after,
        "memory_limit": memory_limit,
        "log_format": log_format,
    }
    file = path_of("--config", config) if config is not None else None
    made = node_config({key: value for key, value in given.items() if value is not None}, file)
    from dmqnode.process import serve

    return serve(made)


def node_config(given: dict[str, Any], file: Path | None) -> NodeConfig:
    """Return a node's settings: what was given, else configured, else the default.

    Arguments:
        given: texts, by the names of NodeConfig.
        file: configuration to read instead of the usual places.

    Errors: UsageError, naming the setting.
    """
    settings = {**read_section("node", file), **given}
    values = {key: _value(key, value, given) for key, value in settings.items()}
    if "data" not in values:
        values["data"] = xdg("XDG_STATE_HOME", ".local/state") / "dmq"
    return NodeConfig(**values)


_READ: dict[str, Callable[[str, str], Any]] = {
    "weight": options.real,
    "replicas": options.number,
    "write_quorum": options.number,
    "max_connections": options.number,
    "dead_after": options.duration,
    "keepalive": options.duration,
    "memory_limit": options.size,
    "disk_reserve": options.size,
    "max_frame": options.size,
    "credit": options.size,
    "data": path_of,
    "tokens": path_of,
}


def _value(key: str, value: Any, given: dict[str, Any]) -> Any:
    if key == "join":
        return tuple([value] if isinstance(value, str) else value)
    flag = f"--{key.replace('_', '-')}" if key in given else key
    read = _READ.get(key)
    return read(flag, str(value)) if read is not None else str(value)


def status(
    ctx: typer.Context,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="DUR", help="Wait up to this long until it serves (0s).")
    ] = None,
) -> int:
    """Say whether a node serves: exit code 0 if it does, 6 if not.

    \b
      dmq node status --wait 10s --quiet && dmq send orders hello
    """
    shared = options.shared(ctx)
    until = time.monotonic() + (options.duration("--wait", wait) if wait is not None else 0.0)
    timeout = shared.timeout
    found: dict[str, Any] = {}
    while True:
        left = until - time.monotonic()
        last = left <= 0
        shared.timeout = min(timeout, max(left, SHORTEST))
        try:
            with shared.client() as client:
                found = client.status()
        except NotAuthorized:
            raise
        except (Unavailable, Refused):
            if last:
                raise
        else:
            if found["serving"] or last:
                break
        time.sleep(POLL)
    found.pop("overview", None)
    if not shared.quiet or shared.json:
        shown = [(key.replace("_", "-"), _shown(key, value)) for key, value in found.items()]
        fields(shared, found, shown)
    return 0 if found["serving"] else UNREACHABLE


def _shown(key: str, value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, list) else readable(key, value)


def leaving(name: str, status: dict[str, Any]) -> str:
    """Return a line about how far a node is that is about to leave."""
    moves = [m for m in status["overview"]["moves"] if name in m["from"] and m["of"] is not None]
    done, of = sum(m["done"] for m in moves), sum(m["of"] for m in moves)
    if not status["homes"]:
        return f"{name} still keeps {several(status['hints'], 'send')} for others"
    copied = f"; of what moves now {done:,} of {of:,} messages are copied" if of else ""
    return f"{name} still has {several(status['homes'], 'partition')}{copied}"


def leave(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The node; or the one of --node.")
    ] = None,
) -> None:
    """Move the copies of a node away, then let it leave the cluster for good, and stop.

    \b
      dmq node leave n3
      dmq node leave --node 10.0.0.3:7367
    """
    shared = options.shared(ctx)
    if name is None and len(shared.nodes) > 1:
        raise UsageError("several nodes may be asked; say which one is to leave: dmq node leave NAME")
    if name is not None:
        shared.nodes = (_address(shared, name),)
    with shared.client() as client:
        status = member_status(client)
        if name not in (None, status["name"]):
            raise UsageError(f'"{status["name"]}" serves at the address of "{name}"; see dmq cluster members')
        id_ = status["node_id"]
        members = client.members()["members"]
        me = next((m for m in members if m["node_id"] == id_), None)
        if me is None:
            raise UsageError(f"{status['name']} is no member of its cluster any more")
        if not any(m["weight"] > 0 for m in members if m["node_id"] != id_):
            raise UsageError(f"{status['name']} is the last member of its cluster; stop it instead")
        client.retire(me)
        told, at = "", 0.0
        while (now := member_status(client))["node_id"] == id_ and (now["homes"] or now["hints"]):
            line = leaving(me["name"], now)
            if line != told and time.monotonic() >= at:
                note(shared, line)
                told, at = line, time.monotonic() + LEAVE_TELL
            time.sleep(LEAVE_POLL)
        if now["node_id"] != id_:
            raise UsageError(f"{me['name']} has begun anew meanwhile, with another id; let it leave again")
        client.change_members("leave", bytes.fromhex(id_))
    note(shared, f"{me['name']} has left the cluster")


def _address(shared: options.Shared, name: str) -> str:
    """Return where a member is.  Errors: UsageError."""
    with shared.client() as client:
        members = client.members()["members"]
    named = [m for m in members if m["name"] == name]
    alive = [m for m in named if m["state"] == "alive"]
    if not named:
        there = ", ".join(sorted(str(m["name"]) for m in members))
        raise UsageError(f'no member is called "{name}"; there are {there}')
    if not alive:
        raise UsageError(
            f'"{name}" does not answer; if it will not come back, strike it off: dmq cluster forget {name}'
        )
    if len(alive) > 1:
        raise UsageError(f'several members are called "{name}"; say which: dmq node leave --node HOST:PORT')
    return str(alive[0]["address"])
