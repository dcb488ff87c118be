"""Tune a network on each of the 20 published splits of the concrete data, and compare.

Each split is tuned on its own 90 % alone: cross-validation inside it chooses hyperparameters,
ensemble and all; the other 10 % are predicted once, at the end.

    python experiments/concrete_splits.py [PATH] [--splits S] [--trials N] [--ensemble all]

The last line printed is JSON: `mean_rmse` is the ensemble's.

Source: splits of Hernandez-Lobato & Adams 2015 (arXiv:1502.05336) as used by Gal & Ghahramani
2016 (arXiv:1506.02142), whose table is quoted; data by Yeh 1998 (UCI, CC BY 4.0).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import jaxopt_lab as lab
from jaxopt_lab import datasets
from jaxopt_lab.tuning import tune
from jaxopt_lab.tuning.settings import Settings

PUBLISHED = [
    ("probabilistic backpropagation", 5.67, 0.09),
    ("standard dropout", 5.45, 0.19),
    ("MC dropout", 5.23, 0.12),
    ("MC dropout, 100x epochs", 4.83, 0.17),
    ("gradient boosting (scikit-learn)", 4.10, 0.13),
]


class Score(NamedTuple):
    """Test rmse of one split, in MPa."""

    single: float
    ensemble: float


def published_splits(num_rows: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The 20 splits, from one generator."""
    generator = np.random.RandomState(1)
    end = round(num_rows * 0.9)
    orders = [generator.choice(num_rows, num_rows, replace=False) for _ in range(20)]
    return [(order[:end], order[end:]) for order in orders]


def tune_split(
    table: datasets.Table, rows: tuple[np.ndarray, np.ndarray], args: argparse.Namespace
) -> Score:
    """Tune on the training rows of one split; score its test rows once."""
    train, test = table.take(rows[0]), table.take(rows[1])
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            trials=args.trials,
            folds=args.folds,
            epochs=args.epochs,
            seed=args.seed,
            test_fraction=0,
            ensemble=args.ensemble,
        )
        tune.run(train, settings, folder, say=lambda line: None)
        predictor = lab.Predictor.load(Path(folder) / "model")
    errors = {
        single: predictor.predict(test.frame, single=single) - test.target
        for single in (True, False)
    }
    rmse = {single: float(np.sqrt(np.mean(error**2))) for single, error in errors.items()}
    return Score(single=rmse[True], ensemble=rmse[False])


def main() -> None:
    args = parse()
    lab.use_all_cores()
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    table = datasets.load_table(args.path, target="compressive_strength")
    started, scores = time.monotonic(), []
    for number, rows in enumerate(published_splits(len(table))[: args.splits]):
        scores.append(tune_split(table, rows, args))
        seconds = time.monotonic() - started
        print(
            f"split {number:2d}: single {scores[-1].single:.2f}, "
            f"ensemble {scores[-1].ensemble:.2f} MPa ({seconds:.0f} s)",
            flush=True,
        )
    ensemble = np.array([s.ensemble for s in scores])
    error = float(ensemble.std(ddof=1) / np.sqrt(len(ensemble))) if len(ensemble) > 1 else 0.0
    print("\ntest rmse over the splits, MPa")
    rows_ = [*PUBLISHED, ("jaxopt_lab, ensemble", float(ensemble.mean()), error)]
    for name, mean, spread in sorted(rows_, key=lambda row: -row[1]):
        print(f"  {name:34s} {mean:5.2f} ± {spread:.2f}")
    result = {
        "mean_rmse": float(ensemble.mean()),
        "standard_error": error,
        "single_mean_rmse": float(np.mean([s.single for s in scores])),
    }
    print(json.dumps(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(__file__).parent.parent.parent / "shared" / "data" / "concrete.csv.gz"
    parser.add_argument("path", nargs="?", default=default, help="the table, as CSV")
    parser.add_argument("--splits", type=int, default=20, help="only the first of them")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ensemble", choices=("networks", "all"), default="networks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
