"""Completion."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.cli.program import DMQ, Dmq


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_reads(offline: Dmq, shell: str) -> None:
    ran = offline("completion", shell)
    assert ran.code == 0
    assert "_DMQ_COMPLETE=complete_" + shell in ran.out
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=ran.out, text=True, check=True)


def test_an_unknown_shell(offline: Dmq) -> None:
    ran = offline("completion", "tcsh")
    assert ran.code == 2
    assert "it is one of bash, zsh, fish" in ran.err


def complete(*words: str) -> list[str]:
    """Return what bash would offer for the last of `words`."""
    script = subprocess.run([DMQ, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    line = " ".join(f"'{word}'" for word in words)
    ask = f"{script}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words) - 1}\n_dmq_completion {DMQ}\n"
    ask += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.slow
def test_bash_completes_commands_options_values_and_queues(dmq: Dmq, queue: str) -> None:
    assert complete("dmq", "que") == ["queue"]
    assert complete("dmq", "queue", "ex") == ["explain", "export"]
    assert complete("dmq", "queue", "peek", "q", "--st") == ["--state"]
    assert complete("dmq", "queue", "peek", "q", "--state", "de") == ["delayed"]
    assert complete("dmq", "receive", queue[:-1]) == [queue]
