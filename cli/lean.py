"""Typer commands that start fast.

Typer converts every value with pydantic, and builds every command before it runs one; both take longer
than a whole `dmq send`.  Here values stay the text they are (what they mean is in `options`), and a
command's module is loaded when the command is called.  Each flag can be given in the environment too,
and the global ones before or after the command.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from dmqnode.errors import UsageError

EAGER = ("help", "version")
"""Options that act at once, and that have no name in the environment."""
NOT_TEXT = {"BODY", "CMD", "DIR", "FILE", "PATH"}
"""What may be any bytes, as the system has them in arguments and names of files; by metavar."""
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def environment_name(param: Any) -> str | None:
    """Return the environment variable that stands for an option: `--dead-letter` is DMQ_DEAD_LETTER."""
    if param.param_type_name != "option" or param.name in EAGER:
        return None
    if param.envvar:
        return str(param.envvar)
    longest: str = max(param.opts, key=len)
    return "DMQ_" + longest.lstrip("-").replace("-", "_").upper()


def global_options(ctx: Any, command: Any) -> list[Any]:
    """Return the root's options that `command` takes too."""
    root = ctx.find_root().command
    taken = {opt for param in command.params for opt in param.opts}
    if root is command:
        return []
    return [p for p in root.params if p.name not in EAGER and not taken.intersection(p.opts)]


def take_values(command: Any, ctx: Any, args: list[str]) -> list[str]:
    """Read `args` by the definitions of `command`; return what is left of them.

    The command's own values go into `ctx.params`, global ones into the root's `ctx.meta`.

    Errors: UsageError, or typer's own.
    """
    params = command.get_params(ctx)
    opts, rest, _ = command.make_parser(ctx).parse_args(args=list(args))
    shared = {id(p) for p in global_options(ctx, command)}
    for param in sorted(params, key=lambda p: not p.is_eager):
        given = opts.get(param.name)
        value = given if given is not None else _from_environment(param)
        if param.metavar not in NOT_TEXT and not ctx.resilient_parsing:
            _check_text(param, value)
        if param.name in EAGER:
            if param.callback is not None and value:
                param.callback(ctx, param, value)
        elif id(param) in shared or ctx.find_root() is ctx:
            if given is not None:
                previous = ctx.meta.get(param.name)
                ctx.meta[param.name] = [*(previous or ()), *given] if param.multiple else given
        else:
            if value is None:
                if param.required and not ctx.resilient_parsing:
                    raise UsageError(
                        f"{param.metavar or param.name.upper()} is missing; see: {ctx.command_path} --help"
                    )
                value = () if param.multiple or param.nargs == -1 else param.default
            ctx.params[param.name] = value
    return list(rest)


def is_text(value: str) -> bool:
    """Whether UTF-8 has all of a text: what else the system gives us is in it by surrogates."""
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_text(param: Any, value: Any) -> None:
    """Errors: UsageError for a value that is not UTF-8, and so nothing that a node could be asked for."""
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str) and not is_text(text):
            is_option = param.param_type_name == "option"
            what = max(param.opts, key=len) if is_option else param.metavar or param.name.upper()
            raise UsageError(f"{what} is {os.fsencode(text)!r:.80}, which is not UTF-8; give it as text")


def _from_environment(param: Any) -> Any:
    name = environment_name(param)
    text = os.environ.get(name) if name else None
    if text is None or name is None:
        return None
    if param.is_flag:
        return flag_value(name, text)
    if param.multiple:
        return [piece for piece in text.split(",") if piece]
    return text or None


def flag_value(name: str, text: str) -> bool:
    """Return what a flag is in the environment.

    Errors: UsageError.
    """
    if text.lower() not in _TRUE | _FALSE:
        raise UsageError(f"{name} is {text!r}; set it to 1 or 0")
    return text.lower() in _TRUE


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the parts of the help about arguments, options and global options."""
    shared = {id(p) for p in global_options(ctx, command)}
    parts: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "Global options": []}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            # Values are text to typer, which says nothing about them.
            parts["Arguments"].append((param.metavar or param.name.upper(), param.help or ""))
        else:
            parts["Global options" if id(param) in shared else "Options"].append(record)
    for heading, records in parts.items():
        if any(text for _, text in records):
            with formatter.section(heading):
                formatter.write_dl(records)


class LeanCommand(TyperCommand):
    """A command whose values are text, lists of text, or flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        own = super().get_params(ctx)
        return [*own, *global_options(ctx, self)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = take_values(self, ctx, args)
        if rest and not ctx.resilient_parsing:
            raise UsageError(f"{rest[0]!r} is one argument too many; see: {ctx.command_path} --help")
        ctx.args = rest
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)


class LeanGroup(TyperGroup):
    """Commands that are loaded when they are called.

    A subclass says which: name to "module:function", or "module:application" of a group.
    """

    table: ClassVar[dict[str, str]] = {}
    _parsed = False

    def get_params(self, ctx: Any) -> list[Any]:
        if self._parsed:
            return []
        return [*super().get_params(ctx), *global_options(ctx, self)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = take_values(self, ctx, args)
        if not rest and not ctx.resilient_parsing:
            is_root = self is ctx.find_root().command
            typer.echo(ctx.get_help(), err=not is_root)
            raise typer.Exit(0 if is_root else 2)
        # What is left is the command's name and what belongs to it; nothing there is an option of ours.
        self._parsed = True
        try:
            return list(super().parse_args(ctx, rest))
        finally:
            self._parsed = False

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        where = self.table.get(cmd_name)
        if where is None:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name, where)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.table and not ctx.resilient_parsing:
            close = get_close_matches(args[0], self.table, n=1)
            hint = f"did you mean {ctx.command_path} {close[0]}? " if close else ""
            raise UsageError(
                f"there is no command {args[0]!r}; {hint}all commands are shown by: {ctx.command_path} --help"
            )
        return super().resolve_command(ctx, args)


def _load(name: str, where: str) -> Any:
    module, _, function = where.partition(":")
    loaded = import_module(module)
    found = getattr(loaded, function)
    if isinstance(found, typer.Typer):
        return get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name, cls=LeanCommand)(found)
    return get_command(single)
