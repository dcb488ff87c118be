"""Equations evaluated on padded arrays give what JAX gives; random numbers; products in passes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lab.core.compilation import _FAST_COMPILE
from jaxopt_lab.core.executors import kernel, pallas
from jaxopt_lab.core.executors.evaluation import Traced
from jaxopt_lab.core.executors.fitting import PRECISIONS
from jaxopt_lab.core.executors.noise import COUNTER, THREEFRY
from jaxopt_lab.core.executors.padding import Padded, from_padded, to_padded
from jaxopt_lab.core.executors.values import Context, as_padded
from jaxopt_lab.core.tracing.equations import needed
from jaxopt_lab.models.products import product

pytestmark = [
    pytest.mark.usefixtures("full_precision"),
    pytest.mark.skipif(
        jax.__version_info__ < kernel.OLDEST_JAX, reason="the kernel needs a later JAX"
    ),
]
R = np.random.default_rng(0)
X, NARROW = (R.standard_normal((32, n)).astype(np.float32) for n in (5, 3))
WIDE, HEAD = (R.standard_normal((5, n)).astype(np.float32) for n in (20, 3))
LABELS = (np.arange(32) % 5).astype(np.int32)
KEY = np.asarray([3, 7], np.uint32)


def _cross_entropy(x: Any, labels: Any) -> Any:
    losses = optax.softmax_cross_entropy_with_integer_labels(x, labels % x.shape[1])
    return losses.mean()


def _normalised(x: Any) -> Any:
    centred = x - x.mean(1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)


def _draws(data: Any) -> Any:
    key = jax.random.wrap_key_data(data, impl="threefry2x32")
    one, other = jax.random.split(jax.random.fold_in(key, 11))
    dropped = jax.random.bernoulli(one, 0.7, (32, 5))
    return dropped, jax.random.bits(other, (32, 3), jnp.uint16), jax.random.normal(one, (5, 3))


CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "cross entropy": (jax.value_and_grad(_cross_entropy), (X, LABELS)),
    "cross entropy of few": (jax.value_and_grad(_cross_entropy), (NARROW, LABELS)),
    "softmax": (lambda x: jax.nn.softmax(x * 3), (X,)),
    "columns": (jax.grad(lambda x: (x[:, 2] * x[:, -1] + x[:, :1][:, 0]).sum()), (X,)),
    "extremes": (lambda x: (x.max(1), x.min(0), x.argmax(1), x.argmin(0)), (-jnp.abs(X) - 1,)),
    "all and any": (lambda x: ((x > -9).all(1), (x > 9).any(), jnp.isfinite(x).all()), (X,)),
    "sums of what padding makes infinite": (lambda x: ((1 / x).sum(1), jnp.log(x).mean()), (X**2,)),
    "layer norm": (jax.grad(lambda x: (_normalised(x) ** 3).sum()), (X,)),
    "products": (
        jax.value_and_grad(lambda w, h, x: jnp.sum(jnp.tanh(x @ w).sum() * (x @ h) ** 2), (0, 1)),
        (WIDE, HEAD, X),
    ),
    "products of padded garbage": (lambda x, w: jnp.exp(x) @ jnp.cos(w), (X, WIDE)),
    "vectors": (lambda x, w: (x[0] @ w, x @ w[:, 3], x[1] @ x[2]), (X, WIDE)),
    "a product that asks for the platform": (jax.grad(lambda w, x: product(x, w).sum()), (WIDE, X)),
    "branches": (
        lambda x, i: jax.lax.switch(i, [jnp.sin, jnp.cos, lambda x: x * 0 + 1], x),
        (X, np.int32(2)),
    ),
    "no number stays none": (
        lambda x: (jax.nn.relu(x), jnp.minimum(1.0, x)),
        (np.where(X > 0, X, np.nan),),
    ),
    "shapes": (lambda x: (x.T[None], x.reshape(32, 1, 5), jnp.squeeze(x[:, None])), (X,)),
    "whole sizes": (lambda x: x.reshape(-1), (np.ones((2, 16), np.float32),)),
    "powers of nothing": (
        lambda x: (jax.lax.integer_pow(jnp.zeros((2, 16)), -1), x**-1),
        (np.ones((2, 16), np.float32),),
    ),
    "rounded": (
        lambda x: (jnp.round(x), jax.lax.round(x, jax.lax.RoundingMethod.AWAY_FROM_ZERO)),
        (np.concatenate([3 * X, np.arange(-5, 5).reshape(2, 5) / np.float32(2)]),),
    ),
    "choices by a number": (
        lambda x, i: [
            jnp.select([i == k for k in range(n)], [jnp.sin(x), jnp.cos(x), x][:n], 1.0 - x)
            for n in (1, 2, 3)
        ],
        (X, np.int32(1)),
    ),
    "integers": (lambda n: (n // 3, n % 7, n << 2, ~n, jnp.clip(n, 1, 3)), (LABELS,)),
    "random numbers": (_draws, (KEY,)),
}


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    """All cases on padded arrays and as they are, compiled together."""

    def one(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        traced = Traced(function, *arguments)
        context = Context(None, THREEFRY, num_rows=32, first_row=np.uint32(0))
        padded = [Padded(to_padded(jnp.asarray(x)), np.shape(x), True) for x in arguments]
        constants = [Padded(to_padded(jnp.asarray(x)), x.shape, True) for x in traced.constants]
        found = jax.tree.map(as_padded, traced(context, constants, *padded))
        return jax.tree.map(lambda x: from_padded(x.array, x.shape), found)

    def every(given: Any) -> Any:
        expected = {name: function(*given[name]) for name, (function, _) in CASES.items()}
        found = {name: one(function, given[name]) for name, (function, _) in CASES.items()}
        return found, expected

    given = {name: jax.tree.map(jnp.asarray, arguments) for name, (_, arguments) in CASES.items()}
    options: Any = _FAST_COMPILE if jax.default_backend() == "cpu" else None
    results: tuple[Any, Any] = jax.jit(every).lower(given).compile(options)(given)
    return results


@pytest.mark.parametrize("name", CASES)
def test_padded_arrays_give_what_the_function_gives(both: tuple[Any, Any], name: str) -> None:
    found, expected = both[0][name], both[1][name]
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, expected
    )


def test_rows_of_a_later_chunk_get_the_noise_of_their_minibatch() -> None:
    whole = jax.random.bits(jax.random.wrap_key_data(KEY, impl="threefry2x32"), (64, 3))

    def draw(data: Any) -> Any:
        return jax.random.bits(jax.random.wrap_key_data(data, impl="threefry2x32"), (32, 3))

    context = Context(None, THREEFRY, num_rows=32, first_row=np.uint32(32))
    found = jax.jit(lambda: Traced(draw, KEY)(context, [], Padded(jnp.asarray(KEY), (2,))).array)()
    np.testing.assert_array_equal(np.asarray(found)[:, :3], whole[32:])


def test_counters_make_random_numbers() -> None:
    """Bits are even, and independent of their neighbours, in another step, trial and place."""
    count = 2**14

    def draws() -> Any:
        counters = jnp.arange(count, dtype=jnp.uint32)
        base = (jnp.uint32(1), jnp.uint32(2))
        streams = [COUNTER.fold_in(base, jnp.uint32(i)) for i in range(4)]
        streams += [(jnp.uint32(1), jnp.uint32(3)), (jnp.uint32(2), jnp.uint32(2)), base]
        return jnp.stack([COUNTER.bits(key, counters) for key in streams])

    words = np.asarray(jax.jit(draws)())
    bits = (words[:, :, None] >> np.arange(32, dtype=np.uint32) & 1) * 2.0 - 1
    five_sigmas = 5 / np.sqrt(count)
    assert np.abs(bits.mean(1)).max() < five_sigmas
    assert np.abs((bits[:, 1:] * bits[:, :-1]).mean(1)).max() < five_sigmas
    assert np.abs((bits[:, 16:] * bits[:, :-16]).mean(1)).max() < five_sigmas
    for i in range(len(bits)):
        for j in range(i):
            assert np.abs((bits[i] * bits[j]).mean(0)).max() < five_sigmas
    rates = (words >> 16).astype(np.float64) / 2**16 < 0.2
    assert np.abs(rates.mean(1) - 0.2).max() < 5 * np.sqrt(0.16 / count)


#: Arithmetic -> bits of the significand of a part, parts, and which of their products are taken.
_PASSES = {
    "bf16x3": (8, 2, {(0, 0), (0, 1), (1, 0)}),
    "bf16x6": (8, 3, {(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)}),
    "tf32x3": (11, 2, {(0, 0), (0, 1), (1, 0)}),
    "tf32": (11, 1, {(0, 0)}),
    "bfloat16": (8, 1, {(0, 0)}),
}
#: Bound of what is cut off, as a share of the sum of a product's terms' sizes. A rounding of
#: float32 for each term and pass comes on top, as in any product.
_BOUNDS = {
    "bf16x3": 3 * 2.0**-18,
    "bf16x6": 2.0**-25,
    "tf32x3": 3 * 2.0**-24,
    "tf32": 2.0**-11,
    "bfloat16": 2.0**-8,
}


def _parts(x: np.ndarray, bits: int, number: int) -> list[np.ndarray]:
    """A sum of numbers of few bits, greatest first, rounded to nearest."""
    found, left = [], x.astype(np.float32)
    for _ in range(number):
        fraction, exponent = np.frexp(left)
        part = np.ldexp(np.round(np.ldexp(fraction, bits)), exponent - bits).astype(np.float32)
        found.append(part)
        left = left - part
    return found


@pytest.mark.parametrize("precision", ["float32", *_PASSES])
def test_a_product_in_passes_is_as_near_to_float64_as_is_said(precision: str) -> None:
    bits, number, taken = _PASSES[PRECISIONS[precision]]
    a, b = (R.standard_normal(shape).astype(np.float32) for shape in ((32, 64), (64, 64)))
    left, right = _parts(a, bits, number), _parts(b, bits, number)
    # Least first, as a kernel adds them; sums are of float32.
    passes = sorted(taken, key=lambda pair: -sum(pair))
    product = np.zeros((32, 64), np.float32)
    for i, j in passes:
        product = product + left[i] @ right[j]
    size = np.abs(a).astype(np.float64) @ np.abs(b)
    error = np.abs(product - a.astype(np.float64) @ b) / size
    bound = _BOUNDS[PRECISIONS[precision]] + 64 * len(taken) * 2.0**-24
    assert error.max() < bound
    if number == 1:
        assert error.max() > 1e-6  # one pass is no float32


def _of_padded(function: Callable[..., Any], *arguments: Any) -> Any:
    """The equations that a kernel computes a function with, those without use left out."""
    traced = Traced(function, *arguments)

    def evaluate(*given: Any) -> Any:
        padded = jax.tree.map(lambda x: Padded(x, x.shape, True), given)
        return jax.tree.map(lambda x: as_padded(x).array, traced(Context(None), [], *padded))

    jaxpr = jax.make_jaxpr(evaluate)(*arguments).jaxpr
    return [equation.primitive.name for equation in needed(jaxpr.eqns, jaxpr.outvars, ())]


def test_the_norm_of_a_gradient_is_one_reduction_for_each_shape() -> None:
    gradient = [jnp.ones(shape) for shape in ((16, 16), (16,), (16, 16), (16,), (16, 16))]
    assert _of_padded(optax.tree.norm, gradient).count("reduce_sum") == 2


def test_adamw_is_computed_in_few_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both moments, decay and the step are products that are added: one instruction each."""
    calls = []

    def fma(a: Any, b: Any, c: Any, plain: bool) -> Any:
        calls.append(plain)
        return a * b + c

    monkeypatch.setattr(pallas, "fma", fma)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.1))
    weights = jnp.ones((16, 16))

    def step(gradient: Any, state: Any, weights: Any) -> Any:
        updates, state = optimizer.update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state

    names = _of_padded(step, weights, optimizer.init(weights), weights)
    assert len(calls) == 4
    # By the root of the second moment; scalars are turned over once.
    assert names.count("div") <= 4


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="only a GPU multiplies in passes")
@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize("precision", ["float32", *_PASSES])
def test_a_gpu_multiplies_as_exactly_as_is_said(precision: str, by_parts: bool) -> None:
    a, b = (R.standard_normal(shape).astype(np.float32) for shape in ((3, 32, 64), (64, 64)))
    name = PRECISIONS[precision]

    def body(left: Any, right: Any, result: Any) -> None:
        dimensions = (((1,), (0,)), ((), ()))
        result[0] = pallas.product(left[0], right[...], dimensions, name, by_parts)

    like = jax.ShapeDtypeStruct((3, 32, 64), jnp.float32)
    (found,) = jax.jit(lambda a, b: pallas.launch(body, 3, [a], [b], [like], 4, False))(a, b)
    size = np.abs(a).astype(np.float64) @ np.abs(b)
    error = np.abs(np.asarray(found) - a.astype(np.float64) @ b) / size
    assert error.max() < _BOUNDS[name] + 64 * len(_PASSES[name][2]) * 2.0**-24
