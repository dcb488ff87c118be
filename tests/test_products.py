"""The dense layer's product: values and all derivatives are those of `@`."""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab.models import products

pytestmark = pytest.mark.usefixtures("full_precision")


def operands(rows: int, n: int, m: int) -> tuple[Any, Any]:
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (rows, n)), jax.random.normal(keys[1], (n, m))


def plain(x: Any, w: Any) -> Any:
    return x @ w


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 5), (32, 64, 64), (8, 80, 64), (90, 80, 64)])
def test_value_gradient_and_curvature_are_those_of_the_plain_product(shape: Any) -> None:
    x, w = operands(*shape)

    def of(f: Any) -> Any:
        @jax.jit
        def all_three(x: Any, w: Any) -> Any:
            slope = jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))
            return f(x, w), slope(x, w), jax.jvp(slope, (x, w), (jnp.cos(x), jnp.cos(w)))[1]

        return all_three(x, w)

    for a, b in zip(*map(jax.tree.leaves, (of(products.product), of(plain))), strict=True):
        # Sums of some fifty terms of that size: on a GPU small ones differ by more of their own.
        largest = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("in_axes", [(None, 0), (0, 0)])
def test_it_batches(in_axes: Any) -> None:
    x, w = operands(7, 4, 20)
    w = jnp.stack([w, 2 * w, -w])
    x = x if in_axes[0] is None else jnp.stack([x, x + 1, x * 2])

    def slopes(f: Any) -> Any:
        slope = jax.grad(lambda x, w: (f(x, w) ** 2).sum(), (0, 1))
        return jax.jit(jax.vmap(slope, in_axes))(x, w)

    for a, b in zip(slopes(products.product), slopes(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("rows", "outputs"), [((7,), 20), ((7,), 2), ((2, 7), 20)])
def test_a_layer_with_it_is_a_dense_layer(rows: Any, outputs: int) -> None:
    x = jax.random.normal(jax.random.key(0), (*rows, 5))
    ours, theirs = nn.Dense(outputs, dot_general=products.dot_general), nn.Dense(outputs)
    params = theirs.init(jax.random.key(1), x)
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), rtol=1e-6)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_product_that_is_not_wanted_is_zero_and_so_are_its_gradients(wanted: bool) -> None:
    x, w = operands(7, 4, 20)
    w, flag = jnp.stack([w, 2 * w]), jnp.asarray(wanted)

    def value(w: Any) -> Any:
        return products.product_if(flag, x, w)

    def slopes(x: Any, w: Any) -> Any:
        return jax.grad(lambda x, w: (products.product_if(flag, x, w) + 1).sum(), (0, 1))(x, w)

    np.testing.assert_allclose(jax.vmap(value)(w), wanted * (x @ w), rtol=1e-5, atol=1e-6)
    expected = jax.vmap(jax.grad(lambda x, w: (x @ w).sum(), (0, 1)), (None, 0))(x, w)
    for a, b in zip(jax.vmap(slopes, (None, 0))(x, w), expected, strict=True):
        np.testing.assert_allclose(a, wanted * b, rtol=1e-5, atol=1e-6)


def test_a_product_in_a_branch_can_be_differentiated_twice() -> None:
    x, w = operands(7, 64, 80)

    def curvature(f: Any) -> Any:
        slope = jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))
        return jax.jit(lambda *at: jax.jvp(slope, at, (jnp.cos(x), jnp.cos(w)))[1])(x, w)

    found = curvature(lambda x, w: products.product_if(jnp.asarray(True), x, w))
    for a, b in zip(found, curvature(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("as_users_compile")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
def test_a_branch_copies_no_kernel() -> None:
    """Differentiated as it stands, a branch returns its kernel for the gradient."""
    x, w = operands(7, 64, 80)

    def slopes(flag: Any, x: Any, w: Any) -> Any:
        return jax.grad(lambda x, w: products.product_if(flag, x, w).sum(), (0, 1))(x, w)

    text = jax.jit(slopes).lower(jnp.asarray(True), x, w).compile().as_text()
    assert "conditional(" in text
    assert not re.findall(r"copy[\w.]* = f32\[64,80\]\S* copy\(", text[: text.index("ENTRY")])
