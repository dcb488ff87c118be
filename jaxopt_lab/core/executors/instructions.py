"""Elementwise equations in as few instructions as a GPU has for them.

An update of Adam is most of what a kernel of a small network executes. JAX's lowering multiplies
and adds in two instructions, and spends as many again on subnormal numbers in quotients and roots.
Here a product and a sum are one, a quotient by a scalar is a product, sums of squares of arrays of
one shape are one reduction; subnormal numbers count as zero in roots and quotients.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.executors import pallas
from jaxopt_lab.core.executors.padding import Padded, padded_shape
from jaxopt_lab.core.executors.values import Context


class Product(NamedTuple):
    """The factors of an array, which a later sum may take."""

    a: Any
    b: Any


class Constant(NamedTuple):
    """The number that all entries of an array are."""

    number: Any


class Total(NamedTuple):
    """The arrays whose sum a scalar is, one for each shape."""

    terms: tuple[Padded, ...]


class Found(NamedTuple):
    """An array, and what it was computed from, for equations after it."""

    array: Any
    made_of: Any = None


def compute(context: Context, equation: Any, values: list[Padded]) -> Found | None:
    """The result of an elementwise equation of float32; None where JAX's lowering is as good."""
    name, shape = equation.primitive.name, tuple(equation.outvars[0].aval.shape)
    if any(value.dtype != jnp.float32 for value in values):
        return None
    if shape == ():
        return _of_scalars(context, name, values)
    plain, whole = context.precision is None, padded_shape(shape)

    def full(array: Any) -> Any:
        return jnp.broadcast_to(jnp.asarray(array, jnp.float32), whole)

    def fused(factors: Product, other: Any) -> Found:
        return Found(pallas.fma(full(factors.a), full(factors.b), full(other), plain))

    x, y = (*values, None)[:2]
    assert x is not None
    if name in ("square", "integer_pow"):
        power = 2 if name == "square" else equation.params["y"]
        if power == 1 or (power > 0 and _is_number(x, 0)):
            return Found(x.array, x.made_of)
        return Found(x.array * x.array, Product(x.array, x.array)) if power == 2 else None
    if name == "sqrt":
        return Found(pallas.root(x.array, plain))
    if name == "neg":
        factors = x.made_of
        turned = Product(-factors.a, factors.b) if isinstance(factors, Product) else None
        return Found(-x.array, turned)
    if y is None:
        return None
    if name == "mul":
        return _product(x, y, whole)
    if name == "div":
        if y.shape == ():
            share = 1 / jnp.asarray(y.array)
            return Found(x.array * share, Product(x.array, share))
        return Found(pallas.quotient(full(x.array), full(y.array), plain))
    if name in ("add", "add_any", "sub"):
        for one, other in ((x, y), (y, x)):
            if _is_number(other, 0) and one.shape == shape and not (name == "sub" and one is y):
                return Found(full(one.array), one.made_of)
        if isinstance(y.made_of, Product):
            factors = y.made_of
            turned = Product(-factors.a, factors.b) if name == "sub" else factors
            return fused(turned, x.array)
        if isinstance(x.made_of, Product):
            return fused(x.made_of, -y.array if name == "sub" else y.array)
    return None


def _is_number(value: Padded, number: float) -> bool:
    made_of = value.made_of
    found = made_of.number if isinstance(made_of, Constant) else value.array
    return isinstance(found, np.generic) and bool(found == number)


def _product(x: Padded, y: Padded, whole: tuple[int, ...]) -> Found:
    for one, other in ((x, y), (y, x)):
        if np.shape(one.array) != whole:
            continue
        if _is_number(other, 1):
            return Found(one.array, one.made_of)
        if _is_number(other, -1):
            return Found(-one.array)
        factors = one.made_of
        if other.shape == () and isinstance(factors, Product) and np.shape(factors.b) == ():
            # Numbers first: t / norm * limit is one product for each entry.
            share = factors.b * other.array
            return Found(factors.a * share, Product(factors.a, share))
    # A factor that is a number comes last.
    a, b = (y, x) if x.shape == () else (x, y)
    return Found(x.array * y.array, Product(a.array, b.array))


def _of_scalars(context: Context, name: str, values: list[Padded]) -> Found | None:
    """Sums of sums, as the norm of a gradient is one."""
    if name not in ("add", "add_any"):
        return None
    x, y = values
    for one, other in ((x, y), (y, x)):
        if _is_number(other, 0):
            return Found(one.array, one.made_of)
    if not (isinstance(x.made_of, Total) and isinstance(y.made_of, Total)):
        return None
    terms = {term.shape: term for term in x.made_of.terms}
    for term in y.made_of.terms:
        terms[term.shape] = _sum(context, terms[term.shape], term) if term.shape in terms else term
    found = tuple(terms.values())
    return Found(sum(term.array.sum() for term in found), Total(found))


def _sum(context: Context, x: Padded, y: Padded) -> Padded:
    factors = y.made_of
    if isinstance(factors, Product):
        a, b = (jnp.broadcast_to(array, padded_shape(y.shape)) for array in factors)
        array = pallas.fma(a, b, x.array, context.precision is None)
    else:
        array = x.array + y.array
    return Padded(array, x.shape, True)
