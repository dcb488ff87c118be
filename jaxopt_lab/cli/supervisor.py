"""A parent that says in one line what ended a training process which could not say it itself.

XLA aborts the process where it gets no memory, and the system kills one that takes too much: then
nothing of Python runs any more. So commands that train do so in a child.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence

from jaxopt_lab.cli import process

COMMANDS = frozenset({"tune", "sweep", "stabilize", "calibrate", "predict"})
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: From the headers of Linux: a signal of the terminal, which the child has got, too; and the
#: option of `prctl` by which a process dies with its parent.
_SI_KERNEL, _PR_SET_PDEATHSIG = 0x80, 1
_MEMORY = (signal.SIGABRT, signal.SIGKILL)


def train_in_child(argv: Sequence[str]) -> int | None:
    """Fork, and wait for the child. To be called before JAX is imported and threads are started.

    Args:
      argv: the command line.

    Returns:
      In the child, and where nothing is supervised (other commands, other systems than Linux,
      debugging): None, go on with the work. In the parent: the exit code.
    """
    if (
        not (argv and argv[0] in COMMANDS)
        or sys.platform != "linux"
        or os.environ.get(process.DEBUG) == "1"
        or "jax" in sys.modules
        or threading.active_count() > 1
    ):
        return None
    process.flush()
    watched = {*_PASSED_ON, signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be said that we die with it
            os._exit(process.MACHINE)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return None
    return _code(_wait(child, watched), argv)


def _wait(child: int, watched: set[signal.Signals]) -> int:
    """Pass signals on until the child has ended; its exit code, or a signal's number below 0."""
    while True:
        arrived = signal.sigwaitinfo(watched)
        if arrived.si_signo != signal.SIGCHLD:
            if arrived.si_code != _SI_KERNEL:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, arrived.si_signo)
            continue
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)


def _code(code: int, argv: Sequence[str]) -> int:
    """The child's exit code, after a line about a signal that it could not speak of."""
    if code >= 0:
        return code
    number = signal.Signals(-code)
    if number in _MEMORY:
        fewer = ", or fewer networks at a time: --cohort-width 8" if argv[0] == "tune" else ""
        process.complain(
            f"{argv[0]} was ended by {number.name}, most likely for want of memory. What is "
            f"finished is kept: go on with the same command and more memory{fewer}"
        )
        return process.MACHINE
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
        process.complain(
            f"{argv[0]} was ended by {number.name}, inside XLA or a driver. What is finished is "
            "kept: go on with the same command; if it happens again, please report it"
        )
        return process.MACHINE
    return 128 + number
