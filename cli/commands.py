"""The tree of commands, as typer applications whose commands are loaded when they are called."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, ClassVar

import typer

from cli.lean import LeanGroup


class DmqCommands(LeanGroup):
    """`dmq …`"""

    table: ClassVar[dict[str, str]] = {
        "send": "cli.send:send",
        "receive": "cli.receive:receive",
        "ack": "cli.settle:ack",
        "nack": "cli.settle:nack",
        "extend": "cli.settle:extend",
        "queue": "cli.commands:queue",
        "node": "cli.commands:node",
        "cluster": "cli.commands:cluster",
        "top": "cli.top:top",
        "bench": "cli.bench:bench",
        "completion": "cli.completion:completion",
    }


class QueueCommands(LeanGroup):
    """`dmq queue …`"""

    table: ClassVar[dict[str, str]] = {
        "create": "cli.queues:create",
        "list": "cli.queues:list_",
        "show": "cli.queues:show",
        "set": "cli.queues:set_",
        "delete": "cli.queues:delete",
        "purge": "cli.queues:purge",
        "pause": "cli.queues:pause",
        "resume": "cli.queues:resume",
        "peek": "cli.looks:peek",
        "explain": "cli.looks:explain",
        "redrive": "cli.transfer:redrive",
        "export": "cli.transfer:export",
        "import": "cli.transfer:import_",
    }


class NodeCommands(LeanGroup):
    """`dmq node …`"""

    table: ClassVar[dict[str, str]] = {
        "start": "cli.node:start",
        "status": "cli.node:status",
        "leave": "cli.node:leave",
    }


class ClusterCommands(LeanGroup):
    """`dmq cluster …`"""

    table: ClassVar[dict[str, str]] = {
        "members": "cli.cluster:members",
        "status": "cli.cluster:status",
        "forget": "cli.cluster:forget",
    }


def _application(cls: type[LeanGroup]) -> typer.Typer:
    return typer.Typer(
        cls=cls,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )


if find_spec("cli.bench") is None:
    del DmqCommands.table["bench"]
app = _application(DmqCommands)
queue = _application(QueueCommands)
node = _application(NodeCommands)
cluster = _application(ClusterCommands)


def _print_version(value: bool) -> None:
    if value:
        from cli.output import write_text
        from dmqnode.version import VERSION

        write_text(f"dmq {VERSION}")
        raise typer.Exit


@app.callback()
def _dmq(
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="HOST:PORT",
            envvar="DMQ_NODES",
            show_envvar=False,
            help="A node to ask; give several to try in turn.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DUR", help="Give up after this long (30s).")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but what was asked for.")
    ] = False,
    token_file: Annotated[
        str | None,
        typer.Option("--token-file", metavar="FILE", help="File that holds the token; or set DMQ_TOKEN."),
    ] = None,
    no_direct: Annotated[
        bool, typer.Option("--no-direct", help="Ask only the nodes given, not the leaders of queues.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """A distributed message queue, run by one command.

    \b
      dmq node start                     run a node
      dmq send --create orders hello     send a message, making the queue
      dmq receive orders                 receive it

    Global options stand before or after the command. Every option can be given in the environment too:
    --dead-letter as DMQ_DEAD_LETTER, --node as DMQ_NODES. Exit codes and all else: man dmq
    """


@queue.callback()
def _queue() -> None:
    """Make, look at, change and move queues."""


@node.callback()
def _node() -> None:
    """Run a node, ask how it is, or let it go."""


@cluster.callback()
def _cluster() -> None:
    """Look at the cluster, and at who belongs to it."""
