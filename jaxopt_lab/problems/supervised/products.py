"""Layers of any module get the matrix product and the convolution that are fast in a population.

Those of `models.products` and `models.convolutions`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lab.core.tracing import equations
from jaxopt_lab.models.convolutions import conv_general_dilated
from jaxopt_lab.models.products import MIN_OUTPUTS, product

_PLAIN = (((1,), (0,)), ((), ()))


def with_fast_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with products of rows and wide kernels and convolutions that are fast.

    It is traced once, and its equations are run again with those exchanged. Where JAX's
    equations cannot be run that way, it is called as it is.

    Args:
      function: of pytrees of arrays; differentiated in reverse only.
    """

    def fast(*arguments: Any) -> Any:
        closed, like = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if not _has_product(closed.jaxpr):
            return function(*arguments)
        try:
            outputs = _run(closed, jax.tree.leaves(arguments))
        except Exception:  # of a kind of equation that is not known here
            return function(*arguments)
        return jax.tree.unflatten(jax.tree.structure(like), outputs)

    return fast


def _run(closed: Any, arguments: list[Any]) -> list[Any]:
    jaxpr = closed.jaxpr
    environment = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))
    equations.run(jaxpr, jaxpr.eqns, environment, _rule)
    return [equations.value_of(environment, atom) for atom in jaxpr.outvars]


def _rule(equation: Any, values: list[Any]) -> list[Any] | None:
    if _is_product(equation):
        return [product(*values)]
    if equation.primitive.name == "conv_general_dilated":
        return [conv_general_dilated(*values, **_convolution(equation.params))]
    if (inner := _inner(equation)) is not None and _has_product(inner.jaxpr):
        return _run(inner, values)
    return None


def _inner(equation: Any) -> Any:
    """The jaxpr of a jitted function."""
    if equation.primitive.name not in ("jit", "pjit"):
        return None
    return equation.params["jaxpr"]


def _convolution(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `jax.lax.conv_general_dilated` out of an equation."""
    kept = {name: value for name, value in params.items() if name != "out_sharding"}
    # What a convolution of float32 gives by itself.
    if kept.get("preferred_element_type") == jnp.float32:
        kept["preferred_element_type"] = None
    # JAX 0.7 has NumPy's integers there.
    kept["padding"] = tuple((int(before), int(after)) for before, after in params["padding"])
    return kept


def _has_product(jaxpr: Any) -> bool:
    return any(
        _is_product(equation)
        or equation.primitive.name == "conv_general_dilated"
        or ((inner := _inner(equation)) is not None and _has_product(inner.jaxpr))
        for equation in jaxpr.eqns
    )


def _is_product(equation: Any) -> bool:
    if equation.primitive.name != "dot_general":
        return False
    rows, kernel = (atom.aval for atom in equation.invars)
    params = equation.params
    (contracted, batched) = params["dimension_numbers"]
    dimensions = tuple(map(tuple, contracted)), tuple(map(tuple, batched))
    return (
        rows.ndim == kernel.ndim == 2
        and dimensions == _PLAIN
        and kernel.shape[1] >= MIN_OUTPUTS
        and rows.dtype == kernel.dtype == jnp.float32
        and params.get("precision") is None
        and params.get("preferred_element_type") in (None, jnp.float32)
        and params.get("out_sharding") is None
    )
