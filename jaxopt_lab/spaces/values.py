"""What a hyperparameter's value can be: numbers, text, booleans, None, and tuples of these."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.scalars import scalar

#: Greatest whole number that JSON, SQLite and NumPy all hold.
MAX_WHOLE = 2**63 - 1
#: The most characters of a value that a message shows.
_MAX_SHOWN = 60


def plain(value: Any) -> Any:
    """The Python value behind a scalar of NumPy or JAX, and tuples in the place of lists.

    Tuples, so that a configuration can be hashed and compared after a round trip through JSON.

    Examples:
      >>> plain([64, (32, None)])
      (64, (32, None))
      >>> plain(np.float64(0.5))
      0.5
    """
    value = scalar(value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def checked(name: str, value: Any) -> Any:
    """`plain` of a value that a configuration can hold.

    Args:
      name: what the value is of, for the message.
      value: the value.

    Raises:
      UserError: for other types, NaN, and whole numbers that do not fit into 64 bits.
    """
    value = plain(value)
    if isinstance(value, tuple):
        for item in value:
            checked(name, item)
        return value
    if value is not None and not isinstance(value, int | float | str):
        raise UserError(
            f"{name}: values must be numbers, text, booleans, None or lists of these, got "
            f"{shown(value)}"
        )
    if isinstance(value, float) and value != value:
        raise UserError(f"{name}: NaN cannot be a value")
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        raise UserError(f"{name}: {shown(value)} is too large; whole numbers end at 2^63 - 1")
    return value


def shown(value: Any) -> str:
    """`repr`, cut where it is long, of anything: whole numbers of any length too."""
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        # Longer ones Python does not write.
        num = len(str(abs(value))) if abs(value) < 10**4000 else "thousands of"
        return f"a whole number of {num} digits"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a long number, or deep nesting, inside
        return f"a {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def number_in(config: Mapping[str, Any], name: str | None) -> float:
    """A value of a configuration that is a number; NaN for any other, or none.

    Examples:
      >>> number_in({"rate": 0.1, "ema": True}, "rate"), number_in({"ema": True}, "ema")
      (0.1, nan)
    """
    value = config.get(name) if name else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)
