"""Numbers that a user gives: Python's, NumPy's, and arrays of no axis, JAX's too."""

from typing import Any

from jaxopt_lab.core.errors import UserError


def scalar(value: Any) -> Any:
    """The Python value behind a scalar of NumPy or an array of no axis; anything else as it is.

    Examples:
      >>> import numpy as np
      >>> scalar(np.float64(0.5)), scalar(np.array(3)), scalar("x")
      (0.5, 3, 'x')
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value


def whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number as Python's.

    Args:
      name: what it is, for the message.
      value: what the user gave; 3.0 is whole, True is not.
      least: the least that it may be.

    Raises:
      UserError: if it is none, or too small.
    """
    found = scalar(value)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        raise UserError(f"{name} must be a whole number, got {value!r}")
    if least is not None and found < least:
        raise UserError(f"{name} must be at least {least}, got {found}")
    return found


def number(name: str, value: Any) -> float:
    """A real number as Python's.

    Raises:
      UserError: if it is none.
    """
    found = scalar(value)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UserError(f"{name} must be a number, got {value!r}")
    return float(found)
