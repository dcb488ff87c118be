"""What a value on the command line may be: each converter refuses others in one line."""

import argparse
import math
import re
from collections.abc import Callable, Sequence

from jaxopt_lab.core.errors import did_you_mean

#: Characters of a value that a mistake repeats.
_MAX_SHOWN = 40


def _shown(text: str) -> str:
    """`repr`, cut where it is long."""
    return repr(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!r}..."


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text.strip()):
            words = f"a whole number of at least {least}"
        elif int(text[:30]) < least:
            words = f"at least {least}"
        elif int(text[:30]) > most:
            words = f"at most {most}"
        else:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be {words}, got {_shown(text)}")

    return convert


def number(words: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """A number that fits; `words` say what does."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not fits(value):
            raise argparse.ArgumentTypeError(f"must be {words}, got {_shown(text)}")
        return value

    return convert


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """One of some names."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(
                f"unknown choice {text!r}.{did_you_mean(text, names)} "
                f"Choose from: {', '.join(names)}"
            )
        return text

    return convert


def near(text: str) -> str | tuple[str, ...]:
    """Two columns with a comma between them, `auto` or `none`."""
    if text in ("auto", "none"):
        return text
    names = tuple(name.strip() for name in text.split(","))
    if len(names) != 2 or not all(names):
        raise argparse.ArgumentTypeError(f"two columns, such as x,y, auto or none; got {text!r}")
    return names


SECONDS = number("a number of seconds above 0", lambda value: 0.0 < value < math.inf)
GIB = number("a number of GiB above 0", lambda value: 0.0 < value < 2.0**20)
