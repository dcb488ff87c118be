"""Whether a function does the same each time: two traces must be equal."""

import random
from typing import Any

import numpy as np
from jax.extend import core

from jaxopt_lab.core.tracing.dependencies import open_jaxpr, sub_jaxprs

#: Parameters of an equation that say what it computes; others (functions, names) are let alone.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic)


def same_program(first: core.ClosedJaxpr, second: core.ClosedJaxpr) -> bool:
    """Whether two programs compute the same: equations, constants and literals.

    Args:
      first: a traced program.
      second: another trace of the same functions.
    """
    return _same_jaxprs(first, second)


class RandomStates:
    """Which of the generators that all of Python shares were drawn from since this was made."""

    def __init__(self) -> None:
        self._numpy = np.random.get_state(legacy=False)  # noqa: NPY002
        self._python = random.getstate()

    def drawn_from(self) -> str | None:
        """The first generator that moved, as it is written in code; None if none did."""
        if not _same_value(self._numpy, np.random.get_state(legacy=False)):  # noqa: NPY002
            return "np.random"
        return None if self._python == random.getstate() else "random"


def seeds_with_a_real_number(program: core.ClosedJaxpr) -> bool:
    """Whether a random key is made of something else than a whole number, which only the compiler
    would refuse.

    Args:
      program: a traced program.
    """
    jaxpr = open_jaxpr(program)
    return any(
        (
            equation.primitive.name == "random_seed"
            and not np.issubdtype(equation.invars[0].aval.dtype, np.integer)
        )
        or any(map(seeds_with_a_real_number, sub_jaxprs(equation)))
        for equation in jaxpr.eqns
    )


def _same_jaxprs(first: Any, second: Any) -> bool:
    constants = [getattr(jaxpr, "consts", ()) for jaxpr in (first, second)]
    if not _same_value(*map(list, constants)):
        return False
    first, second = open_jaxpr(first), open_jaxpr(second)
    if len(first.eqns) != len(second.eqns) or not _same_avals(first.invars, second.invars):
        return False
    number: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
    for side, jaxpr in enumerate((first, second)):
        for variable in (*jaxpr.constvars, *jaxpr.invars):
            number[side][variable] = len(number[side])

    def same_atoms(ones: Any, others: Any) -> bool:
        if len(ones) != len(others):
            return False
        for one, other in zip(ones, others, strict=True):
            literals = isinstance(one, core.Literal), isinstance(other, core.Literal)
            if literals[0] != literals[1]:
                return False
            if literals[0]:
                if not _same_value(one.val, other.val):
                    return False
            elif number[0].get(one) != number[1].get(other):
                return False
        return True

    for one, other in zip(first.eqns, second.eqns, strict=True):
        if one.primitive.name != other.primitive.name or not same_atoms(one.invars, other.invars):
            return False
        if not _same_avals(one.outvars, other.outvars) or not _same_value(one.params, other.params):
            return False
        for side, equation in enumerate((one, other)):
            for variable in equation.outvars:
                number[side][variable] = len(number[side])
    return same_atoms(first.outvars, second.outvars)


def _same_avals(ones: Any, others: Any) -> bool:
    return [str(v.aval) for v in ones] == [str(v.aval) for v in others]


def _same_value(one: Any, other: Any) -> bool:
    """Equality of what programs hold; functions and objects of unknown kinds count as equal."""
    if isinstance(one, core.ClosedJaxpr | core.Jaxpr):
        return type(one) is type(other) and _same_jaxprs(one, other)
    if isinstance(one, tuple | list):
        return (
            isinstance(other, tuple | list)
            and len(one) == len(other)
            and all(map(_same_value, one, other))
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same_value(one[k], other[k]) for k in one)
    if hasattr(one, "dtype") and hasattr(one, "shape"):
        return _same_arrays(one, other)
    if isinstance(one, _PLAIN):
        return type(one) is type(other) and (one == other or (one != one and other != other))
    return True


def _same_arrays(one: Any, other: Any) -> bool:
    if one.dtype != getattr(other, "dtype", None) or one.shape != other.shape:
        return False
    try:
        return np.asarray(one).tobytes() == np.asarray(other).tobytes()
    except TypeError:
        return True  # A random key: made from the constants that make it differ.
