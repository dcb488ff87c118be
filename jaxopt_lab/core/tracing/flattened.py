"""A traced program as a list of operations, calls inlined as XLA inlines them."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from jaxopt_lab.core.tracing.dependencies import open_jaxpr, sub_jaxprs

#: Equations whose body is not inlined: it runs many times, or not at all.
CONTROL_FLOW = frozenset({"scan", "while", "cond"})
#: Size of a random key, bytes.
_KEY_BYTES = 8


class Operation(NamedTuple):
    """One equation, its values numbered.

    Attributes:
      equation: as traced.
      inputs: numbers of the values that it reads; -1 for a literal.
      outputs: numbers of the values that it makes.
    """

    equation: core.JaxprEqn
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the primitive."""
        return self.equation.primitive.name


class Flattened(NamedTuple):
    """A program without calls.

    Attributes:
      operations: in order.
      sizes: bytes of each value.
      inputs: numbers of its arguments; constants that it closes over come first.
      num_constants: how many of these there are.
      outputs: numbers of its results; -1 for a literal.
    """

    operations: list[Operation]
    sizes: list[int]
    inputs: tuple[int, ...]
    num_constants: int
    outputs: tuple[int, ...]


def flatten(jaxpr: Any) -> Flattened:
    """Inline calls (inner `jit`, `custom_jvp`, `checkpoint`) and number all values.

    Args:
      jaxpr: a `ClosedJaxpr` or `Jaxpr`.
    """
    jaxpr = open_jaxpr(jaxpr)
    operations: list[Operation] = []
    sizes: list[int] = []

    def number(variable: Any) -> int:
        sizes.append(bytes_of(variable.aval))
        return len(sizes) - 1

    def inline(inner: Any, arguments: list[int]) -> list[int]:
        numbers = dict(zip(inner.invars, arguments, strict=True))
        numbers.update((variable, number(variable)) for variable in inner.constvars)

        def read(atom: Any) -> int:
            return -1 if isinstance(atom, core.Literal) else numbers[atom]

        for equation in inner.eqns:
            inputs = [read(atom) for atom in equation.invars]
            body = _body(equation)
            if body is not None:
                numbers.update(zip(equation.outvars, inline(body, inputs), strict=True))
                continue
            outputs = [number(variable) for variable in equation.outvars]
            numbers.update(zip(equation.outvars, outputs, strict=True))
            operations.append(Operation(equation, tuple(inputs), tuple(outputs)))
        return [read(atom) for atom in inner.outvars]

    arguments = [number(variable) for variable in jaxpr.invars]
    before = len(sizes)
    outputs = inline(jaxpr, arguments)
    constants = tuple(range(before, before + len(jaxpr.constvars)))
    return Flattened(operations, sizes, (*constants, *arguments), len(constants), tuple(outputs))


def bytes_of(aval: Any) -> int:
    """Bytes of an array of this shape and dtype; 0 for what is no array."""
    if not hasattr(aval, "shape") or not hasattr(aval, "dtype"):
        return 0
    is_key = jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended)
    return int(np.prod(aval.shape)) * (_KEY_BYTES if is_key else aval.dtype.itemsize)


def _body(equation: core.JaxprEqn) -> Any:
    """The program that a call equation stands for; None if it is no call."""
    if equation.primitive.name in CONTROL_FLOW:
        return None
    inner = sub_jaxprs(equation)
    if len(inner) != 1:
        return None
    matches = len(inner[0].invars) == len(equation.invars)
    return inner[0] if matches and len(inner[0].outvars) == len(equation.outvars) else None
