"""The command `jaxopt-lab`: one module per command, each imported when it is called."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from jaxopt_lab.cli import arguments, environment, process, supervisor


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
      argv: what follows the command's name; `sys.argv` by default.

    Returns:
      The exit code: 0; 2 for what the user must correct; 1 for what the machine cannot do; 130
      after Ctrl-C, 143 after SIGTERM. Every failure has printed its one line.
    """
    given = list(sys.argv[1:] if argv is None else argv)

    def command() -> int:
        args = arguments.parse(given)
        return int(import_module(f"jaxopt_lab.cli.{args.command}").execute(args))

    return process.guard(command, given)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command line and leave the process with its exit code.

    What trains does so in a child, so that somebody is left to say what ended it.
    """
    environment.open_streams()
    code = supervisor.train_in_child(sys.argv[1:]) if argv is None else None
    if code is None:
        code = run(argv)
    process.flush()
    if code > 128:  # JAX may still be computing in threads that nothing can stop
        os._exit(code)
    sys.exit(code)
