"""Across programs a trial may differ by rounding: by no more than one unit in the last place does.

At high rates training is chaotic, so there is no fixed tolerance. The control is the same program
with one initial weight moved by one unit in the last place, eight times another weight.
"""

from dataclasses import replace

import jax
import numpy as np
import pytest
from test_engine import EXACT, each_merge, make_engine

from jaxopt_lab.core.controls import Clock
from jaxopt_lab.core.engine import Engine
from jaxopt_lab.problems.mlp import hyperparameters

EPOCHS = 12
CONFIG = {"learning_rate": 3e-2, "activation": "relu", "num_layers": 2, "hidden_size": 12}
RELU = replace(EXACT, activations=("relu",))


def curves(engine: Engine, moved: bool = False) -> np.ndarray:
    """Validation loss [slot, epoch] of copies of one trial; each slot's own weight is moved."""
    traced = hyperparameters.traced(hyperparameters.complete(CONFIG))
    hparams = {k: np.repeat(v[None], engine.num_slots) for k, v in traced.items()}
    hparams["total_steps"] = np.full(engine.num_slots, 60.0, np.float32)
    zero = np.zeros(len(engine.devices), np.int32)
    clock = Clock(zero, zero, zero, zero + EPOCHS, zero + EPOCHS, (zero + 1, zero + 2))
    wave = engine.init(np.zeros(engine.num_slots, np.int32), clock, hparams)
    if moved:
        params = jax.tree.map(np.array, wave.train.params)
        kernel = params["hidden_0"]["kernel"]
        for slot in range(engine.num_slots):
            kernel[slot, slot % 5, slot] = np.nextafter(kernel[slot, slot % 5, slot], np.float32(9))
        sharding = jax.tree.map(lambda leaf: leaf.sharding, wave.train.params)
        wave = wave._replace(train=wave.train._replace(params=jax.device_put(params, sharding)))
    found = engine.advance(wave, clock, hparams)[1].metrics["loss"]
    return np.asarray(found)[:, :EPOCHS]


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest relative difference so far, per epoch."""
    return np.maximum.accumulate(np.abs(a / b - 1.0), axis=-1)


@pytest.fixture(scope="module")
def exact() -> Engine:
    return make_engine(RELU)


@each_merge
def test_a_merge_differs_no_more_than_one_ulp_does(exact: Engine, changes: dict) -> None:
    alone = curves(exact)[0]
    control = apart(curves(exact, moved=True), alone).max(axis=0)
    assert 1e-7 < control[-1] < 1.0
    merged = apart(curves(make_engine(replace(RELU, **changes)))[0], alone)
    assert (merged <= 10.0 * control + 1e-6).all(), (merged, control)


def test_a_leak_between_trials_would_be_seen(exact: Engine) -> None:
    """The same measure tells another trial, one per cent away in its rate, from this one."""
    alone = curves(exact)[0]
    control = apart(curves(exact, moved=True), alone).max(axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIG, "learning_rate", CONFIG["learning_rate"] * 1.01)
        other = apart(curves(exact)[0], alone)
    assert (other > 10.0 * control + 1e-6).any()
