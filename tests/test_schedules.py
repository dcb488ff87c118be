"""Schedules against the printed Optax code; reduce-on-plateau against Keras' documented rules."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jaxopt_lab.problems.mlp import schedules
from jaxopt_lab.problems.mlp.hyperparameters import SCHEDULES, complete, traced

NUM_TRACES = {"multiplier": 0, "plateau": 0}


@jax.jit
def rates(hparams: dict[str, jax.Array], steps: jax.Array, total: jax.Array) -> jax.Array:
    """Learning rate at every step."""
    NUM_TRACES["multiplier"] += 1
    one = partial(schedules.multiplier, hparams, total_steps=total)
    return hparams["learning_rate"] * jax.vmap(one)(steps)


LONGEST = 301
STEPS = jnp.arange(LONGEST, dtype=jnp.int32)


def ours(config: dict[str, Any], total: int) -> np.ndarray:
    hparams = {k: jnp.asarray(v) for k, v in traced(config).items()}
    return np.asarray(rates(hparams, STEPS, jnp.float32(total)))[:total]


def printed(config: dict[str, Any], total: int) -> np.ndarray:
    schedule = eval(schedules.to_optax(config, total), {"optax": optax, "jnp": jnp})
    return np.broadcast_to(np.asarray(schedule(STEPS[:total]), np.float64), (total,))


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("total", [1, 2, 7, 60, LONGEST])
def test_every_step_is_what_the_printed_optax_schedule_gives(
    kind: str, warmup: float, total: int
) -> None:
    config = complete({"schedule": kind, "warmup_fraction": warmup, "learning_rate": 0.02})
    expected = printed(config, total)
    np.testing.assert_allclose(ours(config, total), expected, rtol=2e-5, atol=2e-9)
    if warmup * total >= 1:
        warm = round(warmup * total)
        assert ours(config, total)[warm - 1] == pytest.approx(0.02)
        assert ours(config, total)[0] == pytest.approx(0.02 / warm)


CONFIGS = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(SCHEDULES),
        "learning_rate": st.floats(1e-5, 1.0),
        "warmup_fraction": st.floats(0.0, 0.9),
        "final_fraction": st.floats(0.0, 1.0),
        "decay_factor": st.floats(0.05, 1.0),
        "decay_every": st.floats(0.01, 1.0),
        "peak_fraction": st.floats(0.05, 0.95),
    }
)


@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
@given(CONFIGS, st.integers(1, LONGEST))
def test_values_of_all_parameters_agree_with_optax(config: dict[str, Any], total: int) -> None:
    full = complete(config)
    found, expected = ours(full, total), printed(full, total)
    np.testing.assert_allclose(found, expected, rtol=3e-4, atol=1e-5 * config["learning_rate"])
    assert np.all(found >= 0)
    assert np.all(found <= config["learning_rate"] * (1 + 1e-6))


def test_schedules_begin_and_end_where_they_say() -> None:
    last = {}
    for kind in SCHEDULES:
        config = complete({"schedule": kind, "learning_rate": 1.0, "final_fraction": 0.1})
        curve = ours(config, LONGEST)
        assert curve[0] == pytest.approx(schedules.ONE_CYCLE_START if kind == "one_cycle" else 1.0)
        last[kind] = curve[-1]
    assert last["constant"] == last["reduce_on_plateau"] == 1.0
    assert last["step"] == pytest.approx(0.5**4)  # drops after 75, 150, 225 and 300 steps
    assert last["inverse_sqrt"] == pytest.approx(1 / math.sqrt(LONGEST - 1))
    for kind in ("cosine", "linear", "exponential", "one_cycle"):
        assert last[kind] == pytest.approx(0.1, abs=5e-3)


def test_new_values_kinds_and_budgets_never_retrace() -> None:
    ours(complete({}), 10)
    before = NUM_TRACES["multiplier"]
    for i, kind in enumerate(SCHEDULES):
        ours(complete({"schedule": kind, "learning_rate": 0.1 + i, "warmup_fraction": 0.2}), 20 + i)
    assert NUM_TRACES["multiplier"] == before


def documented_rules(
    losses: list[float], factor: float, patience: int, cooldown: int, delta: float, floor: float
) -> list[float]:
    """Scale after each epoch by the documented rules of Keras' ReduceLROnPlateau, mode "min".

    "factor: new_lr = lr * factor. patience: number of epochs with no improvement after which
    learning rate will be reduced. min_delta: threshold for measuring the new optimum. cooldown:
    number of epochs to wait before resuming normal operation after the learning rate has been
    reduced. min_lr: lower bound on the learning rate."
    """
    scale, best, bad, waiting, scales = 1.0, math.inf, 0, 0, []
    for loss in losses:
        improved = loss < np.float32(np.float32(best) - np.float32(delta))
        if improved:
            best, bad = loss, 0
        if waiting:
            waiting, bad = waiting - 1, 0
        elif not improved:
            bad += 1
            if bad >= patience and scale > floor:
                scale, bad, waiting = max(scale * factor, floor), 0, cooldown
        scales.append(scale)
    return scales


@jax.jit
def plateau_scales(hparams: dict[str, jax.Array], losses: jax.Array) -> jax.Array:
    """Scale after each epoch."""
    NUM_TRACES["plateau"] += 1

    def epoch(state: schedules.PlateauState, loss: jax.Array) -> Any:
        state = schedules.plateau_update(state, hparams, loss)
        return state, state.scale

    return jax.lax.scan(epoch, schedules.plateau_init(), losses)[1]


NUM_EPOCHS = 30
LOSSES = st.lists(
    st.one_of(
        st.sampled_from([1.0, 0.99995, 0.9, 0.5, math.nan, math.inf, -1.0]),
        st.floats(-2, 2, width=32),
    ),
    min_size=NUM_EPOCHS,
    max_size=NUM_EPOCHS,
)
PLATEAU = st.fixed_dictionaries(
    {
        "plateau_factor": st.floats(0.1, 0.9),
        "plateau_patience": st.integers(1, 4),
        "plateau_cooldown": st.integers(0, 4),
        "plateau_min_delta": st.sampled_from([0.0, 1e-4, 0.1]),
        "plateau_floor": st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    }
)


@settings(max_examples=300, phases=[Phase.explicit, Phase.generate])
@given(LOSSES, PLATEAU)
def test_plateau_follows_keras_documented_rules(
    losses: list[float], values: dict[str, Any]
) -> None:
    hparams = {k: jnp.asarray(v) for k, v in traced(complete(values)).items()}
    found = plateau_scales(hparams, jnp.asarray(losses, jnp.float32))
    expected = documented_rules(
        losses,
        values["plateau_factor"],
        values["plateau_patience"],
        values["plateau_cooldown"],
        values["plateau_min_delta"],
        values["plateau_floor"],
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert NUM_TRACES["plateau"] == 1


@settings(max_examples=12, phases=[Phase.explicit, Phase.generate])
@given(LOSSES, PLATEAU.filter(lambda p: p["plateau_min_delta"] > 0))
def test_plateau_agrees_with_optax_fed_once_per_epoch(
    losses: list[float], values: dict[str, Any]
) -> None:
    """Optax never leaves its floor's cooldown; that changes no scale."""
    full = complete(values)
    hparams = {k: jnp.asarray(v) for k, v in traced(full).items()}
    found = plateau_scales(hparams, jnp.asarray(losses, jnp.float32))
    chain = optax.contrib.reduce_on_plateau(
        factor=full["plateau_factor"],
        patience=full["plateau_patience"],
        rtol=0.0,
        atol=full["plateau_min_delta"],
        cooldown=full["plateau_cooldown"],
        min_scale=full["plateau_floor"],
    )

    def epoch(state: Any, loss: jax.Array) -> Any:
        update, state = chain.update(jnp.ones(()), state, value=loss)
        return state, update

    scales = jax.lax.scan(epoch, chain.init(jnp.ones(())), jnp.asarray(losses, jnp.float32))[1]
    np.testing.assert_allclose(found, scales, rtol=1e-5)


@pytest.mark.parametrize(("rows", "batch", "steps"), [(96, 32, 3), (97, 32, 4), (5, 32, 1)])
def test_the_last_smaller_minibatch_counts(rows: int, batch: int, steps: int) -> None:
    assert schedules.steps_per_epoch(rows, batch) == steps
