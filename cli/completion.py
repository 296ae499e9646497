"""`dmq completion`: a script for the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import write_text
from dmqnode.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


def completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="bash|zsh|fish",
            autocompletion=lambda incomplete: [s for s in SHELLS if s.startswith(incomplete)],
        ),
    ],
) -> None:
    """Print the script that makes a shell complete commands, options and names of queues.

    \b
      eval "$(dmq completion bash)"                                   # in ~/.bashrc
      eval "$(dmq completion zsh)"                                    # in ~/.zshrc
      dmq completion fish > ~/.config/fish/completions/dmq.fish
    """
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell!r}; it is one of {', '.join(SHELLS)}")
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    write_text(get_completion_script(prog_name="dmq", complete_var="_DMQ_COMPLETE", shell=shell))
