"""Schedules of traced numbers: Optax's values, in one program for all of them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.tracing.explain import TRACEABLE_SCHEDULES

COUNTS = jnp.arange(0, 50)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("linear_schedule", {"init_value": 0.1, "end_value": 1.0, "transition_steps": 20}),
    (
        "linear_schedule",
        {"init_value": 1.0, "end_value": 0.1, "transition_steps": 7, "transition_begin": 5},
    ),
    ("linear_schedule", {"init_value": 1.0, "end_value": 0.1, "transition_steps": 0}),
    (
        "polynomial_schedule",
        {"init_value": 1.0, "end_value": 0.1, "power": 2.5, "transition_steps": 30},
    ),
    (
        "polynomial_schedule",
        {
            "init_value": 1.0,
            "end_value": 0.1,
            "power": 2.0,
            "transition_steps": 30,
            "transition_begin": -3,
        },
    ),
    ("cosine_decay_schedule", {"init_value": 0.3, "decay_steps": 40}),
    (
        "cosine_decay_schedule",
        {"init_value": 0.3, "decay_steps": 33, "alpha": 0.1, "exponent": 1.5},
    ),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 10, "decay_rate": 0.5}),
    (
        "exponential_decay",
        {
            "init_value": 0.3,
            "transition_steps": 10,
            "decay_rate": 0.5,
            "transition_begin": 4,
            "end_value": 0.1,
        },
    ),
    (
        "exponential_decay",
        {"init_value": 0.3, "transition_steps": 10, "decay_rate": 1.7, "end_value": 0.9},
    ),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 0, "decay_rate": 0.5}),
    (
        "exponential_decay",
        {"init_value": 0.3, "transition_steps": 5, "decay_rate": 0.0, "end_value": 0.5},
    ),
    (
        "warmup_cosine_decay_schedule",
        {"init_value": 0.0, "peak_value": 0.2, "warmup_steps": 8, "decay_steps": 40},
    ),
    (
        "warmup_cosine_decay_schedule",
        {
            "init_value": 0.0,
            "peak_value": 0.2,
            "warmup_steps": 0,
            "decay_steps": 40,
            "end_value": 0.02,
            "exponent": 2.0,
        },
    ),
    (
        "warmup_cosine_decay_schedule",
        {"init_value": 0.1, "peak_value": 0.0, "warmup_steps": 8, "decay_steps": 40},
    ),
    (
        "warmup_exponential_decay_schedule",
        {
            "init_value": 0.0,
            "peak_value": 0.2,
            "warmup_steps": 8,
            "transition_steps": 10,
            "decay_rate": 0.4,
            "end_value": 0.01,
        },
    ),
    ("cosine_onecycle_schedule", {"transition_steps": 40, "peak_value": 0.5}),
    (
        "cosine_onecycle_schedule",
        {
            "transition_steps": 33,
            "peak_value": 0.5,
            "pct_start": 0.47,
            "div_factor": 10.0,
            "final_div_factor": 50.0,
        },
    ),
]


@pytest.mark.parametrize(("name", "numbers"), CASES)
def test_values_are_optaxs_with_every_number_traced(name: str, numbers: dict[str, Any]) -> None:
    wanted = np.array([getattr(optax, name)(**numbers)(count) for count in COUNTS])
    ours = getattr(lab.schedules, name)

    traces = []

    @jax.jit
    def traced(numbers: Any) -> Any:
        traces.append(name)
        return jax.vmap(ours(**numbers))(COUNTS)

    np.testing.assert_allclose(traced(numbers), wanted, rtol=1e-5, atol=1e-7)
    # The same program for numbers where Optax takes another way in Python; no NaN comes of it.
    if name != "cosine_onecycle_schedule":  # which divides by its factors
        assert np.isfinite(traced({key: value * 0 for key, value in numbers.items()})).all()
    assert len(traces) == 1


def test_a_staircase_is_optaxs() -> None:
    numbers = {"init_value": 0.3, "transition_steps": 10, "decay_rate": 0.5, "staircase": True}
    wanted = np.array([optax.exponential_decay(**numbers)(count) for count in COUNTS])
    ours = jax.vmap(lab.schedules.exponential_decay(**numbers))(COUNTS)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_every_schedule_is_named_where_optaxs_fails() -> None:
    assert set(lab.schedules.__all__) == TRACEABLE_SCHEDULES
    assert all(hasattr(optax, name) for name in TRACEABLE_SCHEDULES)


def problem(optimizer: Any) -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    return lab.supervised(
        nn.Dense(2),
        (x, (x[:, 0] > 0).astype(np.int32)),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optimizer,
        splits=2,
        batch_size=16,
    )


SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 1e-1), warmup_fraction=lab.Uniform(0.0, 0.5)
)


def test_peak_and_warm_up_can_be_searched() -> None:
    def optimizer(hparams: Any, total_steps: Any) -> optax.GradientTransformation:
        warmup = hparams.warmup_fraction * total_steps
        return optax.adam(
            lab.schedules.warmup_cosine_decay_schedule(
                0.0, hparams.learning_rate, warmup, total_steps
            )
        )

    study = lab.Study(problem(optimizer), SPACE)
    study.optimize("random", num_trials=4, budget=3)
    assert (study.trials["status"] == "completed").all()
    assert study.trials["score"].nunique() == 4


@pytest.mark.parametrize(
    ("schedule", "mend"),
    [
        (optax.cosine_decay_schedule, r"use lab\.schedules\.cosine_decay_schedule"),
        (
            lambda rate, steps: optax.warmup_cosine_decay_schedule(0.0, rate, 2, steps),
            r"optax\.warmup_cosine_decay_schedule .*test_traced_schedules\.py, line \d+",
        ),
        (
            lambda rate, steps: optax.cosine_onecycle_schedule(20, 1.0, rate),
            r"use lab\.schedules\.cosine_onecycle_schedule",
        ),
        (
            lambda rate, steps: optax.piecewise_constant_schedule(1.0, {5: rate}),
            r"optax\.piecewise_constant_schedule .* write the schedule as a function",
        ),
    ],
)
def test_optaxs_own_are_answered_with_the_mend(schedule: Any, mend: str) -> None:
    def optimizer(hparams: Any, total_steps: Any) -> optax.GradientTransformation:
        return optax.adam(schedule(hparams.learning_rate, total_steps))

    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1))
    with pytest.raises(UserError, match=mend):
        lab.Study(problem(optimizer), space)
