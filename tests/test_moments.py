"""The gated moments against Optax's own. `test_engine` holds what they are for."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab.problems.mlp import moments
from jaxopt_lab.problems.mlp.hyperparameters import (
    MERGEABLE,
    OPTIMIZERS,
    complete,
    num_moments,
    traced,
    traced_rows,
)
from jaxopt_lab.problems.mlp.moments import Gate

NUM_TRIALS, NUM_STEPS = 3, 30
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def hparams_of(name: str) -> dict[str, Any]:
    """[NUM_TRIALS] each."""
    configs = [
        complete({"optimizer": name, "momentum": m, "b1": m, "b2": b2, "eps": e})
        for m, b2, e in [(0.9, 0.999, 1e-8), (0.5, 0.9, 1e-3), (0.0, 0.99, 1e-6)]
    ]
    return {k: jnp.stack([jnp.asarray(traced(c)[k]) for c in configs]) for k in traced(configs[0])}


@functools.cache
def training(name: str, is_gated: bool) -> Callable[..., Any]:
    """One program for any number of steps, whoever is alive: weights and state."""

    def start(w: Any, h: Any) -> Any:
        return moments.transformation(name, h).init(w)

    def one(w: Any, state: Any, h: Any, is_alive: Any, has_rows: Any) -> Any:
        gate = Gate(is_alive, has_rows) if is_gated else None
        updates, state = moments.gated([name], h, gate).update(w * 2.0, state, w)
        return jnp.where(is_alive, w - 0.01 * updates, w), state

    @jax.jit
    def loop(w: Any, h: Any, alive: Any, steps: Any, num_rows: Any) -> Any:
        def body(_: Any, carry: Any) -> Any:
            return jax.vmap(one, in_axes=(0, 0, 0, 0, None))(*carry, h, alive, num_rows > 0)

        return jax.lax.fori_loop(0, steps, body, (w, jax.vmap(start)(w, h)))

    return loop


def train(
    name: str, weights: Any, is_gated: bool, alive: Any = None, steps: int = NUM_STEPS
) -> Any:
    """Steps on a quadratic: weights and state; a trial that is not alive stands still."""
    alive = jnp.ones((NUM_TRIALS,), bool) if alive is None else alive
    return training(name, is_gated)(
        weights, hparams_of(name), alive, jnp.int32(steps), jnp.int32(1)
    )


def weights() -> Any:
    return jax.random.normal(jax.random.key(0), (NUM_TRIALS, 8, 8))


SETS = [
    ("adam", "adamw"),
    ("sgd", "momentum"),
    ("sgd", "rmsprop"),
    ("momentum", "adamw"),
    ("nesterov", "rmsprop"),
    MERGEABLE,
]


@pytest.mark.parametrize("gated", [False, True], ids=["Optax alone", "gated"])
@pytest.mark.parametrize("names", SETS, ids=".".join)
def test_optimizers_together_make_the_updates_of_each(names: Any, gated: bool) -> None:
    start = weights()[0]

    def train_one(names: Any, hparams: Any, chain: Any) -> Any:
        state = chain.init(start)

        def body(_: Any, carry: Any) -> Any:
            w, state = carry
            updates, state = chain.update(w * 2.0, state, w)
            return w - 0.01 * updates, state

        return jax.lax.fori_loop(0, NUM_STEPS, body, (start, state))[0]

    def merged(hparams: Any) -> Any:
        gate = Gate(jnp.asarray(True), hparams["learning_rate"] > 0) if gated else None
        return train_one(names, hparams, moments.gated(names, hparams, gate))

    rows = [complete({"optimizer": name, "momentum": 0.7, "b1": 0.8, "b2": 0.9}) for name in names]
    hparams = {k: jnp.asarray(v) for k, v in traced_rows(rows).items()}
    found = jax.jit(jax.vmap(merged))(hparams)
    for i, name in enumerate(names):
        own = {k: v[i] for k, v in hparams.items()}
        expected = train_one(name, own, moments.transformation(name, own))
        np.testing.assert_allclose(found[i], expected, rtol=2e-5, atol=1e-6)


def test_a_large_gradient_of_one_optimizer_does_not_overflow_in_the_moments_of_another() -> None:
    hparams = {k: jnp.asarray(v) for k, v in traced(complete({"optimizer": "momentum"})).items()}
    chain = moments.together(["momentum", "adam"], hparams)
    updates, state = chain.update(jnp.float32(1e30), chain.init(jnp.float32(0)))
    assert float(updates) == pytest.approx(1e30)
    assert float(state.second) == 0.0


def test_the_number_of_moments_is_that_of_the_state() -> None:
    hparams = {k: jnp.asarray(v) for k, v in traced(complete({})).items()}
    for names in [*([name] for name in OPTIMIZERS), *SETS]:
        state = moments.gated(names, hparams).init(jnp.zeros(7))
        kept = sum(leaf.size == 7 for leaf in jax.tree.leaves(state))
        assert kept == num_moments(names)


@each_optimizer
def test_a_gate_changes_no_number_beyond_rounding(name: str) -> None:
    found = train(name, weights(), is_gated=True)
    expected = train(name, weights(), is_gated=False)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@each_optimizer
def test_moments_of_a_trial_that_is_not_alive_stand_still(name: str) -> None:
    alive = jnp.array([True, False, True])
    _, before = train(name, weights(), is_gated=True, steps=0)
    _, frozen = train(name, weights(), is_gated=True, alive=alive)
    _, moved = train(name, weights(), is_gated=True)
    leaves = zip(*map(jax.tree.leaves, (before, frozen, moved)), strict=True)
    for start, found, free in leaves:
        assert np.array_equal(found[1], start[1])
        assert np.array_equal(found[0], free[0])
        assert np.array_equal(found[2], free[2])
    assert name == "sgd" or not np.array_equal(jax.tree.leaves(moved)[-1][1], before[-1][1])
