"""One conformance suite for every optimizer: against the printed Optax code and Optax's own."""

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lab.problems.mlp import optimizers, schedules
from jaxopt_lab.problems.mlp.hyperparameters import OPTIMIZERS, complete, features_of, traced

ALL = frozenset({"l1", "l2", "clip_value", "clip_norm", "agc", "adagc", "weight_decay"})
STEPS_PER_EPOCH, NUM_EPOCHS = 5, 4
NUM_STEPS = STEPS_PER_EPOCH * NUM_EPOCHS
NUM_TRACES: dict[tuple, int] = {}

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def make_params() -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def dense(n: int, m: int) -> dict[str, Any]:
        kernel = rng.normal(size=(n, m)).astype(np.float32)
        kernel[0, 0] = 0.0  # the kink of the l1 penalty
        return {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(rng.normal(size=m), jnp.float32)}

    return {"hidden_0": dense(3, 4), "output": dense(4, 2)}


def make_gradients(scale: float = 1.0) -> Any:
    """A made-up gradient per step; they come to mean zero, with one entry exactly zero."""
    rng = np.random.default_rng(1)
    return [
        jax.tree.map(
            lambda p: jnp.asarray(scale * rng.normal(size=p.shape), jnp.float32).at[0].set(0.0),
            make_params(),
        )
        for _ in range(NUM_STEPS)
    ]


def run_ours(
    config: dict[str, Any], features: frozenset[str] = ALL, gradients: Any = None
) -> list[Any]:
    """Parameters after each step, by `build` under jit with every value traced."""
    biases = config["penalize_biases"]
    key = (config["optimizer"], features, biases)
    stacked = jax.tree.map(lambda *g: jnp.stack(g), *(gradients or make_gradients()))
    hparams = {k: jnp.asarray(v) for k, v in traced(config).items()}
    return jax.device_get(_loop(hparams, stacked, key))


@partial(jax.jit, static_argnums=2)
def _loop(hparams: Any, gradients: Any, key: tuple) -> Any:
    NUM_TRACES[key] = NUM_TRACES.get(key, 0) + 1
    name, features, biases = key

    def chain(step: Any) -> optax.GradientTransformation:
        rate = schedules.multiplier(hparams, step, jnp.float32(NUM_STEPS))
        return optimizers.build([name], hparams, features, rate, biases)

    def one(carry: Any, gradient: Any) -> Any:
        params, state, step = carry
        updates, state = chain(step).update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state, step + 1), params

    params = make_params()
    start = (params, chain(jnp.int32(0)).init(params), jnp.int32(0))
    return jax.lax.scan(one, start, gradients)[1]


def run_optax(chain: optax.GradientTransformation, gradients: Any = None) -> Any:
    params = make_params()
    state, out = chain.init(params), []
    update = jax.jit(chain.update)
    for gradient in gradients or make_gradients():
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        out.append(params)
    return jax.tree.map(lambda *p: np.stack(p), *out)


def assert_close(found: Any, expected: Any) -> None:
    """Float32 rounds `1 - b2` where Optax has a Python number: 6e-5 of 1e-3."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def printed(config: dict[str, Any]) -> optax.GradientTransformation:
    text = optimizers.to_optax(config, STEPS_PER_EPOCH, NUM_EPOCHS)
    return eval(text, {"optax": optax, "jax": jax, "jnp": jnp})


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"learning_rate": 0.01},
    "all": {
        "learning_rate": 0.02,
        "l1": 0.01,
        "l2": 0.03,
        "clip_value": 1.5,
        "clip_norm": 2.0,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup_fraction": 0.2,
        "momentum": 0.8,
        "b1": 0.8,
        "b2": 0.95,
        "eps": 1e-3,
    },
    "biases too": {
        "learning_rate": 0.02,
        "l1": 0.01,
        "l2": 0.03,
        "weight_decay": 0.1,
        "penalize_biases": True,
        "schedule": "step",
    },
    "clipped to the weights": {"learning_rate": 0.02, "agc": 0.05, "l2": 0.03},
    "clipped to what was before": {"learning_rate": 0.02, "adagc": 1.05, "clip_norm": 5.0},
    "clipped value": {"clip_value": 0.3, "schedule": "one_cycle"},
    "clipped norm": {"clip_norm": 0.3, "schedule": "inverse_sqrt", "warmup_fraction": 0.3},
}


@each_optimizer
@pytest.mark.parametrize("variant", VARIANTS)
def test_build_makes_the_updates_of_the_printed_optax_code(name: str, variant: str) -> None:
    config = complete({**VARIANTS[variant], "optimizer": name})
    assert_close(run_ours(config), run_optax(printed(config)))


@each_optimizer
def test_a_feature_that_is_off_may_be_left_out(name: str) -> None:
    config = complete({"optimizer": name, "weight_decay": 0.1})
    needed = features_of({k: [v] for k, v in config.items()})
    assert needed == {"weight_decay"}
    assert_close(run_ours(config, needed), run_ours(config))


OPTAX_OWN = {
    "sgd": lambda: optax.sgd(0.01),
    "momentum": lambda: optax.sgd(0.01, momentum=0.9),
    "nesterov": lambda: optax.sgd(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.01, b1=0.9, b2=0.999, eps=1e-8),
    "adamw": lambda: optax.adamw(0.01, weight_decay=0.05),
    "rmsprop": lambda: optax.rmsprop(0.01, decay=0.999, eps=1e-8),
    "lion": lambda: optax.lion(0.01, b1=0.9, b2=0.999, weight_decay=0.05),
}


@each_optimizer
def test_the_defaults_are_optax_own_optimizer(name: str) -> None:
    decay = 0.05 if name in ("adamw", "lion") else 0.0
    config = complete(
        {
            "optimizer": name,
            "learning_rate": 0.01,
            "weight_decay": decay,
            "penalize_biases": True,
        }
    )
    assert_close(run_ours(config), run_optax(OPTAX_OWN[name]()))


def test_adam_ignores_weight_decay_and_adamw_does_not() -> None:
    def final(name: str, decay: float) -> Any:
        return run_ours(complete({"optimizer": name, "weight_decay": decay, "learning_rate": 0.1}))

    assert_close(final("adam", 0.5), final("adam", 0.0))
    with pytest.raises(AssertionError):
        assert_close(final("adamw", 0.5), final("adamw", 0.0))


def test_penalties_leave_biases_alone_unless_asked() -> None:
    zeros = [jax.tree.map(jnp.zeros_like, make_params())] * NUM_STEPS
    values = {"optimizer": "sgd", "learning_rate": 0.1, "l1": 0.1, "l2": 0.1, "weight_decay": 0.1}
    start = make_params()["output"]
    for biases in (False, True):
        end = run_ours(complete({**values, "penalize_biases": biases}), gradients=zeros)["output"]
        assert np.array_equal(end["bias"][-1], start["bias"]) == (not biases)
        assert not np.array_equal(end["kernel"][-1], start["kernel"])


@each_optimizer
def test_large_gradients_and_many_steps_stay_finite(name: str) -> None:
    config = complete({**VARIANTS["all"], "optimizer": name})
    for scale in (0.0, 1e-12, 1e12):
        end = run_ours(config, gradients=make_gradients(scale))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))


def test_new_values_never_retrace() -> None:
    for name, (rate, decay) in itertools.product(OPTIMIZERS, [(0.1, 0.0), (0.2, 0.3)]):
        run_ours(complete({"optimizer": name, "learning_rate": rate, "weight_decay": decay}))
        run_ours(complete({"optimizer": name, "schedule": "linear", "clip_norm": math.inf}))
    assert set(NUM_TRACES.values()) == {1}


def test_the_shape_of_the_state_depends_on_no_value() -> None:
    params = make_params()
    for name in OPTIMIZERS:
        shapes = []
        for values in ({}, VARIANTS["all"]):
            hparams = traced(complete({**values, "optimizer": name}))
            hparams = {k: jnp.asarray(v) for k, v in hparams.items()}
            shapes.append(optimizers.build([name], hparams, ALL, 1.0).init(params))
        assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])


def test_printed_plateau_reduces_on_the_losses_it_is_given() -> None:
    values = {"schedule": "reduce_on_plateau", "plateau_patience": 2, "optimizer": "sgd"}
    chain = optax.with_extra_args_support(printed(complete({**values, "learning_rate": 1.0})))
    params = make_params()
    state, sizes = chain.init(params), []
    ones = jax.tree.map(jnp.ones_like, params)
    for _ in range(NUM_STEPS):
        updates, state = chain.update(ones, state, params, value=jnp.float32(1.0))
        sizes.append(-float(updates["output"]["bias"][0]))
    reduced = 3 * STEPS_PER_EPOCH - 1
    np.testing.assert_allclose(sizes, [1.0] * reduced + [0.2] * (NUM_STEPS - reduced), rtol=1e-6)
