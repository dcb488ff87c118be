"""Run the equations of a traced function inside a kernel, on padded arrays.

The function is a user's own, with JAX's derivative and Optax's chain inside; it is traced once and
its equations are evaluated one by one: those that a kernel has by `rules`, calls by what they call.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxopt_lab.core.executors.padding import NoKernelForm, Padded, padded_shape
from jaxopt_lab.core.executors.rules import RULES
from jaxopt_lab.core.executors.values import Context, Static, as_padded, literal
from jaxopt_lab.core.tracing.dependencies import open_jaxpr, sub_jaxprs
from jaxopt_lab.core.tracing.equations import needed
from jaxopt_lab.core.types import PyTree

_DTYPES = frozenset({"float32", "int32", "uint32", "bool", "uint16", "uint8"})
#: How primitives are called in a plan, where their own name says little.
_WORDS = {
    "conv_general_dilated": "convolution",
    "scan": "a loop (scan)",
    "while": "a loop (while)",
    "gather": "reading at indices that depend on data (gather)",
    "scatter": "writing at indices (scatter)",
    "scatter-add": "adding at indices (scatter-add)",
    **dict.fromkeys(("erf", "erfc"), "the error function (gelu has approximate=True)"),
}


class Traced:
    """A function of one trial as equations.

    Args:
      function: of pytrees of arrays, pure.
      examples: its arguments, or their shapes.

    Attributes:
      like: shapes and dtypes of its results.
      constants: arrays that it closes over, which a kernel must be handed.
    """

    def __init__(self, function: Callable[..., Any], *examples: PyTree) -> None:
        self._closed, self.like = jax.make_jaxpr(function, return_shape=True)(*examples)
        self.constants = [x for x in self._closed.consts if np.ndim(x)]

    def __call__(self, context: Context, constants: Sequence[Any], *arguments: PyTree) -> PyTree:
        """Evaluate it.

        Args:
          context: how.
          constants: values of `constants`.
          arguments: as traced, with values for leaves.
        """
        given = iter(constants)
        consts = [next(given) if np.ndim(x) else literal(x) for x in self._closed.consts]
        leaves = jax.tree.leaves(arguments)
        outputs = evaluate(self._closed.jaxpr, context, consts, leaves)
        return jax.tree.unflatten(jax.tree.structure(self.like), outputs)


def evaluate(
    jaxpr: Any, context: Context, constants: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
    """The results of a jaxpr; of its equations only those that they need.

    Raises:
      NoKernelForm: for an equation that no kernel can compute.
    """
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return literal(atom.val, atom.aval) if isinstance(atom, core.Literal) else known[atom]

    for equation in needed(jaxpr.eqns, jaxpr.outvars, known):
        outputs = _apply(context, equation, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    name = equation.primitive.name
    rule = RULES.get(name)
    if rule is not None:
        _check_dtypes(equation)
        return rule(context, equation, values)
    if name == "cond":
        return _branches(context, equation, values)
    inner = [] if name in ("scan", "while") else sub_jaxprs(equation)
    if len(inner) == 1 and len(inner[0].invars) == len(values):
        return evaluate(inner[0], context, _constants(equation), values)
    raise NoKernelForm(f"{_WORDS.get(name, name)} has no kernel form")


def _constants(equation: Any) -> list[Any]:
    """What the program of a call closes over."""
    closed = [x for x in equation.params.values() if isinstance(x, core.ClosedJaxpr)]
    constants = list(closed[0].consts) if closed else []
    if any(np.ndim(x) for x in constants):
        raise NoKernelForm("an inner function that closes over arrays has no kernel form")
    return [literal(x) for x in constants]


def _branches(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    """One branch where it is known which; else all of them, of which one is selected."""
    index, *operands = values
    branches = equation.params["branches"]

    def run(branch: Any) -> list[Any]:
        return evaluate(open_jaxpr(branch), context, [literal(x) for x in branch.consts], operands)

    if isinstance(index, Static):
        return run(branches[int(np.clip(index.value, 0, len(branches) - 1))])
    chosen = as_padded(index).array
    found = run(branches[0])
    for number, branch in enumerate(branches[1:], 1):
        last = number == len(branches) - 1
        is_it = chosen >= number if last else chosen == number
        found = [_either(is_it, new, old) for new, old in zip(run(branch), found, strict=True)]
    return found


def _either(condition: Any, new: Any, old: Any) -> Any:
    new, old = as_padded(new), as_padded(old)
    array = jax.lax.select_n(condition, _full(old), _full(new))
    rows = new.rows if old.rows is None else old.rows
    return Padded(array, new.shape, new.is_clean and old.is_clean, rows)


def _full(value: Padded) -> Any:
    return jax.numpy.broadcast_to(value.array, padded_shape(value.shape))


def _check_dtypes(equation: Any) -> None:
    for variable in equation.outvars:
        dtype = variable.aval.dtype
        is_key = jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
        if not is_key and str(dtype) not in _DTYPES:
            raise NoKernelForm(f"{dtype} numbers have no kernel form")
