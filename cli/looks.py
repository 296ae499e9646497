"""`dmq queue peek` and `dmq queue explain`: looking without touching."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import options
from cli.output import write_lines, write_text
from cli.queues import Name, readable
from cli.render import fields, json_line, note, rows
from dmqnode.durations import format_duration
from dmqnode.errors import UsageError

STATES = ("ready", "delayed", "in-flight")
SHOWN = 60
"""Characters of a body that are shown in a table."""


def peek(
    ctx: typer.Context,
    name: Name,
    number: Annotated[
        str | None, typer.Option("-n", "--number", metavar="N", help="Look at up to N messages (10).")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="ready|delayed|in-flight",
            help="Which messages to look at (ready).",
            autocompletion=lambda incomplete: [s for s in STATES if s.startswith(incomplete)],
        ),
    ] = None,
) -> None:
    """Look at messages without taking them.

    \b
      dmq queue peek orders -n 3 --state in-flight
    """
    shared = options.shared(ctx)
    if state is not None and state not in STATES:
        raise UsageError(f"--state: {state!r} is not known; it is one of {', '.join(STATES)}")
    limit = options.number("-n", number) if number is not None else 10
    with shared.client(name) as client:
        messages = client.browse(name, state or "ready", limit)
    from cli.envelopes import envelope, timestamp

    if shared.json:
        write_lines(map(envelope, messages))
        return
    found = [
        {
            "id": m.id,
            "sent_at": timestamp(m.sent_at),
            "attempt": m.attempt,
            "size": len(m.body),
            "body": _one_line(m.body),
        }
        for m in messages
    ]
    if not found:
        note(shared, f'queue "{name}" has no message that is {state or "ready"}')
        return
    rows(
        shared,
        found,
        [(key.upper().replace("_", "-"), lambda row, key=key: row[key]) for key in found[0]],  # type: ignore[misc]
    )


def _one_line(body: bytes) -> str:
    text = body[: 4 * SHOWN].decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else "·" for c in text)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def explain(ctx: typer.Context, name: Name) -> None:
    """Say why nothing comes out of a queue: counts, who holds what, what is paused or blocked.

    \b
      dmq queue explain orders
    """
    shared = options.shared(ctx)
    with shared.client(name) as client:
        report = client.explain(name)
    if shared.json:
        write_text(json_line(report))
        return
    write_lines(f"{name}: {reason}" for reason in report["reasons"])
    shown = ("ready", "delayed", "in_flight", "bytes", "oldest_seconds", "waiting_receivers")
    write_text("")
    fields(shared, report, [(key.replace("_", "-"), readable(key, report.get(key))) for key in shown])
    if report["holders"]:
        write_text("")
        rows(shared, report["holders"], _HOLDERS)
    if report["partitions"]:
        write_text("")
        rows(shared, report["partitions"], _PARTITIONS)
        write_text("")
        rows(shared, _each(report["partitions"], "copies"), _COPIES)
        missing = _each(report["partitions"], "missing")
        if missing:
            write_text("")
            rows(shared, missing, _MISSING)


def _each(partitions: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return what partitions have of something, each with the index of its partition."""
    return [{**one, "index": partition["index"]} for partition in partitions for one in partition[name]]


def _until(holder: dict[str, Any]) -> str:
    return format_duration(holder["until_seconds"])


_HOLDERS = (
    ("HOLDER", lambda h: h["holder"]),
    ("MESSAGES", lambda h: h["count"]),
    ("ATTEMPT", lambda h: h["attempt"]),
    ("HIDDEN-FOR", _until),
    ("FIRST-ID", lambda h: h["first_id"]),
)
_PARTITIONS = (
    ("PARTITION", lambda p: p["index"]),
    ("LEADER", lambda p: p["leader"]),
    ("HOMES", lambda p: ",".join(p["homes"])),
    ("LEASE", lambda p: p["lease"]),
    ("LEASE-LEFT", lambda p: None if p["lease_seconds"] is None else format_duration(p["lease_seconds"])),
    ("READY", lambda p: p["ready"]),
    ("DELAYED", lambda p: p["delayed"]),
    ("IN-FLIGHT", lambda p: p["in_flight"]),
    ("HINTS", lambda p: p["hints"]),
    ("MISSING", lambda p: sum(m["count"] for m in p["missing"])),
)
_MISSING = (
    ("PARTITION", lambda m: m["index"]),
    ("NO-HOME-HAS", lambda m: m["first"]),
    ("AND-FOLLOWING", lambda m: m["count"] - 1),
)
_COPIES = (
    ("PARTITION", lambda c: c["index"]),
    ("COPY-AT", lambda c: c["home"]),
    ("STATE", lambda c: c["state"]),
    ("LACKING", lambda c: c["lacking"]),
)
