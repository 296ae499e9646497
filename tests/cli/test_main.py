"""The program as a process: what it loads, how it starts and ends, how much memory it takes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli import main
from cli.failures import Signalled
from dmqnode.version import VERSION
from tests.cli.program import DEADLINE, DMQ, Counts, Dmq, Start

HEAVY = ("trio", "rich", "plyvel", "pydantic", "storage", "gossip", "asyncio", "crc32c")
SPY = """
import os, sys
sys.argv = ["dmq", *sys.argv[1:]]
from cli import main
def leave(code):
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    print("loaded", *loaded, file=sys.stderr, flush=True)
    os._exit(code)
main.leave = leave
main.main()
"""
PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
EARLY = """
import os, signal, sys
milliseconds, number = map(int, sys.argv[1:])
sys.argv = ["dmq", "--help"]
from cli.main import main
signal.signal(number, lambda number, frame: os._exit(128 + number))  # main may not have begun by then
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
main()
"""
LINES = 300_000
ROOT = Path(__file__).parents[2]


def test_the_version(offline: Dmq) -> None:
    assert offline("--version").out == f"dmq {VERSION}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ["send", "QUEUE", "x"],
        ["receive", "QUEUE", "--wait", "0s"],
        ["queue", "show", "QUEUE"],
        ["queue", "list"],
        ["node", "status"],
        ["ack", "nonsense"],
        ["send", "--help"],
    ],
)
def test_one_shot_commands_load_nothing_heavy(dmq: Dmq, queue: str, args: list[str]) -> None:
    args = [queue if arg == "QUEUE" else arg for arg in args]
    done = subprocess.run([sys.executable, "-c", SPY, *args], capture_output=True, text=True, cwd=ROOT)
    loaded = done.stderr.splitlines()[-1].split()
    assert loaded[0] == "loaded"
    assert "typer" in loaded
    assert not set(loaded) & set(HEAVY)


@pytest.mark.slow
def test_lines_stream_in_constant_memory(dmq: Dmq, queue: str, counts: Counts, place: Path) -> None:
    """Sending and receiving many lines takes hardly more memory than a few."""

    def peak(*args: str, lines: int) -> int:
        with (place / "lines").open("wb") as out:
            out.writelines(b"%098d\n" % n for n in range(lines))
        command = [sys.executable, "-c", PEAK, str(DMQ), *args]
        with (place / "lines").open("rb") as data, (place / "out").open("wb") as out:
            done = subprocess.run(
                command, stdin=data, stdout=out, stderr=subprocess.PIPE, text=True, timeout=DEADLINE
            )
        assert done.returncode == 0, done.stderr
        return int(done.stderr.splitlines()[-1].split()[1])

    few = peak("send", queue, "--lines", lines=20_000)
    many = peak("send", queue, "--lines", lines=LINES)
    assert many < few + 12_000, "KiB"
    assert counts(queue) == (LINES + 20_000, 0, 0)
    assert (place / "out").read_bytes().count(b"\n") == LINES
    assert peak("receive", queue, "--all", "--lines", lines=1) < few + 12_000
    assert (place / "out").read_bytes().count(b"\n") == LINES + 20_000


@pytest.mark.slow
def test_lines_are_sent_when_they_come(dmq: Dmq, queue: str, process: Start) -> None:
    sender = process("send", queue, "--lines", stdin=subprocess.PIPE)
    assert sender.popen.stdin is not None
    for number in range(3):
        sender.popen.stdin.write(b"%d\n" % number)
        sender.popen.stdin.flush()
        assert len(sender.line()) > 10
    sender.popen.send_signal(signal.SIGINT)
    assert sender.end().code == 130
    assert dmq("receive", queue, "--all", "--lines").out == "0\n1\n2\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_still_starts(number: signal.Signals) -> None:
    """Whenever it comes there is no traceback."""
    codes = set()
    for milliseconds in (1, 5, 20, 50, 80, 120):
        command = [sys.executable, "-c", EARLY, str(milliseconds), str(int(number))]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE)
        codes.add(done.returncode)
        assert "Traceback" not in done.stderr
    assert 128 + number in codes
    assert codes <= {128 + number, 0}


def test_a_signal_as_the_command_has_just_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(args: list[str]) -> int:
        raise Signalled(signal.SIGINT)

    codes: list[int] = []
    monkeypatch.setattr("cli.running.run", ended)
    monkeypatch.setattr(main, "leave", codes.append)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threshold = gc.get_threshold()
    try:
        main.main()
    finally:
        gc.set_threshold(*threshold)
        for number, receiver in before.items():
            signal.signal(number, receiver)
    assert codes == [130]


@pytest.mark.slow
def test_an_outcome_that_is_not_known(dmq: Dmq, queue: str, process: Start, node: object) -> None:
    """The node takes the send and does not answer in time."""
    pid = dmq("node", "status", "--json").rows[0]["pid"]
    sender = process("send", queue, "--lines", "--json", "--timeout", "1s", stdin=subprocess.PIPE)
    assert sender.popen.stdin is not None
    sender.popen.stdin.write(b"one\n")
    sender.popen.stdin.flush()
    sender.line()
    os.kill(pid, signal.SIGSTOP)
    try:
        sender.popen.stdin.write(b"two\n")
        sender.popen.stdin.close()
        sender.popen.stdin = None
        ran = sender.end()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert ran.code == 8
    assert ran.error["stored"] == "unknown"


def run_with(closed: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program in a shell that closes some of its standard files: `run_with(">&-", "top")`."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", str(DMQ), *args]
    return subprocess.run(command, text=True, timeout=DEADLINE, check=False, **pipes)


@pytest.mark.slow
def test_a_connection_is_never_standard_output(dmq: Dmq, queue: str, counts: Counts) -> None:
    dmq("send", queue, "x")
    done = run_with(">&-", "receive", queue)
    assert (done.returncode, done.stderr) == (1, "dmq: standard output: it is closed\n")
    assert counts(queue) == (1, 0, 0), "it was given back"
    done = run_with("<&- >&- 2>&-", "receive", queue)
    assert (done.returncode, counts(queue)) == (1, (1, 0, 0))


@pytest.mark.slow
@pytest.mark.parametrize("args", [["--version"], ["--help"], ["queue", "list"]])
def test_nothing_that_could_not_be_printed_passes_for_done(dmq: Dmq, args: list[str]) -> None:
    done = run_with(">&-", *args)
    assert done.returncode == 1
    assert done.stderr.startswith("dmq: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_errors_are_no_data_when_nobody_wants_them(dmq: Dmq, queue: str) -> None:
    done = run_with("2>&-", "receive", queue[1:])
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--lines"], ["-", "--quiet"]])
def test_input_that_is_closed_is_not_empty(dmq: Dmq, queue: str, more: list[str]) -> None:
    done = run_with("<&-", "send", queue, *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dmq: standard input is closed; ")


@pytest.mark.slow
def test_commands_inherit_what_stands_in_for_a_closed_output(dmq: Dmq, queue: str, place: Path) -> None:
    dmq("send", queue, "x")
    script = "import os; n = os.open('.', os.O_RDONLY); open('number', 'w').write(str(n))"
    command = f'{sys.executable} -c "{script}"'
    assert run_with(">&-", "receive", queue, "-n", "1", "--exec", command).returncode == 0
    assert int((place / "number").read_text()) > 2
