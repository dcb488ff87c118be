"""The loss at the best temperature: what it is, which epoch it keeps, where it cannot be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

import jaxopt_lab as lab
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.datasets import load_table
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.calibrated import TEMPERATURES, calibrated_loss
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import classification, lay_out, weighted
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.tabular.temperatures import tempered
from jaxopt_lab.tuning import calibration

ROWS, TRAIN = 240, 160
SHARP = {"learning_rate": 0.005, "hidden_size": 64, "num_layers": 2, "optimizer": "adam"}
KEEP = {"early_stopping": True, "early_stopping_patience": 100}
CALIBRATED = {**KEEP, "early_stopping_monitor": "calibrated_loss"}


def drawn(sure: float, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too large by a factor, and classes."""
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((rows, 3))
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (rng.random((rows, 1)) > np.cumsum(chance, axis=1)).sum(axis=1)
    return (sure * logits).astype(np.float32), truth.astype(np.int32)


@pytest.mark.parametrize("sure", [0.5, 1.0, 2.6, 6.0])
def test_it_is_the_log_loss_after_the_best_temperature(sure: float) -> None:
    logits, truth = drawn(sure)
    whole = np.concatenate([logits, np.full((12, 3), 1e3, np.float32)])
    targets = np.concatenate([truth, np.zeros(12, np.int32)])
    mask = jnp.arange(512) < 500
    loss = classification(3).loss
    found = float(calibrated_loss(loss, jnp.asarray(whole), jnp.asarray(targets), mask))
    chance = softmax(logits.astype(np.float64), axis=1)
    counts = np.ones(len(truth))
    fitted = max(calibration.fit(chance, truth, counts), TEMPERATURES[0])
    at = tempered(chance, fitted)[np.arange(len(truth)), truth]
    assert found == pytest.approx(float(-np.log(at).mean()), rel=2e-3)
    assert found >= float(-np.log(at).mean()) - 1e-5


def test_weights_of_rows_count() -> None:
    logits, truth = drawn(3.0, 100)
    twice = np.arange(100) < 40
    weights = np.where(twice, 2.0, 1.0)
    weights /= weights.mean()
    criterion = weighted(classification(3))
    targets = np.column_stack([truth, weights]).astype(np.float32)
    everyone = jnp.ones(100, bool)
    found = calibrated_loss(criterion.loss, jnp.asarray(logits), jnp.asarray(targets), everyone)
    rows = np.concatenate([np.arange(100), np.flatnonzero(twice)])
    plain = classification(3).loss
    again = calibrated_loss(
        plain, jnp.asarray(logits[rows]), jnp.asarray(truth[rows]), jnp.ones(140, bool)
    )
    assert float(found) == pytest.approx(float(again), rel=1e-5)


def arrays_of() -> Any:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(ROWS, 8)).astype(np.float32)
    flipped = rng.random(ROWS) < 0.1
    targets = ((inputs[:, 0] * inputs[:, 1] + inputs[:, 2] > 0) ^ flipped).astype(np.int32)
    rows = np.arange(ROWS)
    return lay_out([inputs], [targets], [(rows[:TRAIN], rows[TRAIN:]), (rows, rows[:0])])


ARRAYS = arrays_of()


def program_of(config: dict[str, Any]) -> Signature:
    features = hyperparameters.features_of({name: [value] for name, value in config.items()})
    shape: dict[str, Any] = {"widths": (64,), "depths": (2,), "block": 0, "activations": ()}
    facts = {"noise_rows": 32, "draw_width": 64, "masked_width": False, "masked_depth": False}
    return Programs(**shape, **facts, features=features).signature(config)


def train(changes: dict[str, Any], fold: int = 0, others: int = 0, epochs: int = 25) -> Result:
    """A trial alone, or with others at higher rates beside it in its cohort of four."""
    config = hyperparameters.complete({**SHARP, **changes})
    program = program_of(config)
    rates = [config["learning_rate"] * (1 + i) for i in range(1 + others)]
    jobs = [
        Job(i, fold, 0, {**config, "learning_rate": rate}, program, epochs, epochs)
        for i, rate in enumerate(rates)
    ]
    client = RowsClient(ARRAYS, classification(2))
    (report,) = Runner(client, 0, {program: 4}, jax.local_devices()[:1]).run(jobs)
    return report.results[0]


def best_of(result: Result) -> int:
    return int(np.flatnonzero(result.curves["keep"])[-1])


def test_the_epoch_with_the_least_calibrated_loss_is_kept() -> None:
    plain, found = train(KEEP), train(CALIBRATED)
    np.testing.assert_array_equal(plain.curves["loss"], found.curves["loss"])
    calibrated = found.curves["calibrated_loss"]
    assert "calibrated_loss" not in plain.curves
    assert best_of(found) == int(np.argmin(calibrated))
    assert best_of(plain) == int(np.argmin(plain.curves["loss"]))
    assert best_of(found) > best_of(plain), "which class is likelier is learnt for longer"
    outputs = np.asarray(found.info["outputs"])[: ROWS - TRAIN]
    targets, rows = jnp.asarray(ARRAYS.targets[0][TRAIN:ROWS]), jnp.ones(ROWS - TRAIN, bool)
    again = calibrated_loss(classification(2).loss, jnp.asarray(outputs), targets, rows)
    assert float(again) == pytest.approx(calibrated[best_of(found)], rel=1e-5)


def test_company_changes_nothing() -> None:
    alone, together = train(CALIBRATED), train(CALIBRATED, others=3)
    for name, curve in alone.curves.items():
        np.testing.assert_array_equal(curve, together.curves[name])
    jax.tree.map(np.testing.assert_array_equal, alone.params, together.params)


def test_a_network_that_diverged_has_none() -> None:
    found = train({**CALIBRATED, "learning_rate": 1e30}, epochs=3)
    assert np.isnan(found.curves["calibrated_loss"]).all()
    assert int(found.info["diverged_at"]) >= 0


def test_a_refit_keeps_its_last_epoch() -> None:
    found = train({**CALIBRATED, "early_stopping_patience": 1}, fold=1, epochs=6)
    assert found.curves["keep"].all()


def test_numbers_have_none(houses: Any) -> None:
    task = lab.tasks.tabular(load_table(houses, target="price"))
    with pytest.raises(UserError, match="calibrated_loss is of classes, and 'price' is a number"):
        task.check(lab.SearchSpace(early_stopping_monitor="calibrated_loss"))
