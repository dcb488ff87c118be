"""What is observed is true, and observing changes no trial."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.problems.mlp import observation
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import lay_out, regression
from jaxopt_lab.problems.mlp.hyperparameters import complete, features_of
from jaxopt_lab.problems.mlp.observation import BINS_PER_DECADE, NUM_BINS
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.mlp.trainer import Batch, TrainState

TRAIN, VALID, EPOCHS = 96, 40, 3
BASE = complete(
    {"hidden_size": 6, "num_layers": 2, "activation": "tanh", "clip_norm": 0.5, "batch_size": 16}
)
FEATURES = features_of({k: [v] for k, v in BASE.items()})
EXACT = Programs((6,), (2,), 0, (), 16, 6, FEATURES, False, False).signature(BASE)


def train(signature: Signature = EXACT, evaluations: int = 1, probe: Any = None) -> Result:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(TRAIN + VALID, 4)).astype(np.float32)
    targets = np.sin(2 * inputs[:, 0]).astype(np.float32)
    rows = np.arange(TRAIN + VALID)
    arrays = lay_out([inputs], [targets], [(rows[:TRAIN], rows[TRAIN:]), (rows, rows[:0])])
    devices = jax.local_devices()[:1]
    runner = Runner(
        RowsClient(arrays, regression(), evaluations=evaluations), 0, {signature: 2}, devices
    )
    jobs = [Job(7, 0, 0, BASE, signature, EPOCHS, EPOCHS, twin=0)]
    (report,) = runner.run(jobs, probe=probe)
    return report.results[0]


@pytest.fixture(scope="module")
def plain() -> Result:
    return train()


@pytest.fixture(scope="module")
def observed() -> Result:
    return train(replace(EXACT, observe=True), evaluations=3)


def test_observing_changes_nothing(plain: Result, observed: Result) -> None:
    np.testing.assert_allclose(observed.curves["loss"][2::3], plain.curves["loss"], rtol=1e-6)
    thirds = observed.curves["train_loss"].reshape(EPOCHS, 3).mean(1)
    np.testing.assert_allclose(thirds, plain.curves["train_loss"], rtol=1e-5)
    assert "gradient_norm" not in plain.curves


def test_observations_are_per_update(observed: Result) -> None:
    curves = observed.curves
    np.testing.assert_array_equal(curves["num_updates"], TRAIN / 16 / 3)
    assert curves["norm_counts"].shape == (EPOCHS * 3, NUM_BINS)
    np.testing.assert_array_equal(curves["norm_counts"].sum(1), curves["num_updates"])
    mean = curves["gradient_norm"] / curves["num_updates"]
    counts = curves["norm_counts"].sum(0)
    middle = np.sqrt(observation.norm_edges()[1:] * observation.norm_edges()[:-1])
    np.testing.assert_allclose((counts * middle).sum() / counts.sum(), mean.mean(), rtol=0.2)
    above = counts[middle > 0.5 * 10 ** (1 / BINS_PER_DECADE)].sum() / counts.sum()
    assert above <= (curves["clipped"].sum() / curves["num_updates"].sum()) <= above + 0.25


@pytest.mark.slow
def test_blocks_are_observed_once_per_update(observed: Result) -> None:
    found = train(replace(EXACT, observe=True, block=8, noise_rows=8, accumulate=True), 3)
    for name in ("num_updates", "gradient_norm", "update_ratio", "clipped"):
        np.testing.assert_allclose(found.curves[name], observed.curves[name], rtol=1e-4)


def test_resamples_have_the_standard_error_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    losses = rng.exponential(size=4000).astype(np.float32)
    coins = rng.integers(0, 2**32, 4000, dtype=np.uint32)
    found = np.asarray(observation.resampled(jnp.asarray(losses), jnp.asarray(coins))) / 4000
    error = float(np.sqrt(np.mean(losses**2) / 4000))
    assert found.mean() == pytest.approx(losses.mean(), abs=error)
    assert found.std() == pytest.approx(error, rel=0.4)


def test_resampled_curves_lie_around_the_curve(observed: Result) -> None:
    resampled, loss = observed.curves["resampled_loss"], observed.curves["loss"]
    assert resampled.shape == (EPOCHS * 3, observation.NUM_RESAMPLES)
    assert (resampled.min(1) < loss).all()
    assert (resampled.max(1) > loss).all()


def test_an_infinite_gradient_counts_in_the_highest_bin() -> None:
    off = {"clip_norm": jnp.asarray(jnp.inf), "clip_value": jnp.asarray(jnp.inf)}
    for size, index in ((jnp.inf, NUM_BINS - 1), (jnp.nan, NUM_BINS - 1), (0.0, 0), (1.01, 48)):
        gradient = {"w": jnp.asarray([size])}
        one = {"w": jnp.ones(1)}
        found = observation.of_update(gradient, one, one, off)
        assert int(found["norm_counts"].argmax()) == index
        assert found["clipped"] == 0.0


def test_a_probe_sees_the_trained_state(plain: Result) -> None:
    def make(signature: Signature) -> Any:
        def probe(state: TrainState, hparams: dict[str, Any], batch: Batch) -> dict[str, Any]:
            return {
                "step": state.step,
                "bias": state.params["output"]["bias"],
                "rows": batch.mask.sum(),
            }

        return probe

    found = train(probe=make)
    assert found.probed["step"] == EPOCHS * TRAIN / 16
    assert found.probed["rows"] == TRAIN
    np.testing.assert_array_equal(found.probed["bias"], plain.params["output"]["bias"])
    assert plain.probed == {}
