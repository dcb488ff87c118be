"""Updates cut in two are Optax's own; products exchanged are XLA's own; a CPU copies no state."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supervised_harness import hparams_of, init, shared_of

from jaxopt_lab.problems.supervised import in_place, products, supervised

_CHAINS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "clipped adamw": lambda rate: optax.chain(
        optax.clip_by_global_norm(0.1 + rate), optax.adamw(rate)
    ),
    "amsgrad": optax.amsgrad,
    "rmsprop": lambda rate: optax.rmsprop(rate, momentum=0.5),
    "lion": optax.lion,
    "lamb": optax.lamb,
    "adafactor": lambda rate: optax.adafactor(rate, min_dim_size_to_factor=4),
    "multi-steps": lambda rate: optax.MultiSteps(
        optax.adam(rate), every_k_schedule=2
    ).gradient_transformation(),
    "schedule-free": lambda rate: optax.contrib.schedule_free_adamw(rate),
    "momo": lambda rate: optax.contrib.momo(rate),
    "plateau": lambda rate: optax.chain(
        optax.adam(rate), optax.contrib.reduce_on_plateau(patience=1)
    ),
    "masked": lambda rate: optax.partition(
        {"kernel": optax.adam(rate), "bias": optax.sgd(rate)},
        {"kernel": "kernel", "bias": "bias"},
    ),
    "muon": lambda rate: optax.contrib.muon(rate),
}


@pytest.mark.parametrize("name", _CHAINS)
def test_an_update_in_two_is_optaxs(name: str) -> None:
    random = np.random.default_rng(0)
    params = {
        "kernel": random.standard_normal((3, 6, 5)).astype(np.float32),
        "bias": random.standard_normal((3, 5)).astype(np.float32),
    }
    rates = jnp.asarray([1e-2, 1e-3, 3e-2])
    state = jax.jit(jax.vmap(lambda params, rate: _CHAINS[name](rate).init(params)))(params, rates)

    def plain(rate: Any, gradient: Any, state: Any, params: Any) -> Any:
        chain = optax.with_extra_args_support(_CHAINS[name](rate))
        updates, new = chain.update(gradient, state, params, value=rate)
        new = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), new, state)
        return optax.apply_updates(params, updates), new

    def ours(rate: Any, gradient: Any, state: Any, params: Any, has_rows: Any) -> Any:
        return in_place.update_in_place(
            lambda *args: plain(rate, *args), has_rows, gradient, state, params
        )

    in_two = jax.jit(jax.vmap(ours, (0, 0, 0, 0, None)))
    whole = jax.jit(jax.vmap(plain))
    found, expected = (params, state), (params, state)
    for step in range(5):
        gradient = jax.tree.map(lambda w, s=step: np.cos(w * (s + 1)).astype(np.float32), params)
        found = in_two(rates, gradient, found[1], found[0], jnp.asarray(True))
        expected = whole(rates, gradient, expected[1], expected[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, expected
    )
    still = in_two(rates, gradient, found[1], found[0], jnp.asarray(False))
    jax.tree.map(np.testing.assert_array_equal, still, found)


def test_no_update_of_a_chain_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut itself works: `update_in_place` would hide its failure."""
    params = {"kernel": jnp.ones((6, 5)), "bias": jnp.ones(5)}
    for name, make in _CHAINS.items():
        state = jax.eval_shape(make(1e-2).init, params)

        def update(gradient: Any, state: Any, params: Any, make: Any = make) -> Any:
            chain = optax.with_extra_args_support(make(1e-2))
            updates, new = chain.update(gradient, state, params, value=jnp.ones(()))
            return optax.apply_updates(params, updates), new

        closed = jax.make_jaxpr(update)(params, state, params)
        cut = in_place._cut(closed.jaxpr, 2, len(jax.tree.leaves(state)))
        leaves = [jax.tree.leaves(part) for part in (params, state, params)]
        found = jax.eval_shape(partial(in_place._run, cut, closed), jnp.asarray(True), *leaves)
        assert len(found) == len(closed.jaxpr.outvars), name


def test_the_norm_that_clips_is_computed_once() -> None:
    params = {"kernel": jnp.ones((6, 5))}

    def update(gradient: Any, state: Any, params: Any) -> Any:
        chain = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, 0.9, nesterov=True))
        updates, new = chain.update(gradient, state, params)
        return optax.apply_updates(params, updates), new

    state = jax.tree.map(jnp.asarray, optax.sgd(0.1, 0.9).init(params))
    state = (optax.EmptyState(), state)
    closed = jax.make_jaxpr(update)(params, state, params)
    cut = in_place._cut(closed.jaxpr, 1, len(jax.tree.leaves(state)))
    assert "reduce_sum" in [e.primitive.name for e in cut.first]
    assert "reduce_sum" not in [e.primitive.name for e in [*cut.moving, *cut.rest]]


def _dense(params: Any, x: Any) -> Any:
    x = jax.nn.relu(x @ params["first"] + params["bias"])
    return jax.jit(lambda x: x @ params["second"])(x).sum() + jnp.sum(params["first"] @ x.T)


def test_products_are_exchanged_and_change_nothing() -> None:
    random = np.random.default_rng(0)
    shapes = {"first": (4, 6, 32), "bias": (4, 32), "second": (4, 32, 16)}
    params = {name: random.standard_normal(shape).astype(np.float32)
              for name, shape in shapes.items()}  # fmt: skip
    x = random.standard_normal((8, 6)).astype(np.float32)

    def mean(params: Any, x: Any) -> Any:
        hidden = jax.nn.relu(x @ params["first"] + params["bias"])
        return (jax.jit(jnp.matmul)(hidden, params["second"]) ** 2).mean()

    fast = products.with_fast_products(mean)
    assert "custom_vjp" in str(jax.make_jaxpr(fast)(jax.tree.map(lambda p: p[0], params), x))
    found = jax.jit(jax.vmap(jax.value_and_grad(fast), (0, None)))(params, x)
    expected = jax.jit(jax.vmap(jax.value_and_grad(mean), (0, None)))(params, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_convolutions_are_exchanged_and_change_nothing() -> None:
    random = np.random.default_rng(0)
    kernels = random.standard_normal((3, 3, 3, 2, 16)).astype(np.float32)
    x = random.standard_normal((4, 6, 5, 2)).astype(np.float32)

    def mean(kernel: Any, x: Any) -> Any:
        names = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(x, kernel, (1, 2), "SAME", dimension_numbers=names)
        return (jax.nn.relu(out) ** 2).mean()

    fast = products.with_fast_products(mean)
    assert "platform_index" in str(jax.make_jaxpr(fast)(kernels[0], x))
    found = jax.jit(jax.vmap(jax.value_and_grad(fast), (0, None)))(kernels, x)
    expected = jax.jit(jax.vmap(jax.value_and_grad(mean), (0, None)))(kernels, x)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_run_again_is_called_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr("jaxopt_lab.core.tracing.equations.run", broken)
    params, x = {"kernel": jnp.ones((4, 32))}, jnp.ones((3, 4))
    fast = products.with_fast_products(lambda params, x: (x @ params["kernel"]).sum())
    assert fast(params, x) == 3 * 4 * 32

    def update(gradient: Any, state: Any, params: Any) -> Any:
        return jax.tree.map(lambda p, g: p - g, params, gradient), state

    found, _ = in_place.update_in_place(update, jnp.asarray(True), params, jnp.zeros(2), params)
    np.testing.assert_array_equal(found["kernel"], 0.0)
    found, _ = in_place.update_in_place(update, jnp.asarray(False), params, jnp.zeros(2), params)
    np.testing.assert_array_equal(found["kernel"], 1.0)


@pytest.mark.usefixtures("as_users_compile")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="looks at the CPU's program")
def test_a_step_copies_neither_weights_nor_moments() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.relu(nn.Dense(48)(x))
            return nn.Dense(1)(nn.relu(nn.Dense(48)(x)))[..., 0]

    x = np.ones((64, 8), np.float32)
    problem = supervised(Net, (x, x[:, 0]), loss=optax.squared_error, splits=None)
    hparams = hparams_of(learning_rate=[1e-3] * 5)
    step = jax.jit(jax.vmap(problem.build().step, (0, 0, None)), donate_argnums=0)
    args = (init(problem, hparams), hparams, shared_of(problem, 0, 1))
    text = step.lower(*args).compile().as_text()
    loops = [part for part in text.split("\n\n") if "f32[5,48,48]" in part.partition("{")[0]]
    assert loops
    for body in loops:
        assert not re.findall(r"f32\[5,48,48\]\S* copy\(", body)
