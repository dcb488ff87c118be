"""Errors that the command line shows as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What the user gave is wrong: one line that says what to do, exit code 2.

    Args:
      message: text; line breaks are folded, so that it always prints as one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class MachineError(RuntimeError):
    """The machine cannot do it (disk, permissions, a lock): one line, exit code 1.

    Args:
      message: text; line breaks are folded, so that it always prints as one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is nearest to a mistyped one.

    Args:
      name: what was typed.
      known: the names that exist.

    Returns:
      " Did you mean 'x'?" with a leading space, or "" if nothing is near.

    Examples:
      >>> did_you_mean("prise", ["price", "rooms"])
      " Did you mean 'price'?"
      >>> did_you_mean("zzz", ["price", "rooms"])
      ''
    """
    by_folded = {str(candidate).casefold(): str(candidate) for candidate in known}
    near = difflib.get_close_matches(str(name).casefold(), list(by_folded), n=1, cutoff=0.6)
    return f" Did you mean {by_folded[near[0]]!r}?" if near else ""
