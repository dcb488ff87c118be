"""How text reaches the terminal, or whatever stands in its place."""

import math
import os
import sys
from typing import Any

from rich.console import Console

_PIPE_WIDTH = 200


def make_console() -> Console:
    """A console on stdout that takes text as it is; wide and plain if it is no terminal."""
    is_terminal = sys.stdout.isatty()
    fixed_width = "COLUMNS" in os.environ
    return Console(
        file=sys.stdout,
        markup=False,
        highlight=False,
        emoji=False,
        force_terminal=is_terminal,
        width=None if is_terminal or fixed_width else _PIPE_WIDTH,
    )


def short(value: Any, digits: int = 4) -> str:
    """A number with few digits, other values as they are, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}g}" if math.isfinite(value) else str(value)
    # A stranger's text must not steer the terminal.
    return "".join(char if char.isprintable() else "?" for char in str(value))


def duration(seconds: float) -> str:
    """Seconds as '42 s', '3 min 05 s' or '2 h 07 min'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
