"""What ends a training process without a word of its own is said by its parent, in one line."""

import os
import signal
import subprocess
import sys

import pytest

from jaxopt_lab.cli.process import MACHINE, USER, explain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="supervised on Linux only")

SCRIPT = """
import os, signal, sys, time
from jaxopt_lab import cli
from jaxopt_lab.cli import process

def work():
    print(os.getpid(), flush=True)
    {work}
    return 0

cli.run = lambda argv: process.guard(work, sys.argv[1:])
cli.main()
"""


def start(work: str, command: str = "tune") -> subprocess.Popen[str]:
    """A command whose work is `work`, once it is at it."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(work=work), command, "houses.csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ("os.abort()", "ended by SIGABRT, most likely for want of memory"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "ended by SIGKILL, most likely for want of memory",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV, inside XLA or a driver"),
    ],
)
def test_a_crash_gets_one_line(work: str, words: str) -> None:
    process = start(work)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("jaxopt-lab: tune was ")
    assert words in errors
    assert "go on with the same command" in errors
    assert errors.count("\n") == 1


_HANGUP = pytest.mark.skipif(
    signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="nohup keeps it from children, too"
)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=_HANGUP),
    ],
)
def test_signals_reach_the_child(number: signal.Signals, code: int) -> None:
    process = start("time.sleep(60)")
    assert process.stdout is not None
    assert int(process.stdout.readline()) != process.pid
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.count("\n") == (number != signal.SIGHUP)


def test_the_child_dies_with_its_parent() -> None:
    process = start("time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    assert process.stdout.read() == ""  # ends only when nobody holds the pipe any more
    process.communicate(timeout=60)


def test_exit_codes_are_those_of_the_child_and_what_only_reads_has_none() -> None:
    process = start("return 7")
    process.communicate(timeout=60)
    assert process.returncode == 7
    process = start("time.sleep(0)", command="show")
    output, _ = process.communicate(timeout=60)
    assert int(output) == process.pid


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libopenblas.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_want_of_memory_is_called_that(error: Exception) -> None:
    assert explain(error) == ("out of memory; what is finished is kept", MACHINE)


def test_a_closed_stdout_and_a_refused_setting_of_jax_are_no_faults_of_ours() -> None:
    commands = ("predict nowhere table.csv -o -", "tune table.csv --target y")
    wanted = ("there is no directory nowhere", "invalid truth value 'perhaps'")
    for command, words in zip(commands, wanted, strict=True):
        # By a shell: closing it in a fork of this process would warn of JAX's threads.
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" -m jaxopt_lab "$@" >&-', sys.executable, *command.split()],
            env={**os.environ, "JAX_ENABLE_X64": "perhaps"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == USER
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
