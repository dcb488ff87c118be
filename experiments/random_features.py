"""Regression on random Fourier features: 64 whole trainings x 4 seeds as one compiled program.

The smallest way in: a pure function of one trial that trains from its first step to its last. What
it names by keyword is static, everything in `hparams` is traced; the curve it returns is kept.

    python experiments/random_features.py [--trials N] [--out DIR]

The last line printed is JSON: `best_loss` is the validation error of the best configuration, mean
over seeds; guessing the mean has 1.

Source: Rahimi & Recht 2007.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jaxopt_lab as lab

NUM_ROWS, NUM_VALID, NUM_STEPS, NOISE = 200, 400, 300, 0.1


def target_of(x: jax.Array) -> jax.Array:
    """A made-up function of two inputs, slow in one and fast in the other; variance about 1."""
    return jnp.sin(2 * x[:, 0]) + jnp.cos(5 * x[:, 1]) * x[:, 0]


def train(key: jax.Array, hparams: Any, *, num_units: int = 32) -> dict[str, jax.Array]:
    """Fit a ridge regression on `num_units` random features by gradient descent.

    The key draws the data, too, so that the spread over seeds is the whole noise of an experiment.
    """
    rows_key, noise_key, waves_key, phases_key = jax.random.split(key, 4)
    x = jax.random.uniform(rows_key, (NUM_ROWS + NUM_VALID, 2), minval=-2.0, maxval=2.0)
    y = target_of(x) + NOISE * jax.random.normal(noise_key, (len(x),))

    waves = jax.random.normal(waves_key, (2, num_units)) / hparams["length_scale"]
    phases = jax.random.uniform(phases_key, (num_units,), maxval=2 * jnp.pi)
    features = jnp.cos(x @ waves + phases) * (2 / num_units) ** 0.5
    seen, unseen = slice(None, NUM_ROWS), slice(NUM_ROWS, None)

    def error(weights: jax.Array, rows: slice) -> jax.Array:
        return jnp.mean((features[rows] @ weights - y[rows]) ** 2)

    def loss_of(weights: jax.Array) -> jax.Array:
        return error(weights, seen) + hparams["l2"] * jnp.sum(weights**2)

    def step(carry: Any, _: None) -> Any:
        weights, speed = carry
        speed = hparams["momentum"] * speed - hparams["learning_rate"] * jax.grad(loss_of)(weights)
        return (weights + speed, speed), error(weights, unseen)

    start = jnp.zeros(num_units), jnp.zeros(num_units)
    (weights, _), curve = jax.lax.scan(step, start, length=NUM_STEPS)
    return {"loss": error(weights, unseen), "curve": curve}


SPACE = {
    "learning_rate": lab.LogUniform(1e-2, 1.0),
    "momentum": lab.Uniform(0.5, 0.99),
    "length_scale": lab.LogUniform(0.1, 2.0),
    "l2": lab.LogUniform(1e-7, 1e-2),
    "num_units": lab.Choice([32, 128]),
}
problem = lab.from_function(train, objective="loss", num_seeds=4)
space = lab.SearchSpace(**SPACE)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    arguments = parse(argv)
    lab.use_all_cores()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.out or scratch
        with lab.Study(problem, space, directory=directory, seed=0) as study:
            study.optimize(lab.search.random(), num_trials=arguments.trials)
            print(study.trials.sort_values("score").head(8).to_string(index=False))
            best, curves = study.best, study.metrics("curve")

    # Of each seed of the best trial: how far the error had come after a tenth of the training.
    early = curves[best.trial_id, :, NUM_STEPS // 10]
    print(f"trial {best.trial_id}: errors after {NUM_STEPS // 10} steps {early.round(3)}")
    result = {
        "best_loss": best.score,
        "standard_error": best.standard_error,
        "hyperparameters": best.hyperparameters,
        "curves": list(curves.shape),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(result))
    return result


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=64, help="configurations")
    parser.add_argument("--out", help="keep the study in this directory")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
