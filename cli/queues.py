"""`dmq queue create | list | show | set | delete | purge | pause | resume`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import options
from cli.failures import FAILED
from cli.render import confirmed, fields, note, rows, several
from dmqnode.durations import format_duration, format_size
from dmqnode.errors import UsageError

COUNTS = ("ready", "delayed", "in_flight", "bytes", "oldest_seconds", "waiting_receivers")
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=options.queue_names)]
Visibility = Annotated[
    str | None, typer.Option("--visibility", metavar="DUR", help="How long a delivery stays hidden (30s).")
]
Delay = Annotated[
    str | None, typer.Option("--delay", metavar="DUR", help="How long a message waits before it comes (0s).")
]
Retention = Annotated[
    str | None, typer.Option("--retention", metavar="DUR", help="When a message nobody took is dropped (4d).")
]
MaxAttempts = Annotated[
    str | None,
    typer.Option("--max-attempts", metavar="N", help="Deliveries before it goes to --dead-letter."),
]
DeadLetter = Annotated[
    str | None, typer.Option("--dead-letter", metavar="QUEUE", help="Where messages go that fail too often.")
]
MaxSize = Annotated[
    str | None, typer.Option("--max-message-size", metavar="SIZE", help="The longest body it takes (1MiB).")
]
Force = Annotated[bool, typer.Option("--force", help="Do not ask on a terminal.")]


def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    visibility: Visibility = None,
    delay: Delay = None,
    retention: Retention = None,
    max_attempts: MaxAttempts = None,
    dead_letter: DeadLetter = None,
    ordering: Annotated[
        str | None, typer.Option("--ordering", metavar="standard|fifo", help="fifo keeps groups in order.")
    ] = None,
    partitions: Annotated[
        str | None,
        typer.Option("--partitions", metavar="N", help="Pieces that may be on different nodes (1)."),
    ] = None,
    max_message_size: MaxSize = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Be content if it is there.")
    ] = False,
) -> None:
    """Create a queue.

    \b
      dmq queue create orders --max-attempts 5 --dead-letter orders-dead
    """
    shared = options.shared(ctx)
    settings = _settings(visibility, delay, retention, max_attempts, dead_letter, max_message_size)
    if ordering is not None:
        settings["ordering"] = ordering
    if partitions is not None:
        settings["partitions"] = options.number("--partitions", partitions)
    with shared.client() as client:
        info = client.create_queue(name, if_not_exists=if_not_exists, **settings)
    if shared.json:
        fields(shared, info, ())
    note(shared, f'queue "{name}" is there')


def set_(
    ctx: typer.Context,
    name: Name,
    visibility: Visibility = None,
    delay: Delay = None,
    retention: Retention = None,
    max_attempts: MaxAttempts = None,
    dead_letter: DeadLetter = None,
    no_dead_letter: Annotated[
        bool, typer.Option("--no-dead-letter", help="Deliver for ever; no dead-letter queue any more.")
    ] = False,
    partitions: Annotated[
        str | None,
        typer.Option("--partitions", metavar="N", help="More pieces than it has; not for fifo queues."),
    ] = None,
    max_message_size: MaxSize = None,
) -> None:
    """Change settings of a queue; what is not given stays.

    \b
      dmq queue set orders --visibility 2m
      dmq queue set orders --partitions 8
    """
    shared = options.shared(ctx)
    settings = _settings(visibility, delay, retention, max_attempts, dead_letter, max_message_size)
    if no_dead_letter:
        if "dead_letter" in settings or "max_attempts" in settings:
            raise UsageError("--no-dead-letter does not go with --dead-letter or --max-attempts")
        settings |= {"dead_letter": None, "max_attempts": None}
    if partitions is not None:
        settings["partitions"] = options.number("--partitions", partitions)
    if not settings:
        raise UsageError("nothing to set was given; settings are shown by: dmq queue set --help")
    with shared.client(name) as client:
        info = client.set_queue(name, **settings)
    if shared.json:
        fields(shared, info, ())
    note(shared, f'queue "{name}" is changed')


def _settings(
    visibility: str | None,
    delay: str | None,
    retention: str | None,
    max_attempts: str | None,
    dead_letter: str | None,
    max_message_size: str | None,
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, text in (("visibility", visibility), ("delay", delay), ("retention", retention)):
        if text is not None:
            settings[name] = options.duration(f"--{name}", text)
    if max_attempts is not None:
        settings["max_attempts"] = options.number("--max-attempts", max_attempts)
    if dead_letter is not None:
        settings["dead_letter"] = dead_letter
    if max_message_size is not None:
        settings["max_message_size"] = options.size("--max-message-size", max_message_size)
    return settings


def list_(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only queues whose names begin so.")] = "",
) -> None:
    """List queues and how many messages they have.

    \b
      dmq queue list
      dmq queue list --json | jq -r 'select(.ready > 0).name'
    """
    shared = options.shared(ctx)
    with shared.client() as client:
        found = counted(client.queues(prefix, counts=True))
    columns = (
        ("NAME", lambda q: q["name"]),
        ("READY", lambda q: q["ready"]),
        ("DELAYED", lambda q: q["delayed"]),
        ("IN-FLIGHT", lambda q: q["in_flight"]),
        ("BYTES", lambda q: q["bytes"]),
        ("ORDERING", lambda q: q["ordering"]),
        ("DEAD-LETTER", lambda q: q["dead_letter"]),
        ("PAUSED", lambda q: "yes" if q["paused"] else ""),
    )
    rows(shared, found, columns)
    if silent := sum(queue["ready"] is None for queue in found):
        note(
            shared,
            f"{several(silent, 'queue')} without counts: nobody leads some partition; see dmq cluster status",
        )


def counted(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return queues with null for counts that nobody could tell: no node leads some partition."""
    return [{**dict.fromkeys(COUNTS), **queue} for queue in found]


def show(ctx: typer.Context, name: Name) -> None:
    """Show a queue's settings and counts.

    \b
      dmq queue show orders
      dmq queue show orders --json | jq .ready
    """
    shared = options.shared(ctx)
    with shared.client(name) as client:
        info = client.queue(name)
    fields(shared, info, [(key.replace("_", "-"), readable(key, value)) for key, value in info.items()])


def readable(key: str, value: Any) -> Any:
    """Return a field of a queue or node as people read it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key in ("visibility", "delay", "retention") or key.endswith("_seconds"):
        return format_duration(value)
    if key in ("bytes", "max_message_size", "memory_limit") or key.endswith("_bytes"):
        return format_size(value)
    return value


def delete(ctx: typer.Context, name: Name, force: Force = False) -> int:
    """Delete a queue with all its messages.

    \b
      dmq queue delete orders --force
    """
    shared = options.shared(ctx)
    with shared.client(name) as client:
        if not force and not confirmed(f'Delete queue "{name}" and all its messages?'):
            return FAILED
        client.delete_queue(name)
    note(shared, f'queue "{name}" is deleted')
    return 0


def purge(ctx: typer.Context, name: Name, force: Force = False) -> int:
    """Drop all messages of a queue; those that are with consumers too.

    \b
      dmq queue purge orders
    """
    shared = options.shared(ctx)
    with shared.client(name) as client:
        if not force and not confirmed(f'Drop all messages of queue "{name}"?'):
            return FAILED
        count = client.purge_queue(name)
    if shared.json:
        fields(shared, {"name": name, "purged": count}, ())
    note(shared, f"{several(count)} dropped")
    return 0


def pause(ctx: typer.Context, name: Name) -> None:
    """Pause a queue: it takes messages and hands none out.

    \b
      dmq queue pause orders
    """
    shared = options.shared(ctx)
    with shared.client(name) as client:
        client.pause_queue(name)
    note(shared, f'queue "{name}" is paused; let it go on with: dmq queue resume {name}')


def resume(ctx: typer.Context, name: Name) -> None:
    """Let a paused queue go on.

    \b
      dmq queue resume orders
    """
    shared = options.shared(ctx)
    with shared.client(name) as client:
        client.resume_queue(name)
    note(shared, f'queue "{name}" goes on')
