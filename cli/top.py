"""`dmq top`: nodes and queues, live."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cli import options
from cli.cluster import member_status
from cli.output import STDOUT, write_lines, write_text
from cli.queues import counted
from cli.render import Columns, is_terminal, json_line, plain_table, several
from dmqnode.durations import format_duration, format_size
from dmqnode.errors import DMQError, Unavailable

EVERY = 1.0
SHOWN = 40
"""Queues, those with the most messages first."""
_RATES = ("sent", "delivered", "acked", "requests", "synced_writes")


def top(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end; always so in a pipe.")] = False,
    interval: Annotated[
        str | None, typer.Option("--interval", metavar="DUR", help="How often to look (1s).")
    ] = None,
) -> None:
    """Watch nodes and queues; Ctrl-C ends it.

    \b
      dmq top
      dmq top --once --json
    """
    shared = options.shared(ctx)
    every = options.duration("--interval", interval) if interval is not None else EVERY
    with shared.client() as client:
        first = Look(client, None)
        if shared.json:
            write_text(json_line(first.report()))
        elif once or not is_terminal(STDOUT):
            tables = (plain_table(*first.nodes()), plain_table(*first.table()))
            write_lines([*first.heading(), "", *tables[0], "", *tables[1]])
        else:
            _live(client, first, max(every, 0.1))


def _live(client: Any, look: Look, every: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from cli.colour import make_table

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            heading = Text("\n".join(look.heading()))
            tables = (make_table(*look.nodes()), "", make_table(*look.table()))
            live.update(Group(heading, "", *tables), refresh=True)
            time.sleep(every)
            try:
                look = Look(client, look)
            except Unavailable as error:
                look.trouble = str(error)


class Look:
    """One look at a node and its queues.

    Arguments:
        client: asked.
        before: the look before this one, to tell rates; None for the first.

    Errors: those of the client.
    """

    def __init__(self, client: Any, before: Look | None) -> None:
        self.at = time.monotonic()
        self.node = member_status(client)
        self.members: list[dict[str, Any]] = client.members()["members"]
        try:
            found = client.queues(counts=True)
        except DMQError:
            found = []
        self.queues = sorted(counted(found), key=lambda q: (-_waiting(q), q["name"]))[:SHOWN]
        self.more = len(found) - len(self.queues)
        self.trouble = ""
        self.rates = {name: self._rate(before, name) for name in _RATES}
        self.figures: dict[str, dict[str, Any]] = {n["name"]: n for n in self.node["overview"]["nodes"]}
        self._earlier = (before.at, before.figures) if before is not None else (0.0, {})

    def _rate(self, before: Look | None, name: str) -> float:
        if before is None:
            return float(self.node[name]) / max(1e-9, float(self.node["uptime_seconds"]))
        return max(0.0, float(self.node[name] - before.node[name]) / max(1e-9, self.at - before.at))

    def _rate_of(self, node: str, name: str) -> str:
        """Return how much a node does of something each second, once it was looked at twice."""
        at, before = self._earlier
        if node not in before or node not in self.figures:
            return "-"
        more = self.figures[node].get(name, 0) - before[node].get(name, 0)
        return f"{max(0.0, more / max(1e-9, self.at - at)):,.0f}"

    def report(self) -> dict[str, Any]:
        """Return everything that was seen, for --json."""
        rates = {name: round(rate, 1) for name, rate in self.rates.items()}
        return {"node": self.node, "rates": rates, "members": self.members, "queues": self.queues}

    def heading(self) -> list[str]:
        """Return the lines about the cluster and the node that is asked."""
        node, rates, whole = self.node, self.rates, self.node["overview"]
        states = [m["state"] for m in self.members]
        well = node["healthy"] and whole["healthy"] and states.count("alive") == len(states)
        return [
            f"cluster {node['cluster']}: {states.count('alive')} of {len(states)} alive, "
            f"{'healthy' if well else 'NOT healthy'}; {several(whole['partitions'], 'partition')}: "
            f"{whole['leaderless']} leaderless, {whole['under_replicated']} under-replicated, "
            f"{whole['moving']} moving; {several(whole['hints'], 'hint')}",
            f"node {node['name']} {node['address']}, up {format_duration(node['uptime_seconds'])}: "
            f"memory {format_size(node['memory_bytes'])} of {format_size(node['memory_limit'])}, "
            f"store {format_size(node['store_bytes'])}, free {format_size(node['free_bytes'])}, "
            f"{node['connections']} connection{'s' if node['connections'] != 1 else ''}",
            f"each second: {rates['sent']:,.0f} sent, {rates['delivered']:,.0f} delivered, "
            f"{rates['acked']:,.0f} acked, {rates['synced_writes']:,.0f} synced writes",
            *([f"the {SHOWN} queues with the most messages, of {SHOWN + self.more:,}"] if self.more else []),
            *([self.trouble] if self.trouble else []),
        ]

    def nodes(self) -> tuple[list[str], list[list[str]]]:
        """Return the headings and cells of the table of nodes."""
        rows = []
        for member in self.members:
            name = member["name"]
            node = self.figures.get(name, {})
            sizes = [format_size(node[key]) if key in node else "-" for key in _SIZES]
            leads = str(node.get("leads", "-"))
            rates = [self._rate_of(name, rate) for rate in ("sent", "delivered", "acked")]
            rows.append([name, member["state"], leads, *rates, *sizes, str(node.get("connections", "-"))])
        return list(_NODES), rows

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the headings and cells of the table of queues."""
        return [name for name, _ in _COLUMNS], [[str(value(q)) for _, value in _COLUMNS] for q in self.queues]


def _waiting(queue: dict[str, Any]) -> int:
    return sum(queue[count] or 0 for count in ("ready", "delayed", "in_flight"))


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


_SIZES = ("memory_bytes", "store_bytes", "free_bytes")
_NODES = (
    *("NODE", "STATE", "LEADS", "SENT/S", "DELIVERED/S", "ACKED/S"),
    *("MEMORY", "STORE", "FREE", "CONNECTIONS"),
)
_COLUMNS: Columns = (
    ("QUEUE", lambda q: q["name"]),
    ("READY", lambda q: _count(q["ready"])),
    ("DELAYED", lambda q: _count(q["delayed"])),
    ("IN-FLIGHT", lambda q: _count(q["in_flight"])),
    ("BYTES", lambda q: "-" if q["bytes"] is None else format_size(q["bytes"])),
    ("PAUSED", lambda q: "yes" if q["paused"] else "-"),
)
