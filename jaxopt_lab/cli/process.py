"""What a command is to the shell: exit codes, one-line errors, signals, closed pipes."""

import contextlib
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from jaxopt_lab.cli.environment import is_refused_setting, open_streams
from jaxopt_lab.core.errors import MachineError, UserError

#: Exit codes: the user must correct something, the machine cannot do it, Ctrl-C, SIGTERM, SIGPIPE.
USER, MACHINE, INTERRUPTED, TERMINATED, PIPE = 2, 1, 130, 143, 141
DEBUG = "JAXOPT_LAB_DEBUG"
#: What Linux and Python say where a library or a thread gets no memory.
_NO_ROOM = ("failed to map segment from shared object", "can't start new thread")
_SHOW_CURSOR = "\x1b[?25h"


class Terminated(BaseException):
    """SIGTERM has arrived."""


def guard(command: Callable[[], int], argv: Sequence[str]) -> int:
    """Run a command so that every failure becomes one line and an exit code.

    Args:
      command: does the work and returns its exit code.
      argv: the command line, to say how to go on.

    Returns:
      The exit code.
    """
    open_streams()
    _forgive_encodings()
    try:
        with _signals():
            code = command()
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        return _closed_pipe()
    except (KeyboardInterrupt, Terminated) as error:
        complain(_how_to_go_on(argv))
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    except Exception as error:
        if os.environ.get(DEBUG) == "1":
            traceback.print_exc()
        message, code = explain(error)
        complain(message)
        return code


def explain(error: Exception) -> tuple[str, int]:
    """One line and the exit code for an exception."""
    if isinstance(error, UserError):
        return str(error), USER
    if isinstance(error, MachineError):
        return str(error), MACHINE
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_ROOM):
        return "out of memory; what is finished is kept", MACHINE
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of Path.expanduser
        return "there is no home directory that ~ could stand for: write the whole path", USER
    if is_refused_setting(error):
        return f"JAX does not start in this environment: {error}", USER
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return f"cannot read or write{where}: {error.strerror.lower()}", MACHINE
    return (
        f"unexpected {type(error).__name__}: {error}. What is finished is kept. Please report it, "
        f"with what {DEBUG}=1 in the environment prints",
        MACHINE,
    )


def complain(message: str) -> None:
    """Print one line on stderr."""
    with contextlib.suppress(OSError, ValueError):
        print(f"jaxopt-lab: {' '.join(message.split())}", file=sys.stderr, flush=True)


def flush() -> None:
    """Write out what is printed so far; a closed pipe no longer matters."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _how_to_go_on(argv: Sequence[str]) -> str:
    if argv and argv[0] in ("tune", "sweep", "stabilize"):
        again = shlex.join(["jaxopt-lab", *argv])
        return f"stopped; what is finished is kept. Go on with the same command: {again}"
    return "stopped"


def _closed_pipe() -> int:
    """The reader has gone (`... | head`): leave without a word, also at interpreter exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE


def _forgive_encodings() -> None:
    """A terminal that lacks a character shows '?' for it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C; a second signal stops at once, whatever is going on."""
    arrived: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if arrived:
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), _SHOW_CURSOR.encode())
            os._exit(128 + number)
        arrived.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread: leave signals alone
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
