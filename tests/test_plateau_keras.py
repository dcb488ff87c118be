"""reduce_on_plateau takes the decisions that Keras 3.15.1 took on the same losses.

Recorded with `keras.callbacks.ReduceLROnPlateau` from a rate of 1. Keras counts the last epoch of
its own cooldown, against its documentation: its cooldown of c is c - 1 here.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab.problems.mlp import hyperparameters, schedules

nan = math.nan
LOSSES = {
    "noisy": [
        1.0025,
        0.9067,
        0.848,
        0.7765,
        0.714,
        0.6912,
        0.6767,
        0.6422,
        0.5869,
        0.5573,
        0.5552,
        0.5562,
        0.4989,
        0.5328,
        0.5055,
        0.5102,
        0.5095,
        0.5104,
        0.5219,
        0.532,
        0.5066,
        0.5348,
        0.4928,
        0.5121,
        0.5222,
        0.5052,
        0.4879,
        0.4838,
        0.4927,
        0.5059,
    ],
    "flat": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "nan": [1.0, 0.9, nan, nan, 0.9, 0.9, nan, 0.8, 0.8, 0.8, 0.8, nan, nan, nan, 0.8, 0.8],
    "slow": [
        1.0,
        0.99996,
        0.99992,
        0.99988,
        0.99984,
        0.9998,
        0.99976,
        0.99972,
        0.99968,
        0.99964,
        0.9996,
        0.99956,
        0.99952,
        0.99948,
        0.99944,
        0.9994,
        0.99936,
        0.99932,
        0.99928,
        0.99924,
    ],
    "rising": [
        0.5,
        0.4,
        0.4,
        0.42,
        0.44,
        0.46,
        0.48,
        0.5,
        0.52,
        0.54,
        0.56,
        0.58,
        0.6,
        0.62,
        0.64,
        0.66,
        0.68,
        0.7,
        0.72,
        0.74,
        0.76,
        0.78,
    ],
}
#: Losses, settings of Keras, and (epoch, rate) of each reduction.
RECORDED: list[tuple[str, dict[str, Any], list[tuple[int, float]]]] = [
    (
        "noisy",
        {"factor": 0.5, "patience": 2, "cooldown": 0, "min_delta": 0.0, "min_lr": 0.0},
        [(14, 0.5), (16, 0.25), (18, 0.125), (20, 0.0625), (24, 0.03125), (29, 0.015625)],
    ),
    (
        "noisy",
        {"factor": 0.2, "patience": 3, "cooldown": 0, "min_delta": 0.0001, "min_lr": 0.01},
        [(15, 0.2), (18, 0.04), (21, 0.01)],
    ),
    (
        "noisy",
        {"factor": 0.5, "patience": 2, "cooldown": 3, "min_delta": 0.0001, "min_lr": 0.1},
        [(14, 0.5), (18, 0.25), (24, 0.125), (29, 0.1)],
    ),
    (
        "noisy",
        {"factor": 0.1, "patience": 1, "cooldown": 2, "min_delta": 0.05, "min_lr": 0.001},
        [(5, 0.1), (9, 0.01), (11, 0.001)],
    ),
    (
        "flat",
        {"factor": 0.5, "patience": 2, "cooldown": 0, "min_delta": 0.0, "min_lr": 0.0},
        [(2, 0.5), (4, 0.25), (6, 0.125), (8, 0.0625), (10, 0.03125), (12, 0.015625)],
    ),
    (
        "flat",
        {"factor": 0.2, "patience": 3, "cooldown": 0, "min_delta": 0.0001, "min_lr": 0.01},
        [(3, 0.2), (6, 0.04), (9, 0.01)],
    ),
    (
        "flat",
        {"factor": 0.5, "patience": 2, "cooldown": 3, "min_delta": 0.0001, "min_lr": 0.1},
        [(2, 0.5), (6, 0.25), (10, 0.125)],
    ),
    (
        "flat",
        {"factor": 0.1, "patience": 1, "cooldown": 2, "min_delta": 0.05, "min_lr": 0.001},
        [(1, 0.1), (3, 0.01), (5, 0.001)],
    ),
    (
        "nan",
        {"factor": 0.5, "patience": 2, "cooldown": 0, "min_delta": 0.0, "min_lr": 0.0},
        [(3, 0.5), (5, 0.25), (9, 0.125), (11, 0.0625), (13, 0.03125), (15, 0.015625)],
    ),
    (
        "nan",
        {"factor": 0.2, "patience": 3, "cooldown": 0, "min_delta": 0.0001, "min_lr": 0.01},
        [(4, 0.2), (10, 0.04), (13, 0.01)],
    ),
    (
        "nan",
        {"factor": 0.5, "patience": 2, "cooldown": 3, "min_delta": 0.0001, "min_lr": 0.1},
        [(3, 0.5), (9, 0.25), (13, 0.125)],
    ),
    (
        "nan",
        {"factor": 0.1, "patience": 1, "cooldown": 2, "min_delta": 0.05, "min_lr": 0.001},
        [(2, 0.1), (4, 0.01), (6, 0.001)],
    ),
    ("slow", {"factor": 0.5, "patience": 2, "cooldown": 0, "min_delta": 0.0, "min_lr": 0.0}, []),
    (
        "slow",
        {"factor": 0.5, "patience": 2, "cooldown": 3, "min_delta": 0.0001, "min_lr": 0.1},
        [(2, 0.5), (8, 0.25), (14, 0.125)],
    ),
    (
        "slow",
        {"factor": 0.1, "patience": 1, "cooldown": 2, "min_delta": 0.05, "min_lr": 0.001},
        [(1, 0.1), (3, 0.01), (5, 0.001)],
    ),
    (
        "rising",
        {"factor": 0.5, "patience": 2, "cooldown": 0, "min_delta": 0.0, "min_lr": 0.0},
        [
            (3, 0.5),
            (5, 0.25),
            (7, 0.125),
            (9, 0.0625),
            (11, 0.03125),
            (13, 0.015625),
            (15, 0.0078125),
            (17, 0.0039062),
            (19, 0.0019531),
            (21, 0.0009766),
        ],
    ),
    (
        "rising",
        {"factor": 0.5, "patience": 2, "cooldown": 3, "min_delta": 0.0001, "min_lr": 0.1},
        [(3, 0.5), (7, 0.25), (11, 0.125), (15, 0.1)],
    ),
    (
        "rising",
        {"factor": 0.1, "patience": 1, "cooldown": 2, "min_delta": 0.05, "min_lr": 0.001},
        [(2, 0.1), (4, 0.01), (6, 0.001)],
    ),
]


@pytest.mark.parametrize("rate", [1.0, 0.02])
@pytest.mark.parametrize(("name", "keras", "reductions"), RECORDED)
def test_reductions_are_those_of_keras(
    name: str, keras: dict[str, Any], reductions: list[tuple[int, float]], rate: float
) -> None:
    """With the floor as a share, and as a rate."""
    config = {
        "plateau_factor": keras["factor"],
        "plateau_patience": keras["patience"],
        "plateau_cooldown": max(keras["cooldown"] - 1, 0),
        "plateau_min_delta": keras["min_delta"],
        "learning_rate": rate,
        "plateau_floor": keras["min_lr"] if rate == 1.0 else 0.0,
        "min_lr": 0.0 if rate == 1.0 else keras["min_lr"] * rate,
    }
    values = hyperparameters.traced(hyperparameters.complete(config))
    hparams = {key: jnp.asarray(value) for key, value in values.items()}
    state, scale, found = schedules.plateau_init(), 1.0, []
    update = jax.jit(schedules.plateau_update)
    for epoch, loss in enumerate(LOSSES[name]):
        state = update(state, hparams, jnp.asarray(loss, jnp.float32))
        if float(state.scale) != scale:
            scale = float(state.scale)
            found.append((epoch, scale))
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in reductions]
    np.testing.assert_allclose([r for _, r in found], [r for _, r in reductions], rtol=1e-4)
